"""A coupon the platform, or a promoter, pays: the customer pays less, everybody else is paid as if it had not.

Order C1 on paper: 2 x 5,000, coupon of the platform 1,000, so 9,000 of goods are paid; shipping 800; tax 6 % of
10,800 = 648 (600 on goods, 48 on shipping). CPS 15 % of 10,000 = 1,500 (promoter brand 1,000, individual 500);
platform fee 5 % = 500; supplier 4,000 and 800; the merchant keeps 10,000 - 4,000 - 1,500 - 500 = 4,000.
The customer pays 10,448; with the coupon that is 11,448 = 4,000 + 4,800 + 1,000 + 500 + 500 + 648.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import OrderLineId, RefundId
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement import queries, service
from supply.settlement.capture import CapturedLine, CapturedOrder, CommissionShare
from supply.settlement.composition import (
    OrderState,
    Part,
    Refund,
    held_parts,
    refund_amount,
    refund_line,
    refund_rest,
    split_capture,
)
from supply.settlement.refunds import LineRefund, RefundPlan
from tests.factories.composed import O1_SHIPPING, sold_line
from tests.factories.settlement import PAID_AT, Parties, legs, order_of

P = Code
# The platform's coupon: price, tax, fee and commission are on 10,000, the customer pays 9,000.
C1_LINE = sold_line(
    tax_minor=600, platform_fee_minor=500, basis_minor=10_000, promoter_brand_minor=1_000, individual_minor=500,
    coupon_minor=1_000,
)  # fmt: skip
KINDS = (
    Part.MERCHANT, Part.SUPPLIER, Part.PROMOTER_BRAND, Part.INDIVIDUAL, Part.PLATFORM_FEE, Part.TAX, Part.COUPON,
)  # fmt: skip


def c1() -> OrderState:
    return split_capture([C1_LINE], [O1_SHIPPING])


def amounts(refund: Refund) -> list[int]:
    shares = refund.by_payee
    return [sum(n for payee, n in shares.items() if payee.kind is kind) for kind in KINDS]


def test_the_parties_share_the_price_and_the_coupon_makes_up_for_the_customer() -> None:
    held = c1().held
    assert [sum(n for payee, n in held.items() if payee.kind is kind) for kind in KINDS] == [
        4_000, 4_800, 1_000, 500, 500, 648, -1_000,
    ]  # fmt: skip
    assert c1().left_minor == 10_448


def test_a_unit_back_gives_the_customer_what_it_paid_and_the_coupon_its_part() -> None:
    # 4,500 and 300 of tax to the customer, 500 to the coupon; the parties give half of what they had.
    refund = refund_line(c1(), "line", quantity=1, supplier_accepts=True)
    assert refund.amount_minor == 4_800
    assert amounts(refund) == [2_000, 2_000, 500, 250, 250, 300, -500]


def test_half_of_it_by_amount_brings_half_of_the_coupon_back() -> None:
    refund = refund_amount(c1(), 5_224)
    assert refund.amount_minor == 5_224
    assert amounts(refund)[-1] == -500
    assert sum(amounts(refund)[:-1]) == 5_724


def test_the_rest_empties_everything() -> None:
    some = refund_amount(refund_line(c1(), "line", quantity=1, supplier_accepts=False).order, 1_234)
    rest = refund_rest(some.order)
    assert rest.order.left_minor == 0
    assert not any(amount for state in rest.order.charges for amount in held_parts(state).values())


@st.composite
def couponed(draw: st.DrawFn) -> OrderState:
    lines = []
    for index in range(draw(st.integers(1, 3))):
        price = draw(st.integers(1, 50_000))
        coupon = draw(st.integers(0, price))
        cost = draw(st.integers(0, price))
        fee = draw(st.integers(0, (price - cost) // 4))
        commission = draw(st.integers(0, (price - cost) // 4))
        lines.append(
            replace(
                C1_LINE, line_id=str(index), quantity=draw(st.integers(1, 5)), goods_minor=price - coupon,
                tax_minor=draw(st.integers(0, price)), supplier_cost_minor=cost, platform_fee_minor=fee,
                basis_minor=price, promoter_brand_minor=commission, individual_minor=0, coupon_minor=coupon,
            )
        )  # fmt: skip
    return split_capture(lines)


@given(couponed(), st.data())
@settings(max_examples=200)
def test_any_refunds_of_a_couponed_order_sum_and_empty_exactly(
    order: OrderState, data: st.DataObject
) -> None:
    paid = order.left_minor
    coupons = sum(state.sale.coupon_minor for state in order.lines)
    returned = came_back = 0
    for _ in range(data.draw(st.integers(0, 4))):
        state = data.draw(st.sampled_from(order.lines))
        units = state.sale.quantity - state.returned.quantity
        if units and data.draw(st.booleans()):
            quantity = data.draw(st.integers(1, units))
            refund = refund_line(order, state.sale.line_id, quantity=quantity, supplier_accepts=True)
        else:
            refund = refund_amount(order, data.draw(st.integers(0, max(order.left_minor, 0))))
        assert refund.amount_minor == sum(taken.amount_minor for taken in refund.taken)
        order = refund.order
        returned += refund.amount_minor
        came_back -= sum(t.amount_minor for t in refund.taken if t.payee.kind is Part.COUPON)
        assert 0 <= came_back <= coupons
        assert 0 <= returned <= paid
    rest = refund_rest(order)
    assert returned + rest.amount_minor == paid
    assert came_back - sum(t.amount_minor for t in rest.taken if t.payee.kind is Part.COUPON) == coupons


# In the ledger


def captured_c1(parties: Parties, **other: object) -> CapturedLine:
    facts: dict[str, object] = {
        "order_line_id": OrderLineId.new(), "quantity": 2, "goods_minor": 9_000, "tax_minor": 600,
        "supplier_id": parties.supplier, "supplier_cost_minor": 4_000, "shipping_minor": 800,
        "shipping_tax_minor": 48, "supplier_shipping_minor": 800, "platform_fee_minor": 500,
        "coupon_minor": 1_000,
        "commission": (
            CommissionShare(str(parties.promoter_brand), Part.PROMOTER_BRAND, 1_000),
            CommissionShare(str(parties.individual), Part.INDIVIDUAL, 500),
        ),
    }  # fmt: skip
    return CapturedLine(**{**facts, **other})  # type: ignore[arg-type]


@pytest.fixture
def parties() -> Parties:
    return Parties()


async def captured(
    session: AsyncSession, clock: FixedClock, parties: Parties, lines: Sequence[CapturedLine]
) -> CapturedOrder:
    order = order_of(parties, lines)
    await service.open_split(session, order, clock=clock)
    return order


async def goodwill(session: AsyncSession) -> int:
    return sum(line.debit_minor for line in await ledger.trial_balance(session) if line.code is Code.GOODWILL)


async def test_r1_with_a_coupon_of_the_platform(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured(session, clock, parties, [captured_c1(parties)])
    assert await legs(session, f"capture:ch_1:{order.order_id}") == {
        (P.PROVIDER_PENDING, "psp:stripe", 10_448),
        (P.GOODWILL, "platform:coupons", 1_000),
        (P.PENDING, f"party:{parties.merchant}", -4_000),
        (P.PENDING, f"party:{parties.supplier}", -4_800),
        (P.PENDING, f"party:{parties.promoter_brand}", -1_000),
        (P.PENDING, f"party:{parties.individual}", -500),
        (P.FEE_DEFERRED, "platform", -500),
        (P.TAX, "tax:CN", -648),
    }
    identity = await queries.order_identity(session, order.order_id)
    assert (identity.customer_paid_minor, identity.coupon_minor, identity.holds) == (10_448, 1_000, True)


async def test_a_refund_gives_the_customer_what_it_paid(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    order = await captured(session, clock, parties, [captured_c1(parties)])
    line = order.lines[0].order_line_id
    first, rest = RefundId.new(), RefundId.new()

    plan = RefundPlan(first, order.order_id, lines=[LineRefund(line, 1)])
    reserved = await service.reserve_refund(session, plan, now=PAID_AT)
    assert reserved.amount_minor == 4_800
    assert await goodwill(session) == 500
    assert (await queries.order_identity(session, order.order_id)).holds

    plan = RefundPlan(rest, order.order_id, everything=True)
    assert (await service.reserve_refund(session, plan, now=PAID_AT)).amount_minor == 10_448 - 4_800
    assert await goodwill(session) == 0
    await service.void_refund(session, rest, now=PAID_AT)
    assert await goodwill(session) == 500
    assert (await queries.order_identity(session, order.order_id)).holds
    assert await ledger.unbalanced_journals(session) == 0


async def test_a_promoters_coupon_beyond_its_commission_is_owed_by_it(
    session: AsyncSession, clock: FixedClock, parties: Parties
) -> None:
    """Nobody was credited for the sale, so the promoter's own coupon of 1,000 is all its debt."""
    line = captured_c1(parties, commission=(), coupon_payee_id=str(parties.promoter_brand))
    order = await captured(session, clock, parties, [line])
    booked = await legs(session, f"capture:ch_1:{order.order_id}")
    assert (P.RECEIVABLE, f"party:{parties.promoter_brand}", 1_000) in booked
    assert (P.PENDING, f"party:{parties.merchant}", -5_500) in booked
    assert (await queries.order_identity(session, order.order_id)).holds

    refund_id = RefundId.new()
    plan = RefundPlan(refund_id, order.order_id, everything=True)
    assert (await service.reserve_refund(session, plan, now=PAID_AT)).amount_minor == 10_448
    (balance,) = await queries.party_balances(session, [str(parties.promoter_brand)])
    assert (balance.available_minor, balance.receivable_minor, balance.net_minor) == (1_000, 1_000, 0)
    assert (await queries.order_identity(session, order.order_id)).holds

    # It is paid off with it; then the bank refuses the refund.
    cycle = [(str(parties.promoter_brand), "CNY", None)]
    await service.net_receivables(session, "c", cycle, now=PAID_AT)
    await service.void_refund(session, refund_id, now=PAID_AT)
    (balance,) = await queries.party_balances(session, [str(parties.promoter_brand)])
    assert (balance.available_minor, balance.receivable_minor) == (0, 1_000)
    assert (await queries.order_identity(session, order.order_id)).holds
