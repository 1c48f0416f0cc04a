"""Refunds of O1 on the sharing rail, composed: the figures of money.md §2, R6 to R6b, and who carries what there.

The merchant is the seller on that rail, so tax is its own part; it also bears what an individual was paid already.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.actor import SYSTEM
from core.ids import BrandId, OrderId, RefundId
from supply.ledger.chart import Code
from supply.settlement.capture import book_of
from supply.settlement.composition import RefundTooLarge
from supply.settlement.errors import NothingToRefund
from supply.settlement.rails import queries, service
from supply.settlement.rails.errors import RailRefundChanged, RailRefundTooLarge
from supply.settlement.rails.models import RailRefundStatus
from supply.settlement.rails.splits import borne, give_back, split_body, split_of
from supply.settlement.refunds import LineRefund, RefundPlan, ShippingRefund, compose
from supply.settlement.undoing import moved, positions
from tests.factories.settlement import PAID_AT, Parties, line_of_o1, order_of
from tests.factories.shared_order import MERCHANT, RAIL, Paid, deliver, everybody

FROZEN = (Code.RAIL_FROZEN, f"rail:{RAIL}")


def plan(paid: Paid, refund: RefundId | None = None, **asked: Any) -> RefundPlan:
    return RefundPlan(refund or RefundId.new(), paid.order_id, **asked)


def units(paid: Paid, quantity: int, *, accepts: bool = True) -> list[LineRefund]:
    return [LineRefund(paid.order.lines[0].order_line_id, quantity, accepts)]


async def refund(paid: Paid, asked: RefundPlan) -> dict[str, int]:
    """By the names of the parties."""
    async with paid.db.unit_of_work(SYSTEM) as session:
        shares = await service.refund_shared(session, asked, now=paid.clock.now())
    names = {
        str(paid.parties.merchant): "merchant", str(paid.parties.supplier): "supplier",
        str(paid.parties.promoter_brand): "brand", str(paid.parties.individual): "person",
    }  # fmt: skip
    return {names.get(payee, payee): amount for payee, amount in shares.items()}


async def refunded(paid: Paid) -> int:
    payment = await paid.rail.retrieve_payment(
        merchant_id=paid.payment.merchant_id, trade_no=paid.payment.trade_no
    )
    return payment.refunded_minor


async def test_one_of_two_units_that_the_supplier_takes_back(o1: Paid) -> None:
    # R6: 1,600 + 270 tax from the merchant.
    assert await refund(o1, plan(o1, lines=units(o1, 1))) == {
        "merchant": 1_870, "supplier": 2_000, "brand": 450, "person": 225, "platform": 225,
    }  # fmt: skip
    await o1.sweep()
    assert await refunded(o1) == 4_770


async def test_what_the_merchants_part_does_not_bear_is_refused(o1: Paid) -> None:
    # R6a: 3,200 + 400 + 270 are the merchant's; 3,726 of the frozen money and the fee of 62 are. Nobody owes on a rail.
    before = await o1.memo()
    with pytest.raises(RailRefundTooLarge) as refused:
        await refund(o1, plan(o1, lines=units(o1, 1, accepts=False)))
    assert (refused.value.asked_minor, refused.value.most_minor) == (3_870, 3_788)
    assert await o1.memo() == before
    # For less than its price: 3,200 of 9,000, so tax 192, fee 160, commission 480; the merchant's are the other 2,560.
    line = LineRefund(o1.order.lines[0].order_line_id, 1, supplier_accepts=False, goods_minor=3_200)
    assert await refund(o1, plan(o1, lines=[line])) == {
        "merchant": 2_560 + 192, "brand": 320, "person": 160, "platform": 160,
    }  # fmt: skip


async def test_an_amount_with_no_line_behind_it_is_shared_over_what_each_holds(o1: Paid) -> None:
    # R6b: 4,770 over 3,200, 4,800, 900, 450, 450 and the tax of 588.
    assert await refund(o1, plan(o1, amount_minor=4_770)) == {
        "merchant": 1_469 + 270, "supplier": 2_204, "brand": 413, "person": 207, "platform": 207,
    }  # fmt: skip


async def test_what_an_individual_was_paid_is_carried_by_the_merchant_whoever_composes(o1: Paid) -> None:
    await deliver(o1)
    await o1.sweep()
    await o1.sweep(days=15)
    shares = await refund(o1, plan(o1, lines=units(o1, 1)))
    assert shares["person"] == 225  # its part of the refund …
    await o1.sweep()
    await o1.sweep(days=2)
    assert await refunded(o1) == 4_770
    assert o1.received(str(o1.parties.individual)) == 450  # … which it keeps
    assert o1.received(str(o1.parties.merchant)) == MERCHANT - 1_870 + 28 - 225
    assert o1.received(str(o1.parties.supplier)) == 4_800 - 2_000
    assert FROZEN not in await o1.memo()


async def test_slices_empty_every_share_and_nothing_is_refunded_twice(o1: Paid) -> None:
    first = plan(o1, lines=units(o1, 1))
    one = await refund(o1, first)
    assert await refund(o1, first) == one
    with pytest.raises(RailRefundChanged):
        await refund(o1, plan(o1, first.refund_id, lines=units(o1, 2)))
    two = await refund(o1, plan(o1, shipping=[ShippingRefund(amount_minor=300)]))
    assert two == {"supplier": 300, "merchant": 18}  # 48 tax of 800: 18
    three = await refund(o1, plan(o1, everything=True))
    for nothing in ({"everything": True}, {"lines": units(o1, 1)}):
        with pytest.raises(NothingToRefund):
            await refund(o1, plan(o1, **nothing))
    await o1.sweep()

    total = {name: one.get(name, 0) + two.get(name, 0) + three.get(name, 0) for name in one}
    # 3,200 + 588 of the merchant, and everybody's share.
    assert total == {"merchant": 3_788, "supplier": 4_800, "brand": 900, "person": 450, "platform": 450}
    assert await refunded(o1) == 10_388
    await deliver(o1)
    await o1.sweep(days=17)
    assert {payee: o1.received(payee) for payee in everybody(o1)} == dict.fromkeys(everybody(o1), 0)
    assert await o1.memo() == {}


async def test_one_that_is_voided_gives_the_split_back_what_it_took_and_no_more(o1: Paid) -> None:
    kept = await refund(o1, plan(o1, amount_minor=1_000))
    o1.paysim.fault("return_failure")
    await deliver(o1)
    await o1.sweep()  # the supplier is paid, and has nothing to give back
    lost = plan(o1, lines=units(o1, 1))
    taken = await refund(o1, lost)
    await o1.sweep()
    async with o1.db.unit_of_work(SYSTEM) as session:
        (row,) = [
            each
            for each in await queries.rail_refunds(session, SYSTEM, o1.order_id)
            if each.refund_id == lost.refund_id
        ]
        assert row.status is RailRefundStatus.REFUSED
        assert sum(row.borne.values()) == sum(taken.values())
        await service.void_shared_refund(session, lost.refund_id, now=o1.clock.now())

    again = await refund(o1, plan(o1, lines=units(o1, 1)))

    assert again == taken
    assert sum(kept.values()) == 1_000


class _Row:
    """A row of ``rail_orders``, as far as its split is concerned."""

    def __init__(self, order: Any) -> None:
        self.order_id, self.merchant_id, self.currency = order.order_id, order.merchant_id, order.currency
        self.rail, self.payment_id, self.paid_at, self.return_window_days = "rail", "pay", PAID_AT, 15
        book = book_of(order)
        self.paid_minor, self.split = book.captured_minor, split_body(book)


SLICES = st.lists(
    st.one_of(
        st.tuples(st.just("units"), st.integers(1, 2), st.booleans()),
        st.tuples(st.just("amount"), st.integers(1, 4_000)),
        st.tuples(st.just("shipping"), st.integers(1, 400)),
        st.tuples(st.just("undo"), st.integers(0, 5)),
    ),
    max_size=8,
)


@settings(max_examples=150)
@given(slices=SLICES)
def test_shares_sum_to_the_refund_and_the_rest_empties_everybody(slices: list[tuple[Any, ...]]) -> None:
    parties = Parties()
    order = order_of(parties, [line_of_o1(parties)])
    row, merchant, done = _Row(order), str(BrandId.of(parties.merchant)), list[list[Any]]()
    given_back: dict[str, int] = {}
    line = order.lines[0].order_line_id

    def one(**asked: Any) -> None:
        book = split_of(row)
        state, taken = compose(book, RefundPlan(RefundId.new(), OrderId.of(order.order_id), **asked))
        shares = borne(merchant, taken)
        assert sum(shares.values()) == sum(each.amount_minor for each in taken)
        before = positions(book)
        book.take_over(state)
        done.append([moved(before, positions(book)), shares])
        row.split = split_body(book)
        for payee, amount in shares.items():
            given_back[payee] = given_back.get(payee, 0) + amount

    for step in slices:
        try:
            if step[0] == "units":
                one(lines=[LineRefund(line, step[1], step[2])])
            elif step[0] == "amount":
                one(amount_minor=step[1])
            elif step[0] == "shipping":
                one(shipping=[ShippingRefund(amount_minor=step[1])])
            elif step[1] < len(done):
                changes, shares = done.pop(step[1])
                book = split_of(row)
                give_back(book, changes)
                row.split = split_body(book)
                for payee, amount in shares.items():
                    given_back[payee] -= amount
        except RefundTooLarge:
            continue
    one(everything=True)

    assert {payee: amount for payee, amount in given_back.items() if amount} == {
        merchant: 3_788, str(parties.supplier): 4_800, str(parties.promoter_brand): 900,
        str(parties.individual): 450, "platform": 450,
    }  # fmt: skip
