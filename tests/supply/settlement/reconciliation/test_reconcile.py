"""Reconciliation against paysim as it runs: agreement, and every discrepancy somebody can plant."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import RefundId, SupplierId
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement import service
from supply.settlement.parties import party_account, provider_account
from supply.settlement.reconciliation.findings import Finding
from supply.settlement.reconciliation.report import Report
from supply.settlement.reconciliation.service import sweep_reconciliation
from supply.settlement.refunds import RefundPlan
from tests.factories.settlement import legs

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def findings(report: Report) -> list[tuple[Finding, str, int, int]]:
    return [(d.finding, d.reference, d.expected_minor, d.booked_minor) for d in report.counted]


async def suspense(platform: Any, currency: str = "USD") -> int:
    async with platform.db.reading(SYSTEM) as session:
        account = AccountKey(Code.SUSPENSE, "psp:stripe", currency)
        return (await ledger.balance(session, account)).amount_minor


async def cash(platform: Any, currency: str = "USD") -> tuple[int, int]:
    """Pending and available in our books."""
    async with platform.db.reading(SYSTEM) as session:
        found = [
            await ledger.balance(session, provider_account(code, "stripe", currency))
            for code in (Code.PROVIDER_PENDING, Code.PROVIDER_AVAILABLE)
        ]
    return found[0].amount_minor, found[1].amount_minor


async def post(platform: Any, journal: Journal) -> None:
    async with platform.db.unit_of_work(SYSTEM) as session:
        await posting.post(session, journal, now=platform.clock.now())


async def test_a_sale_its_fee_refund_and_payout_agree_to_the_cent(platform: Any) -> None:
    order = await platform.sale()
    report = await platform.reconcile()
    assert report.ok, report
    # 10,388 less the fee of 331 (money.md R2), not available for two days.
    assert await cash(platform) == (10_057, 0)
    assert [(c.rows_minor, c.provider_pending_minor) for c in report.balances] == [(10_057, 10_057)]

    platform.clock.advance(2 * DAY + HOUR)
    assert (await platform.reconcile()).ok
    assert await cash(platform) == (0, 10_057)

    refund_id = RefundId.new()
    async with platform.db.unit_of_work(SYSTEM) as session:
        plan = RefundPlan(refund_id, order.order_id, amount_minor=4_770)
        await service.reserve_refund(session, plan, now=platform.clock.now())
    answer = await platform.payments.refund(charge_or_intent=order.charge_id, amount_minor=4_770, key="r")
    async with platform.db.unit_of_work(SYSTEM) as session:
        await service.settle_refund(session, refund_id, now=platform.clock.now(), provider_ref=answer.id)
    await paid_supplier(platform, 2_000)

    report = await platform.reconcile()
    assert report.ok, report
    assert report.rows_new == 2
    assert await cash(platform) == (0, 10_057 - 4_770 - 2_000)
    assert report.health.matched_ppm == 1_000_000
    assert report.health.volume_minor == 10_388 + 4_770 + 2_000


async def paid_supplier(platform: Any, amount: int) -> str:
    """A supplier with money of its own is paid out; its transfer's id."""
    party = str(SupplierId.new())
    account = platform.paysim.account()["id"]
    now = platform.clock.now()
    earned = party_account(Code.AVAILABLE, party, "USD")
    capital = AccountKey(Code.BANK, "platform", "USD")
    async with platform.db.unit_of_work(SYSTEM) as session:
        await service.register_payee(session, party, currency="USD", account_id=account, now=now)
        journal = Journal(f"earned:{party}", "release", (debit(capital, amount), credit(earned, amount)), now)
        await posting.post(session, journal, now=now)
    await service.make_batch(platform.db, cycle=party, clock=platform.clock)
    await service.send_payouts(platform.db, payments=platform.payments, clock=platform.clock)
    async with platform.db.reading(SYSTEM) as session:
        return str((await session.execute(text("SELECT transfer_id FROM payouts"))).scalar_one())


async def test_reading_again_adds_nothing_and_a_second_run_goes_on_where_the_first_ended(
    platform: Any,
) -> None:
    for _ in range(3):
        await platform.sale()
    first = await platform.reconcile()
    assert (first.rows_read, first.rows_new, first.matched) == (3, 3, 3)

    platform.clock.advance(3 * DAY)
    await platform.sale()
    second = await platform.reconcile()

    assert (second.rows_new, second.matched) == (1, 1)
    assert second.rows_from is not None
    assert second.rows_from < first.rows_to  # overlapping
    again = await platform.reconcile(since=first.started_at - DAY, until=platform.clock.now() + DAY)
    assert (again.rows_read, again.rows_new) == (4, 0)
    assert again.ok


