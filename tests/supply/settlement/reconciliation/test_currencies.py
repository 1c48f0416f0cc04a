"""A customer pays EUR, the provider settles USD: the market's books stay in EUR, the provider's in USD."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from core.actor import SYSTEM
from core.ids import BrandId, OrderLineId, PayoutId, RefundId
from core.money import Money
from core.pagination import PageRequest
from infra.payments.gateway import BalanceTransaction
from supply.ledger import queries as ledger
from supply.settlement import queries, service
from supply.settlement.capture import CapturedLine
from supply.settlement.currency_positions import remember_rate
from supply.settlement.payout_costs import frozen_cost
from supply.settlement.processing_fees import set_fee_bearer
from supply.settlement.provider_funds import collect_fees
from supply.settlement.reconciliation.findings import Finding
from supply.settlement.reconciliation.intake import keep_rows
from supply.settlement.reconciliation.matching import disagreeing, match
from supply.settlement.reconciliation.models import Bearer
from supply.settlement.refunds import RefundPlan
from tests.factories.settlement import order_of

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
# 2.9 % of USD 97.20 is 2.8188; with the fixed 0.30 3.1188, half up 3.12.
FEE = 312


async def balances(platform: Any) -> dict[tuple[int, str], int]:
    """Debit balances by code and currency, zeros left out."""
    async with platform.db.reading(SYSTEM) as session:
        lines = await ledger.trial_balance(session)
        assert await ledger.unbalanced_journals(session) == 0
    sums: dict[str, int] = {}
    for line in lines:
        sums[line.currency] = sums.get(line.currency, 0) + line.debit_minor
    assert not any(sums.values())
    return {(int(line.code), line.currency): line.debit_minor for line in lines if line.debit_minor}


async def sold(platform: Any) -> Any:
    """EUR 90.00 of the merchant's own goods, paid by card."""
    platform.paysim.admin("POST", "/fx", eur={"to": "usd", "rate": "1.08"})
    line = CapturedLine(OrderLineId.new(), 1, 9_000, 0, platform.parties.supplier, 0)
    charge = await platform.charge(9_000, "eur")
    order = order_of(platform.parties, [line], charge_id=charge, currency="EUR", paid_at=platform.clock.now())
    async with platform.db.unit_of_work(SYSTEM) as session:
        await service.open_split(session, order, clock=platform.clock)
    return order


async def fees(platform: Any) -> int:
    return await collect_fees(platform.db, payments=platform.payments, clock=platform.clock)


async def test_a_charge_that_settles_in_another_currency(platform: Any) -> None:
    order = await sold(platform)
    assert await fees(platform) == 1
    expected = {
        (1000, "USD"): 9_720 - FEE,
        (5000, "USD"): FEE,
        (6000, "EUR"): 9_000,
        (6000, "USD"): -9_720,
        (2000, "EUR"): -9_000,
    }
    assert await balances(platform) == expected
    report = await platform.reconcile()
    assert report.ok, report
    assert await balances(platform) == expected
    async with platform.db.reading(SYSTEM) as session:
        assert (await queries.order_identity(session, order.order_id)).holds


async def test_a_charge_whose_fee_ate_all_of_it_is_not_explained_before_its_capture(platform: Any) -> None:
    now = platform.clock.now()
    row = BalanceTransaction(
        id="txn_penny", type="charge", reporting_category="charge", source_id="ch_penny", amount_minor=1,
        fee_minor=1, net_minor=0, currency="USD", status="pending", exchange_rate="1.08", created_at=now,
        available_on=now + 2 * DAY,
    )  # fmt: skip
    await keep_rows(platform.db, "stripe", [row], now)
    async with platform.db.unit_of_work(SYSTEM) as session:
        assert await match(session, "stripe", now=now) == []
        (group,) = await disagreeing(session, "stripe")
    assert group.finding is Finding.NO_JOURNAL


