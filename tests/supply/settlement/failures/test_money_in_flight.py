"""money.md §6: a refund beside a payout, a provider short of funds, currencies without and with three decimals."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, OrderLineId, PromoterId, RefundId, SupplierId
from infra.db.session import Database
from infra.payments.stripe_gateway import StripeGateway
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.settlement import queries, service
from supply.settlement.capture import CapturedLine, CommissionShare
from supply.settlement.composition import Part
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.refunds import LineRefund, RefundPlan
from tests.factories.ledger import arriving
from tests.factories.settlement import PAID_AT, Parties, dispute_of, line_of_o1, order_of
from tests.supply.settlement import conftest as suite

paysim, gateway = suite.paysim, suite.gateway


async def test_refund_while_payout_of_the_same_party_is_in_flight(
    db: Database, clock: FixedClock, paysim: Any, gateway: StripeGateway
) -> None:
    # The lock order decides: whoever comes later sees the reduced balance, and what is short is owed.
    paysim.funded(100_000, "cny")
    parties = Parties()
    account = paysim.account(country="CN")["id"]
    async with db.unit_of_work(SYSTEM) as session:
        order = order_of(parties, [line_of_o1(parties)])
        await service.open_split(session, order, clock=clock)
        await posting.post(session, arriving("here", 10_388), now=PAID_AT)
        await service.register_payee(
            session, str(parties.merchant), currency="CNY", account_id=account, now=PAID_AT
        )
    clock.at = PAID_AT + timedelta(days=45)
    await service.release_due(db, clock=clock)
    await service.make_batch(db, cycle="c1", clock=clock)  # 3,200 reserved, in flight
    paysim.fault("delay_response", match={"operation": "transfers.create"}, seconds=0.5)

    async def refund() -> RefundId:
        async with db.unit_of_work(SYSTEM) as session:
            plan = RefundPlan(RefundId.new(), order.order_id, everything=True)
            return (await service.reserve_refund(session, plan, now=clock.now())).refund_id

    sent, refunded = await asyncio.gather(service.send_payouts(db, payments=gateway, clock=clock), refund())

    assert sent == 1
    async with db.reading(SYSTEM) as session:
        (merchant,) = await queries.party_balances(session, [str(parties.merchant)])
        assert (merchant.in_payout_minor, merchant.available_minor) == (0, 0)
        assert merchant.receivable_minor == 3_200  # paid 3,200 of what the customer got back
        assert await queries.broken_identities(session) == []
        assert await ledger.mismatched_balances(session) == 0
    async with db.unit_of_work(SYSTEM) as session:
        await service.void_refund(session, refunded, now=clock.now())
        (merchant,) = await queries.party_balances(session, [str(parties.merchant)])
        assert merchant.net_minor == 0


async def test_transfer_fails_for_balance(
    db: Database, clock: FixedClock, paysim: Any, gateway: StripeGateway
) -> None:
    parties = Parties()
    account = paysim.account(country="CN")["id"]
    async with db.unit_of_work(SYSTEM) as session:
        await service.open_split(session, order_of(parties, [line_of_o1(parties)]), clock=clock)
        await posting.post(session, arriving("here", 10_388), now=PAID_AT)
        await service.register_payee(
            session, str(parties.merchant), currency="CNY", account_id=account, now=PAID_AT
        )
    clock.at = PAID_AT + timedelta(days=45)
    await service.release_due(db, clock=clock)
    await service.make_batch(db, cycle="c1", clock=clock)
    paysim.fault("transfer_refusal")

    await service.send_payouts(db, payments=gateway, clock=clock)

    async with db.reading(SYSTEM) as session:
        (merchant,) = await queries.party_balances(session, [str(parties.merchant)])
        assert (merchant.in_payout_minor, merchant.available_minor) == (0, 3_200)
        assert await ledger.mismatched_balances(session) == 0


@pytest.mark.parametrize(("currency", "country"), [("JPY", "JP"), ("KWD", "KW"), ("CNY", "CN")])
async def test_zero_and_three_decimal_currencies_one_unit_orders_with_five_payees(
    db: Database, clock: FixedClock, currency: str, country: str
) -> None:
    """1 minor unit, five parties and the platform: whoever gets it gives it back, and nobody else anything."""
    for paid in (1, 2, 3, 5, 7):
        parties = Parties()
        line = CapturedLine(
            order_line_id=OrderLineId.new(), quantity=1, goods_minor=paid, tax_minor=0,
            supplier_id=parties.supplier, supplier_cost_minor=paid // 3,
            platform_fee_minor=1 if paid > 4 else 0,
            commission=(
                CommissionShare(str(parties.promoter_brand), Part.PROMOTER_BRAND, 1 if paid > 1 else 0),
                CommissionShare(str(parties.individual), Part.INDIVIDUAL, 1 if paid > 2 else 0),
            ),
        )  # fmt: skip
        order = order_of(
            parties, [line], charge_id=f"ch_{currency}_{paid}", currency=currency, tax_jurisdiction=country
        )
        async with db.unit_of_work(SYSTEM) as session:
            await service.open_split(session, order, clock=clock)
            for unit in range(paid):
                plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=1)
                reserved = await service.reserve_refund(session, plan, now=clock.now())
                assert sum(t.amount_minor for t in reserved.taken) == 1
                identity = await queries.order_identity(session, order.order_id)
                assert (identity.holds, identity.refunded_minor) == (True, unit + 1)
            ids = [str(each) for each in (
                parties.merchant, parties.supplier, parties.promoter_brand, parties.individual
            )]  # fmt: skip
            assert {b.net_minor for b in await queries.party_balances(session, ids)} == {0}


@pytest.mark.parametrize("currency", ["JPY", "KWD"])
async def test_a_dispute_in_a_currency_without_or_with_three_decimals(
    db: Database, clock: FixedClock, currency: str
) -> None:
    parties, others = Parties(), [SupplierId.new(), BrandId.new(), PromoterId.new()]
    order = order_of(parties, [line_of_o1(parties)], currency=currency)
    async with db.unit_of_work(SYSTEM) as session:
        await service.open_split(session, order, clock=clock)
        plan = RefundPlan(RefundId.new(), order.order_id, lines=[LineRefund(line_id(order), 1)])
        await service.reserve_refund(session, plan, now=clock.now())
        facts: dict[str, Any] = {"amount_minor": 5_617, "currency": currency}
        for status in ("needs_response", "lost", "won"):
            told = dispute_of("ch_1", status=status, **facts)
            await apply_dispute(session, told, provider="stripe", now=clock.now())
            assert await queries.broken_identities(session) == []
        balances = await queries.party_balances(session, [str(each) for each in others])
        assert balances == []
        assert (await queries.order_identity(session, order.order_id)).refunded_minor == 4_771 - 1


def line_id(order: Any) -> OrderLineId:
    found: OrderLineId = order.lines[0].order_line_id
    return found