async def test_a_journal_that_is_missing_waits_an_hour_and_then_lies_in_suspense_until_it_comes(
    platform: Any,
) -> None:
    charge = await platform.charge()
    report = await platform.reconcile()
    assert [(d.finding, d.waiting) for d in report.differences] == [(Finding.NO_JOURNAL, True)]
    assert report.ok
    assert await suspense(platform) == 0

    platform.clock.advance(HOUR)
    report = await platform.reconcile()
    assert findings(report) == [(Finding.NO_JOURNAL, charge, 10_388, 0)]
    assert not report.ok
    assert await suspense(platform) == 10_057
    assert [item.code for item in report.aged] == [2300]
    assert report.health.oldest_unmatched_s == 3_600
    assert report.health.matched_ppm == 0
    assert not any(check.finding for check in report.balances)

    await platform.capture(charge)
    report = await platform.reconcile()
    assert report.ok, report
    assert await suspense(platform) == 0
    assert await cash(platform) == (10_057, 0)


async def test_what_lies_in_suspense_becomes_available_and_leaves_as_such(platform: Any) -> None:
    charge = await platform.charge()
    platform.clock.advance(HOUR)
    await platform.reconcile()
    assert await cash(platform) == (10_057, 0)

    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    assert await cash(platform) == (0, 10_057)

    await platform.capture(charge)
    assert (await platform.reconcile()).ok
    assert await cash(platform) == (0, 10_057)
    assert await suspense(platform) == 0


async def test_a_doubled_journal_is_found(platform: Any) -> None:
    order = await platform.sale()
    assert (await platform.reconcile()).ok
    pending = provider_account(Code.PROVIDER_PENDING, "stripe", "USD")
    twice = (debit(pending, 10_388), credit(AccountKey(Code.FEE_DEFERRED, "platform", "USD"), 10_388))
    await post(platform, Journal("again", "capture", twice, platform.clock.now(), None, order.charge_id))

    report = await platform.reconcile()

    assert findings(report) == [(Finding.DOUBLED, order.charge_id, 10_388, 20_776)]


async def test_another_amount_is_found(platform: Any) -> None:
    charge = await platform.charge(10_400)
    await platform.capture(charge)

    report = await platform.reconcile()

    assert findings(report) == [(Finding.AMOUNT_DIFFERS, charge, 10_400, 10_388)]


async def test_a_fee_that_differs_is_found(platform: Any) -> None:
    order = await platform.sale()
    charge = await platform.payments.retrieve_charge(order.charge_id)
    transaction = charge.balance_transaction
    assert transaction is not None
    wrong = replace(transaction, fee_minor=300, net_minor=10_088)
    async with platform.db.unit_of_work(SYSTEM) as session:
        await service.record_fee(session, charge.id, wrong, now=platform.clock.now())

    report = await platform.reconcile()

    assert findings(report) == [(Finding.FEE_DIFFERS, order.charge_id, 331, 300)]


async def test_money_that_we_think_is_available_too_early_is_found(platform: Any) -> None:
    order = await platform.sale()
    await platform.reconcile()
    async with platform.db.unit_of_work(SYSTEM) as session:
        early = text("UPDATE provider_charges SET available_on = :now WHERE charge_id = :id")
        await session.execute(early, {"now": platform.clock.now(), "id": order.charge_id})

    report = await platform.reconcile()

    (check,) = report.balances
    assert check.finding is Finding.AVAILABILITY_DIFFERS
    assert (check.books_pending_minor, check.books_available_minor) == (0, 10_057)
    assert (check.provider_pending_minor, check.provider_available_minor) == (10_057, 0)
    assert not report.ok


async def test_money_that_never_became_available_is_an_aged_item(platform: Any) -> None:
    order = await platform.sale()
    await platform.reconcile()
    async with platform.db.unit_of_work(SYSTEM) as session:
        # As if the charge had been recorded without the moment its money is due.
        lost = text("UPDATE provider_charges SET available_on = NULL WHERE charge_id = :id")
        await session.execute(lost, {"id": order.charge_id})
    platform.clock.advance(4 * DAY)

    report = await platform.reconcile()

    assert [(item.code, item.owner, item.amount_minor) for item in report.aged] == [
        (1000, order.charge_id, 10_057)
    ]
    assert [check.finding for check in report.balances] == [Finding.AVAILABILITY_DIFFERS]