async def test_reconciliation_alone_books_the_conversion_too(platform: Any) -> None:
    await sold(platform)
    assert (await platform.reconcile()).ok
    assert await fees(platform) == 0
    assert (await balances(platform))[6000, "USD"] == -9_720


async def test_paying_it_out_when_it_costs_more_loses_the_difference(platform: Any) -> None:
    """R10b and R10c end to end: USD 99.00 leave for EUR 90.00."""
    order = await sold(platform)
    await fees(platform)
    platform.paysim.admin("POST", "/fx")
    platform.paysim.funded(50_000, "usd")  # the platform's own, for the transfer to be covered
    platform.clock.advance(50 * DAY)
    await service.release_due(platform.db, clock=platform.clock)
    account = platform.paysim.account()["id"]
    merchant = str(platform.parties.merchant)
    async with platform.db.unit_of_work(SYSTEM) as session:
        now = platform.clock.now()
        await service.register_payee(session, merchant, currency="EUR", account_id=account, now=now)
    await service.make_batch(platform.db, cycle="d", clock=platform.clock)
    async with platform.db.reading(SYSTEM) as session:
        (payout,) = (await queries.payouts_page(session, SYSTEM, PageRequest())).items
    assert (payout.currency, payout.amount_minor) == ("EUR", 9_000)
    async with platform.db.unit_of_work(SYSTEM) as session:
        await remember_rate(session, "EUR", "USD", "1.10", source="operator", at=platform.clock.now())

    await service.send_payouts(platform.db, payments=platform.payments, clock=platform.clock)

    (transfer,) = platform.paysim.get("/v1/transfers").json()["data"]
    assert (transfer["amount"], transfer["currency"]) == (9_900, "usd")
    await platform.reconcile()

    after = await balances(platform)
    assert after[5040, "USD"] == 180
    assert not [key for key in after if key[0] == 6000]
    assert not [key for key in after if key[1] == "EUR"]
    async with platform.db.reading(SYSTEM) as session:
        assert (await queries.order_identity(session, order.order_id)).holds


async def test_a_refund_in_the_customers_currency_settles_in_the_other(platform: Any) -> None:
    order = await sold(platform)
    await fees(platform)
    platform.paysim.funded(50_000, "usd")
    platform.paysim.admin("POST", "/fx", eur={"to": "usd", "rate": "1.10"})
    refund_id = RefundId.new()
    async with platform.db.unit_of_work(SYSTEM) as session:
        plan = RefundPlan(refund_id, order.order_id, everything=True)
        await service.reserve_refund(session, plan, now=platform.clock.now())
    answer = await platform.payments.refund(charge_or_intent=order.charge_id, amount_minor=9_000, key="r")
    async with platform.db.unit_of_work(SYSTEM) as session:
        await service.settle_refund(session, refund_id, now=platform.clock.now(), provider_ref=answer.id)

    report = await platform.reconcile()

    assert [d.type for d in report.counted] == []
    after = await balances(platform)
    assert after[5040, "USD"] == 180  # 99.00 back for the 97.20 that came
    assert not [key for key in after if key[1] == "EUR"]


async def test_a_refund_behind_our_back_that_comes_back_at_another_rate_costs_the_difference(
    platform: Any,
) -> None:
    """EUR 10.00 leave as USD 11.00 and come back as USD 10.50: nobody's order changes, the platform loses 0.50."""
    order = await sold(platform)
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    before = await balances(platform)
    platform.paysim.admin("POST", "/fx", eur={"to": "usd", "rate": "1.10"})
    refund = platform.paysim.ok("/v1/refunds", charge=order.charge_id, amount=1_000)
    platform.clock.advance(2 * HOUR)
    await platform.reconcile()
    assert (await balances(platform))[2300, "USD"] == 1_100
    platform.paysim.admin("POST", "/fx", eur={"to": "usd", "rate": "1.05"})
    platform.paysim.admin("POST", f"/refunds/{refund['id']}/fail")
    platform.clock.advance(2 * HOUR)
    await platform.reconcile()
    assert (await balances(platform))[2300, "USD"] == 50

    report = await platform.reconcile()

    assert report.ok, report
    assert report.health.suspended == 0
    lost = {(1010, "USD"): before[1010, "USD"] - 50, (5040, "USD"): 50}
    assert await balances(platform) == before | lost


