"""Recipes R1 to R8 and R14 on order O1 of money.md §2, to the cent. Expected figures are the specification's.

R9 on the same order is in test_disputes.py.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId, PayoutId, RefundId, SupplierId
from core.money import Money
from infra.db.session import Database
from infra.payments.gateway import BalanceTransaction
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement import queries, service
from supply.settlement.capture import CapturedOrder, CommissionShare
from supply.settlement.composition import Part
from supply.settlement.errors import NothingToRefund, RefundChanged, RefundEnded
from supply.settlement.parties import party_account
from supply.settlement.refunds import LineRefund, RefundPlan, ShippingRefund
from supply.settlement.reroute import MovedUnits
from tests.factories.settled import paid_out_o1, shares
from tests.factories.settlement import PAID_AT, Parties, captured_o1, legs, line_of_o1, order_of

P = Code
NOW = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)


@pytest.fixture
def parties() -> Parties:
    return Parties()


async def holds(session: AsyncSession, order_id: OrderId) -> bool:
    return (await queries.order_identity(session, order_id)).holds


async def test_r1_capture(session: AsyncSession, clock: FixedClock, parties: Parties) -> None:
    order = await captured_o1(session, clock, parties)

    assert await legs(session, f"capture:ch_1:{order.order_id}") == {
        (P.PROVIDER_PENDING, "psp:stripe", 10_388),
        *shares(parties, P.PENDING, -3_200, -4_800, -900, -450),
        (P.FEE_DEFERRED, "platform", -450),
        (P.TAX, "tax:CN", -588),
    }
    identity = await queries.order_identity(session, order.order_id)
    assert identity.holds
    assert (identity.suppliers_minor, identity.shipping_minor) == (4_000, 800)
    assert (identity.commissions_minor, identity.platform_minor) == (1_350, 450)
    assert (identity.merchant_minor, identity.tax_minor) == (3_200, 588)


async def test_capturing_again_changes_nothing(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    await service.open_split(session, order, clock=clock)

    assert await ledger.balance(session, party_account(P.PENDING, str(parties.merchant), "CNY")) == Money(
        3_200, "CNY"
    )


async def test_r2_r3_the_providers_fee_and_funds(db: Database, clock: FixedClock, parties: Parties) -> None:
    clock.at = NOW
    fact = BalanceTransaction(
        "txn_1", "charge", "charge", "ch_1", 10_388, 331, 10_057, "CNY", "pending", None, PAID_AT,
        NOW + timedelta(days=2),
    )  # fmt: skip
    async with db.unit_of_work(SYSTEM) as session:
        await captured_o1(session, clock, parties)
        await service.record_fee(session, "ch_1", fact, now=NOW)
    assert await service.funds_available(db, clock=clock) == 0
    clock.advance(timedelta(days=2))
    assert await service.funds_available(db, clock=clock) == 1
    assert await service.funds_available(db, clock=clock) == 0

    async with db.reading(SYSTEM) as session:
        assert await legs(session, "fee:txn_1") == {
            (P.PROVIDER_FEE, "platform", 331), (P.PROVIDER_PENDING, "psp:stripe", -331),
        }  # fmt: skip
        assert await legs(session, "avail:txn_1") == {
            (P.PROVIDER_AVAILABLE, "psp:stripe", 10_057), (P.PROVIDER_PENDING, "psp:stripe", -10_057),
        }  # fmt: skip


async def test_r2b_the_merchant_bears_the_fee(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    await service.recharge_fee(session, order.order_id, "txn_1", 331, now=NOW)

    assert await legs(session, f"feerc:txn_1:{order.order_id}") == {
        *shares(parties, P.PENDING, 331, 0, 0, 0), (P.PROCESSING_RECHARGE, "platform", -331),
    }  # fmt: skip
    assert await holds(session, order.order_id)


async def deliver(db: Database, order: CapturedOrder, parties: Parties, at: datetime) -> None:
    line = order.lines[0]
    async with db.unit_of_work(SYSTEM) as session:
        await service.record_delivery(
            session, order.order_id, parties.supplier, [(line.order_line_id, line.quantity)], at=at
        )


async def test_r4_release_when_the_return_window_closes(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        order = order_of(parties, [line_of_o1(parties)], supplier_settlement_days=15)
        await service.open_split(session, order, clock=clock)
    await deliver(db, order, parties, NOW)

    clock.at = NOW + timedelta(days=15) - timedelta(microseconds=1)
    assert await service.release_due(db, clock=clock) == 0
    clock.at = NOW + timedelta(days=15)
    assert await service.release_due(db, clock=clock) == 1
    assert await service.release_due(db, clock=clock) == 0

    async with db.reading(SYSTEM) as session:
        assert await legs(session, f"release:{order.lines[0].order_line_id}:1") == {
            *shares(parties, P.PENDING, 3_200, 4_800, 900, 450),
            *shares(parties, P.AVAILABLE, -3_200, -4_800, -900, -450),
            (P.FEE_DEFERRED, "platform", 450),
            (P.FEE_REVENUE, "platform", -450),
        }
        assert await holds(session, order.order_id)


async def test_a_supplier_is_due_by_its_own_days_and_nobody_else_before_the_window(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        order = order_of(parties, [line_of_o1(parties, settlement_days=3)])
        await service.open_split(session, order, clock=clock)
    await deliver(db, order, parties, NOW)
    clock.at = NOW + timedelta(days=3)
    await service.release_due(db, clock=clock)

    async with db.reading(SYSTEM) as session:
        ids = [str(parties.supplier), str(parties.merchant), str(parties.individual)]
        balances = {b.payee_id: b for b in await queries.party_balances(session, ids)}
        assert balances[str(parties.supplier)].available_minor == 4_800
        assert balances[str(parties.merchant)].available_minor == 0
        assert balances[str(parties.individual)].available_minor == 0


async def test_without_delivery_everything_is_due_45_days_after_payment(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await captured_o1(session, clock, parties)
    clock.at = PAID_AT + timedelta(days=45) - timedelta(seconds=1)
    assert await service.release_due(db, clock=clock) == 0
    clock.at = PAID_AT + timedelta(days=45)
    assert await service.release_due(db, clock=clock) == 1


async def test_a_line_under_after_sale_is_frozen(db: Database, clock: FixedClock, parties: Parties) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        order = await captured_o1(session, clock, parties)
        await service.hold_release(session, order.order_id, order.lines[0].order_line_id)
    clock.at = PAID_AT + timedelta(days=60)
    assert await service.release_due(db, clock=clock) == 0
    async with db.unit_of_work(SYSTEM) as session:
        await service.lift_hold(session, order.order_id, order.lines[0].order_line_id)
    assert await service.release_due(db, clock=clock) == 1


async def test_r5_full_refund_before_release(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    refund = RefundId.new()
    reserved = await service.reserve_refund(
        session, RefundPlan(refund, order.order_id, everything=True), now=NOW
    )
    assert reserved.amount_minor == 10_388
    taken = {
        *shares(parties, P.PENDING, 3_200, 4_800, 900, 450),
        (P.FEE_DEFERRED, "platform", 450),
        (P.TAX, "tax:CN", 588),
    }
    customer = (P.REFUND_PENDING, f"customer:{refund}", -10_388)
    assert await legs(session, f"refund:{refund}:reserve") == {*taken, customer}

    await service.settle_refund(session, refund, now=NOW, provider_ref="re_1")
    await service.settle_refund(session, refund, now=NOW, provider_ref="re_1")
    assert await legs(session, f"refund:{refund}:settle") == {
        (P.REFUND_PENDING, f"customer:{refund}", 10_388), (P.PROVIDER_AVAILABLE, "psp:stripe", -10_388),
    }  # fmt: skip
    assert await holds(session, order.order_id)
    with pytest.raises(NothingToRefund):
        await service.reserve_refund(
            session, RefundPlan(RefundId.new(), order.order_id, everything=True), now=NOW
        )


async def test_r5c_a_failed_refund_is_undone_exactly(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    refund = RefundId.new()
    plan = RefundPlan(refund, order.order_id, lines=[LineRefund(order.lines[0].order_line_id, 1)])
    before = await queries.parts_of_order(session, order.order_id)
    await service.reserve_refund(session, plan, now=NOW)
    reserved = await legs(session, f"refund:{refund}:reserve")
    await service.void_refund(session, refund, now=NOW)
    await service.void_refund(session, refund, now=NOW)

    undone = {(code, owner, -amount) for code, owner, amount in reserved}
    assert await legs(session, f"refund:{refund}:void") == undone
    assert await queries.parts_of_order(session, order.order_id) == before
    assert await holds(session, order.order_id)
    with pytest.raises(RefundEnded):
        await service.settle_refund(session, refund, now=NOW)


async def test_a_refund_id_means_one_refund(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=1_000)
    first = await service.reserve_refund(session, plan, now=NOW)

    assert await service.reserve_refund(session, plan, now=NOW) == first
    with pytest.raises(RefundChanged):
        await service.reserve_refund(
            session, RefundPlan(plan.refund_id, order.order_id, amount_minor=1_001), now=NOW
        )
    assert (await queries.order_identity(session, order.order_id)).refunded_minor == 1_000


async def test_r6_refund_by_line_that_the_supplier_accepts(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    refund = RefundId.new()
    plan = RefundPlan(refund, order.order_id, lines=[LineRefund(order.lines[0].order_line_id, 1)])
    reserved = await service.reserve_refund(session, plan, now=NOW)

    assert reserved.amount_minor == 4_770
    assert await legs(session, f"refund:{refund}:reserve") == {
        *shares(parties, P.PENDING, 1_600, 2_000, 450, 225),
        (P.FEE_DEFERRED, "platform", 225),
        (P.TAX, "tax:CN", 270),
        (P.REFUND_PENDING, f"customer:{refund}", -4_770),
    }
    assert await holds(session, order.order_id)


async def test_r6a_refund_by_line_that_the_supplier_refuses(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    refund = RefundId.new()
    lines = [LineRefund(order.lines[0].order_line_id, 1, supplier_accepts=False)]
    await service.reserve_refund(session, RefundPlan(refund, order.order_id, lines=lines), now=NOW)

    assert await legs(session, f"refund:{refund}:reserve") == {
        *shares(parties, P.PENDING, 3_200, 0, 450, 225),
        *shares(parties, P.RECEIVABLE, 400, 0, 0, 0),
        (P.FEE_DEFERRED, "platform", 225),
        (P.TAX, "tax:CN", 270),
        (P.REFUND_PENDING, f"customer:{refund}", -4_770),
    }
    assert await holds(session, order.order_id)


async def test_r6b_refund_by_amount(session: AsyncSession, clock: FixedClock, parties: Parties) -> None:
    order = await captured_o1(session, clock, parties)
    refund = RefundId.new()
    await service.reserve_refund(session, RefundPlan(refund, order.order_id, amount_minor=4_770), now=NOW)

    assert await legs(session, f"refund:{refund}:reserve") == {
        *shares(parties, P.PENDING, 1_469, 2_204, 413, 207),
        (P.FEE_DEFERRED, "platform", 207),
        (P.TAX, "tax:CN", 270),
        (P.REFUND_PENDING, f"customer:{refund}", -4_770),
    }


async def test_refund_of_shipping_comes_from_whoever_received_it(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    refund = RefundId.new()
    reserved = await service.reserve_refund(
        session, RefundPlan(refund, order.order_id, shipping=[ShippingRefund()]), now=NOW
    )

    assert reserved.amount_minor == 848
    assert await legs(session, f"refund:{refund}:reserve") == {
        *shares(parties, P.PENDING, 0, 800, 0, 0),
        (P.TAX, "tax:CN", 48),
        (P.REFUND_PENDING, f"customer:{refund}", -848),
    }


async def test_r7_refund_by_amount_after_payout_is_owed(
    db: Database, clock: FixedClock, parties: Parties
) -> None:
    order = await paid_out_o1(db, clock, parties)
    refund = RefundId.new()
    async with db.unit_of_work(SYSTEM) as session:
        await service.reserve_refund(
            session, RefundPlan(refund, order.order_id, amount_minor=1_000), now=clock.now()
        )

    async with db.reading(SYSTEM) as session:
        assert await legs(session, f"refund:{refund}:reserve") == {
            *shares(parties, P.RECEIVABLE, 308, 462, 87, 43),
            (P.FEE_REVENUE, "platform", 43),
            (P.TAX, "tax:CN", 57),
            (P.REFUND_PENDING, f"customer:{refund}", -1_000),
        }
        assert await holds(session, order.order_id)


async def test_r7a_r7b_r7c_what_is_owed_comes_back(db: Database, clock: FixedClock, parties: Parties) -> None:
    order = await paid_out_o1(db, clock, parties)
    merchant, supplier, brand = (str(p) for p in (parties.merchant, parties.supplier, parties.promoter_brand))
    async with db.unit_of_work(SYSTEM) as session:
        await service.reserve_refund(
            session, RefundPlan(RefundId.new(), order.order_id, amount_minor=1_000), now=clock.now()
        )
    async with db.unit_of_work(SYSTEM) as session:
        await service.record_reversal(
            session, PayoutId.new(), merchant, "CNY", 308, reversal_id="trr_1", now=clock.now()
        )
        await service.write_off(session, brand, "CNY", 87, reference="w1", reason="gone", now=clock.now())
        other = order_of(parties, [line_of_o1(parties)], charge_id="ch_2")
        await service.open_split(session, other, clock=clock)
    clock.advance(timedelta(days=1))  # paid long ago: due at once
    await service.release_due(db, clock=clock)
    await service.make_batch(db, cycle="c2", clock=clock)

    async with db.reading(SYSTEM) as session:
        assert await legs(session, "reversal:trr_1") == {
            (P.PROVIDER_AVAILABLE, "psp:stripe", 308), (P.RECEIVABLE, f"party:{merchant}", -308),
        }  # fmt: skip
        assert await legs(session, f"net:c2:{supplier}:CNY") == {
            (P.AVAILABLE, f"party:{supplier}", 462), (P.RECEIVABLE, f"party:{supplier}", -462),
        }  # fmt: skip
        assert await legs(session, "writeoff:w1") == {
            (P.BAD_DEBT, "platform", 87), (P.RECEIVABLE, f"party:{brand}", -87),
        }  # fmt: skip
        balances = {b.payee_id: b for b in await queries.party_balances(session, [supplier])}
        assert balances[supplier].in_payout_minor == 4_800 - 462
        assert await queries.broken_identities(session) == []


async def test_r14_another_supplier_takes_a_unit(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    other = SupplierId.new()
    move = MovedUnits(order.lines[0].order_line_id, 1, parties.supplier, other, 2_150)
    await service.reroute(session, order.order_id, [move], reference="ful_1", now=NOW)

    assert await legs(session, "reroute:ful_1") == {
        *shares(parties, P.PENDING, 150, 2_000, 0, 0), (P.PENDING, f"party:{other}", -2_150),
    }  # fmt: skip
    identity = await queries.order_identity(session, order.order_id)
    assert identity.holds
    assert (identity.suppliers_minor, identity.merchant_minor) == (4_150, 3_050)


async def test_r14_freight_follows_the_new_supplier(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    other = SupplierId.new()
    move = MovedUnits(order.lines[0].order_line_id, 2, parties.supplier, other, 4_300)
    await service.reroute(
        session, order.order_id, [move], reference="ful_1", now=NOW, from_freight_minor=800,
        to_freight_minor=950,
    )  # fmt: skip

    assert await legs(session, "reroute:ful_1") == {
        *shares(parties, P.PENDING, 450, 4_800, 0, 0), (P.PENDING, f"party:{other}", -5_250),
    }  # fmt: skip
    assert await holds(session, order.order_id)
    refund = RefundId.new()
    await service.reserve_refund(session, RefundPlan(refund, order.order_id, everything=True), now=NOW)
    assert (P.PENDING, f"party:{other}", 5_250) in await legs(session, f"refund:{refund}:reserve")


async def test_a_returned_unit_of_a_rerouted_line_comes_from_its_supplier(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured_o1(session, clock, parties)
    other = SupplierId.new()
    line_id = order.lines[0].order_line_id
    move = MovedUnits(line_id, 1, parties.supplier, other, 2_150)
    await service.reroute(session, order.order_id, [move], reference="ful_1", now=NOW)
    first, second = RefundId.new(), RefundId.new()
    for refund in (first, second):
        await service.reserve_refund(
            session, RefundPlan(refund, order.order_id, lines=[LineRefund(line_id, 1)]), now=NOW
        )

    assert (P.PENDING, f"party:{parties.supplier}", 2_000) in await legs(session, f"refund:{first}:reserve")
    assert (P.PENDING, f"party:{other}", 2_150) in await legs(session, f"refund:{second}:reserve")
    assert await holds(session, order.order_id)


async def test_a_line_that_came_back_in_slices_leaves_no_commission_although_it_was_cut_in_between(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    """5 × 32, commission 17 + 6 + 1. Of four units half_up(24 × 128 / 160) = 19 came back, 5 are left for one."""
    commission = (
        CommissionShare(str(parties.promoter_brand), Part.PROMOTER_BRAND, 17),
        CommissionShare(str(parties.individual), Part.INDIVIDUAL, 6),
        CommissionShare("", Part.PLATFORM_COMMISSION, 1),
    )
    line = line_of_o1(
        parties, quantity=5, goods_minor=160, tax_minor=0, supplier_cost_minor=100, shipping_minor=0,
        shipping_tax_minor=0, supplier_shipping_minor=0, platform_fee_minor=10, commission=commission,
    )  # fmt: skip
    order = order_of(parties, [line])
    await service.open_split(session, order, clock=clock)

    async def refund(units: int) -> None:
        plan = RefundPlan(RefundId.new(), order.order_id, lines=[LineRefund(line.order_line_id, units)])
        await service.reserve_refund(session, plan, now=NOW)

    promoters = [str(parties.promoter_brand), str(parties.individual)]
    await refund(4)
    left = await queries.party_balances(session, promoters)
    assert sum(each.net_minor for each in left) == 5
    move = MovedUnits(line.order_line_id, 1, parties.supplier, SupplierId.new(), 20)
    await service.reroute(session, order.order_id, [move], reference="ful_1", now=NOW)
    assert sum(each.net_minor for each in await queries.party_balances(session, promoters)) == 5
    await refund(1)

    assert [each.net_minor for each in await queries.party_balances(session, promoters)] == [0, 0]
    assert await holds(session, order.order_id)


async def test_an_order_below_zero_is_the_merchants_receivable(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    line = line_of_o1(parties, supplier_cost_minor=7_350)
    order = order_of(parties, [line])
    await service.open_split(session, order, clock=clock)

    # 9,000 - 7,350 - 1,350 - 450 = -150
    assert (P.RECEIVABLE, f"party:{parties.merchant}", 150) in await legs(
        session, f"capture:ch_1:{order.order_id}"
    )
    assert await holds(session, order.order_id)


async def test_free_shipping_is_paid_by_the_merchant_out_of_its_goods(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    line = line_of_o1(parties, shipping_minor=0, shipping_tax_minor=0)
    order = order_of(parties, [line])
    await service.open_split(session, order, clock=clock)

    assert (P.PENDING, f"party:{parties.merchant}", -2_400) in await legs(
        session, f"capture:ch_1:{order.order_id}"
    )
    assert await holds(session, order.order_id)
    await service.reserve_refund(
        session, RefundPlan(RefundId.new(), order.order_id, everything=True), now=NOW
    )
    assert await holds(session, order.order_id)
    assert sum(line.debit_minor for line in await ledger.trial_balance(session)) == 0