async def test_a_refund_behind_our_back_and_its_failure_are_found(platform: Any) -> None:
    order = await platform.sale()
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    refund = platform.paysim.ok("/v1/refunds", charge=order.charge_id, amount=1_000)
    platform.clock.advance(HOUR)
    report = await platform.reconcile()
    assert findings(report) == [(Finding.NO_JOURNAL, refund["id"], -1_000, 0)]
    assert await suspense(platform) == -1_000

    platform.paysim.admin("POST", f"/refunds/{refund['id']}/fail")
    platform.clock.advance(HOUR)
    report = await platform.reconcile()
    assert sorted(findings(report)) == [
        (Finding.NO_JOURNAL, refund["id"], -1_000, 0),
        (Finding.NO_JOURNAL, refund["id"], 1_000, 0),
    ]
    assert sorted(d.type for d in report.counted) == ["refund", "refund_failure"]
    assert await suspense(platform) == 0  # one in, one out: the money is where it was

    # Told; from now on it is nobody's business any more.
    platform.clock.advance(HOUR)
    report = await platform.reconcile()
    assert findings(report) == []
    assert report.health.suspended == 0
    assert await suspense(platform) == 0


async def test_a_transfer_without_a_payout_is_found(platform: Any) -> None:
    await platform.sale()
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    account = platform.paysim.account()["id"]
    transfer = platform.paysim.ok("/v1/transfers", amount=500, currency="usd", destination=account)
    platform.clock.advance(HOUR)

    report = await platform.reconcile()

    assert findings(report) == [(Finding.NO_JOURNAL, transfer["id"], -500, 0)]
    assert report.counted[0].type == "transfer"


async def test_a_payout_the_provider_knows_nothing_of_is_found(platform: Any) -> None:
    await platform.sale()
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    available = provider_account(Code.PROVIDER_AVAILABLE, "stripe", "USD")
    bank = AccountKey(Code.BANK, "platform", "USD")
    ghost = (debit(bank, 900), credit(available, 900))
    await post(platform, Journal("ghost", "payout_settled", ghost, platform.clock.now(), None, "tr_ghost"))
    assert (await platform.reconcile()).ok  # its row may be on the way
    platform.clock.advance(HOUR)

    report = await platform.reconcile()

    assert findings(report) == [(Finding.NO_ROW, "tr_ghost", 0, -900)]


async def test_a_dispute_nobody_booked_is_found(platform: Any) -> None:
    order = await platform.sale()
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    dispute = platform.paysim.admin("POST", "/disputes", charge=order.charge_id)
    platform.clock.advance(HOUR)

    report = await platform.reconcile()

    assert findings(report) == [(Finding.NO_JOURNAL, dispute["id"], -10_388, 0)]
    # The withdrawal and the provider's fee for it.
    assert await suspense(platform) == -10_388 - 1_500


async def test_a_dispute_booked_with_its_fee_in_one_journal_agrees(platform: Any) -> None:
    order = await platform.sale()
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    dispute = platform.paysim.admin("POST", "/disputes", charge=order.charge_id)
    r9a = (
        debit(AccountKey(Code.DISPUTE_RECEIVABLE, f"dispute:{dispute['id']}", "USD"), 10_388),
        debit(AccountKey(Code.DISPUTE_FEE, "platform", "USD"), 1_500),
        credit(provider_account(Code.PROVIDER_AVAILABLE, "stripe", "USD"), 11_888),
    )
    now = platform.clock.now()
    await post(platform, Journal("dispute", "dispute_withdrawn", r9a, now, None, dispute["id"]))

    assert (await platform.reconcile()).ok


async def test_every_run_is_recorded_with_what_it_found(platform: Any) -> None:
    await platform.charge()
    platform.clock.advance(2 * HOUR)
    await platform.reconcile(cause="payout")
    async with platform.db.reading(SYSTEM) as session:
        row = (await session.execute(text("SELECT * FROM reconciliation_runs"))).one()
    assert (row.cause, row.rows_new, row.matched, row.differences, row.ok) == ("payout", 1, 0, 1, False)
    assert row.report["differences"][0]["finding"] == "no_journal"


async def test_the_daily_sweep_runs_once_a_day(platform: Any) -> None:
    await platform.sale()
    sweep = {"payments": platform.payments, "clock": platform.clock}
    assert await sweep_reconciliation(platform.db, **sweep) == 1
    assert await sweep_reconciliation(platform.db, **sweep) == 0
    platform.clock.advance(DAY)
    assert await sweep_reconciliation(platform.db, **sweep) == 1