async def test_a_merchant_that_bears_the_fee_bears_it_in_its_own_currency(platform: Any) -> None:
    async with platform.db.unit_of_work(SYSTEM) as session:
        await set_fee_bearer(
            session, platform.parties.merchant, Bearer.MERCHANT, reason="agreed", decided_by="operator",
            now=platform.clock.now(),
        )  # fmt: skip
    await sold(platform)
    await fees(platform)
    # USD 3.12 of 97.20 are EUR 2.888… of 90.00: half up 2.89.
    after = await balances(platform)
    assert after[2000, "EUR"] == -(9_000 - 289)
    assert after[4010, "EUR"] == -289
    assert after[5000, "USD"] == FEE


async def test_orders_of_one_charge_share_its_fee_and_each_bearer_bears_its_own(platform: Any) -> None:
    """10,000 at 2.9 % + 30 is 320: over orders of 5,000, 3,000 and 2,000 it is 160, 96 and 64."""
    charge = await platform.charge(10_000)
    merchants = [BrandId.new() for _ in range(3)]
    async with platform.db.unit_of_work(SYSTEM) as session:
        for merchant in merchants[1:]:
            await set_fee_bearer(
                session, merchant, Bearer.MERCHANT, reason="agreed", decided_by="operator",
                now=platform.clock.now(),
            )  # fmt: skip
    async with platform.db.unit_of_work(SYSTEM) as session:
        orders = [
            order_of(
                platform.parties,
                [CapturedLine(OrderLineId.new(), 1, amount, 0, platform.parties.supplier, 0)],
                charge_id=charge, currency="USD", merchant_id=merchant,
            )
            for merchant, amount in zip(merchants, (5_000, 3_000, 2_000), strict=True)
        ]  # fmt: skip
        await service.open_splits(session, orders, clock=platform.clock)
    await fees(platform)

    async with platform.db.reading(SYSTEM) as session:
        held = {
            b.payee_id: b.net_minor
            for b in await queries.party_balances(session, [str(m) for m in merchants])
        }
        assert [held[str(merchant)] for merchant in merchants] == [5_000, 3_000 - 96, 2_000 - 64]
        for order in orders:
            assert (await queries.order_identity(session, order.order_id)).holds
    assert (await balances(platform))[4010, "USD"] == -160
    assert (await platform.reconcile()).ok


async def test_a_charge_the_provider_refuses_to_show_does_not_keep_the_others(platform: Any) -> None:
    lost = await platform.capture("ch_unknown")
    order = await platform.sale()
    assert lost.charge_id != order.charge_id
    assert await fees(platform) == 1
    assert await fees(platform) == 0
    assert (await balances(platform))[5000, "USD"] == 331


async def test_a_payouts_cost_is_settled_before_it_is_first_sent(platform: Any) -> None:
    """A second try sends what the first one sent, whatever the rate has become: the key is the same."""
    await sold(platform)
    await fees(platform)
    payout_id = PayoutId.new()
    async with platform.db.unit_of_work(SYSTEM) as session:
        assert await frozen_cost(session, payout_id, Money(5_000, "EUR")) == Money(5_400, "USD")
        await remember_rate(session, "EUR", "USD", "1.5", source="operator", at=platform.clock.now())
        assert await frozen_cost(session, payout_id, Money(5_000, "EUR")) == Money(5_400, "USD")
        # Money that is kept in its own currency costs itself.
        assert await frozen_cost(session, PayoutId.new(), Money(5_000, "USD")) == Money(5_000, "USD")