@pytest.mark.parametrize("times", [4])
async def test_runs_at_the_same_time_book_everything_once(platform: Any, times: int) -> None:
    order = await platform.sale()
    await platform.charge(2_000)
    platform.clock.advance(2 * HOUR)

    await asyncio.gather(*(platform.reconcile() for _ in range(times)))

    # 2 % … 2.9 % of 2,000 is 58, with the fixed 30: 88.
    assert await cash(platform) == (10_057 + 1_912, 0)
    assert await suspense(platform) == 1_912
    async with platform.db.reading(SYSTEM) as session:
        assert len(await legs(session, f"capture:{order.charge_id}:{order.order_id}")) > 0
        assert await ledger.unbalanced_journals(session) == 0


# Rows that no call of ours made


async def inject(platform: Any, type: str, amount: int, **given: Any) -> Any:
    return platform.paysim.admin("POST", "/balance_transactions", type=type, amount=amount, **given)


async def test_the_providers_own_fees_and_reserves_are_booked_from_its_rows(platform: Any) -> None:
    await platform.sale()
    platform.clock.advance(3 * DAY)
    await inject(platform, "stripe_fee", -250)
    await inject(platform, "tax_fee", -21)
    await inject(platform, "reserve_hold", -1_000)

    report = await platform.reconcile()

    assert report.ok, report
    assert await cash(platform) == (0, 10_057 - 250 - 21 - 1_000)
    async with platform.db.reading(SYSTEM) as session:
        trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
    assert trial[Code.PROVIDER_FEE] == 331 + 250 + 21
    assert trial[Code.PROVIDER_RESERVED] == 1_000

    await inject(platform, "reserve_release", 1_000)
    assert (await platform.reconcile()).ok
    assert await cash(platform) == (0, 10_057 - 250 - 21)


async def test_a_row_of_an_unknown_kind_is_suspended_at_once(platform: Any) -> None:
    await platform.sale()
    row = await inject(platform, "topup", 700)

    report = await platform.reconcile()

    assert findings(report) == [(Finding.UNKNOWN_TYPE, row["source"], 700, 0)]
    assert report.counted[0].suspended
    assert await suspense(platform) == 700
    assert not any(check.finding for check in report.balances)


async def test_money_that_becomes_available_later_than_announced_at_first_is_followed(platform: Any) -> None:
    platform.paysim.fault("late_availability", days=9)
    await platform.sale()
    assert (await platform.reconcile()).ok
    platform.clock.advance(3 * DAY)
    assert (await platform.reconcile()).ok
    assert await cash(platform) == (10_057, 0)
    platform.clock.advance(7 * DAY)
    assert (await platform.reconcile()).ok
    assert await cash(platform) == (0, 10_057)


async def test_an_automatic_payout_is_held_against_the_rows_it_is_made_of(platform: Any) -> None:
    """Ours are manual: one the provider makes by itself sums up, and nobody asked for it."""
    await platform.sale()
    platform.clock.advance(3 * DAY)
    await platform.reconcile()
    payout = platform.paysim.admin("POST", "/payouts/automatic")
    platform.clock.advance(HOUR)

    report = await platform.reconcile()

    assert payout["amount"] == 10_057
    assert findings(report) == [(Finding.NO_JOURNAL, payout["id"], -10_057, 0)]


@pytest.mark.parametrize(("paid", "account", "minor"), [(10_389, 4_090, -1), (10_387, 5_050, 1)])
async def test_a_unit_the_provider_rounded_the_other_way_is_loss_or_gain(
    platform: Any, paid: int, account: int, minor: int
) -> None:
    charge = await platform.charge(paid)
    await platform.capture(charge)

    report = await platform.reconcile()

    assert report.ok, report
    async with platform.db.reading(SYSTEM) as session:
        trial = {int(line.code): line.debit_minor for line in await ledger.trial_balance(session)}
    assert trial[account] == minor
    platform.clock.advance(3 * DAY)
    assert (await platform.reconcile()).ok


async def test_two_units_are_a_difference(platform: Any) -> None:
    charge = await platform.charge(10_390)
    await platform.capture(charge)
    report = await platform.reconcile()
    assert findings(report) == [(Finding.AMOUNT_DIFFERS, charge, 10_390, 10_388)]
