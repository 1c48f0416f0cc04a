"""The worked order O1 of the money contract to the cent, and the properties every sequence must keep."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supply.settlement.composition import (
    LineSale,
    OrderState,
    Part,
    Payee,
    Refund,
    RefundTooLarge,
    ShippingSale,
    refund_amount,
    refund_line,
    refund_rest,
    refund_shipping,
    split_capture,
)
from tests.factories.composed import O1_SHIPPING, sold_line

O1_LINE = sold_line()


def o1() -> OrderState:
    return split_capture([O1_LINE], [O1_SHIPPING])


def in_payee_order(shares: dict[Payee, int]) -> list[int]:
    """[merchant, supplier, promoter brand, individual, platform, tax]"""
    kinds = [
        Part.MERCHANT,
        Part.SUPPLIER,
        Part.PROMOTER_BRAND,
        Part.INDIVIDUAL,
        Part.PLATFORM_FEE,
        Part.TAX,
    ]
    return [sum(n for payee, n in shares.items() if payee.kind is kind) for kind in kinds]


def amounts(refund: Refund) -> list[int]:
    return in_payee_order(refund.by_payee)


def test_r1_the_capture_of_o1() -> None:
    order = o1()

    assert in_payee_order(order.held) == [3_200, 4_800, 900, 450, 450, 588]
    assert order.left_minor == 10_388


def test_r5a_the_full_refund_takes_back_every_share() -> None:
    refund = refund_rest(o1())

    assert amounts(refund) == [3_200, 4_800, 900, 450, 450, 588]
    assert refund.amount_minor == 10_388
    assert refund.order.left_minor == 0


def test_r6_one_of_two_units_back_with_the_supplier_accepting() -> None:
    refund = refund_line(o1(), "line", quantity=1, supplier_accepts=True)

    assert amounts(refund) == [1_600, 2_000, 450, 225, 225, 270]
    assert (refund.amount_minor, refund.merchant_beyond_minor) == (4_770, 0)


def test_r6a_the_merchant_carries_what_the_supplier_does_not_accept() -> None:
    refund = refund_line(o1(), "line", quantity=1, supplier_accepts=False)

    assert amounts(refund) == [3_600, 0, 450, 225, 225, 270]
    assert (refund.amount_minor, refund.merchant_beyond_minor) == (4_770, 400)


def test_r6b_an_amount_without_a_line_is_spread_over_what_is_left() -> None:
    assert amounts(refund_amount(o1(), 4_770)) == [1_469, 2_204, 413, 207, 207, 270]


def test_r7_a_refund_after_payout_is_spread_the_same_way() -> None:
    assert amounts(refund_amount(o1(), 1_000)) == [308, 462, 87, 43, 43, 57]


def test_a_refund_of_shipping_alone_comes_from_who_received_it() -> None:
    refund = refund_shipping(o1(), "shipping", amount_minor=400)

    assert amounts(refund) == [0, 400, 0, 0, 0, 24]


def test_shipping_the_merchant_kept_a_part_of_comes_back_from_both() -> None:
    order = split_capture([], [ShippingSale("s", 1_000, 0, "merchant", "supplier", 700)])

    refund = refund_shipping(order, "s", amount_minor=500)

    assert amounts(refund) == [150, 350, 0, 0, 0, 0]


def test_goodwill_on_a_line_lowers_commission_fee_and_tax_and_leaves_the_supplier() -> None:
    # 900 of 9,000: a tenth of tax 540, fee 450, commission 900 + 450; the merchant carries the rest.
    refund = refund_line(o1(), "line", quantity=0, supplier_accepts=False, goods_minor=900)

    assert amounts(refund) == [720, 0, 90, 45, 45, 54]


def test_units_after_goodwill_refund_what_the_customer_really_paid() -> None:
    order = refund_line(o1(), "line", quantity=0, supplier_accepts=False, goods_minor=100).order

    first = refund_line(order, "line", quantity=1, supplier_accepts=True)
    second = refund_line(first.order, "line", quantity=1, supplier_accepts=True)

    assert first.amount_minor + second.amount_minor == 9_540 - 106
    assert in_payee_order(second.order.held) == [0, 800, 0, 0, 0, 48]


def test_a_loss_making_line_leaves_the_merchant_owing_the_residual() -> None:
    order = split_capture([LineSale("l", 1, 100, 0, "m", "s", 130)])

    assert in_payee_order(order.held) == [-30, 130, 0, 0, 0, 0]
    assert amounts(refund_rest(order)) == [-30, 130, 0, 0, 0, 0]


@pytest.mark.parametrize("asked", [10_389, -1])
def test_more_than_is_left_is_refused(asked: int) -> None:
    with pytest.raises(RefundTooLarge):
        refund_amount(o1(), asked)


def test_a_third_unit_of_two_and_a_line_of_another_order_are_refused() -> None:
    with pytest.raises(RefundTooLarge):
        refund_line(o1(), "line", quantity=3, supplier_accepts=True)
    with pytest.raises(RefundTooLarge):
        refund_line(o1(), "line", quantity=0, supplier_accepts=True, goods_minor=9_001)
    with pytest.raises(RefundTooLarge):
        refund_shipping(o1(), "shipping", amount_minor=801)
    with pytest.raises(KeyError):
        refund_line(o1(), "other", quantity=1, supplier_accepts=True)


@st.composite
def orders(draw: st.DrawFn) -> OrderState:
    lines = []
    for number in range(draw(st.integers(1, 3))):
        goods = draw(st.integers(0, 20_000))
        supplier = draw(st.integers(0, goods))
        fee = draw(st.integers(0, (goods - supplier) // 3))
        shares = [draw(st.integers(0, (goods - supplier) // 6)) for _ in range(3)]
        lines.append(
            LineSale(
                f"l{number}",
                draw(st.integers(1, 7)),
                goods,
                draw(st.integers(0, goods // 5)),
                draw(st.sampled_from(["m1", "m2"])),
                draw(st.sampled_from(["s1", "s2"])),
                supplier,
                fee,
                goods,
                "brand",
                "person",
                *shares,
            )
        )
    charged = draw(st.integers(0, 2_000))
    freight = draw(st.integers(0, charged))
    shipping = ShippingSale("ship", charged, draw(st.integers(0, charged // 5)), "m1", "s1", freight)
    return split_capture(lines, [shipping])


def some_refund(data: st.DataObject, order: OrderState, *, accepts: bool) -> Refund:
    kind = data.draw(st.sampled_from(["units", "value", "shipping", "amount"]))
    line = data.draw(st.sampled_from(order.lines))
    line_id, was = line.sale.line_id, line.returned
    if kind == "units":
        units = data.draw(st.integers(0, line.sale.quantity - was.quantity))
        if units:
            return refund_line(order, line_id, quantity=units, supplier_accepts=accepts)
    try:
        if kind == "value":
            value = data.draw(st.integers(0, line.sale.goods_minor))
            return refund_line(order, line_id, quantity=0, supplier_accepts=accepts, goods_minor=value)
        if kind == "shipping":
            return refund_shipping(order, "ship", amount_minor=data.draw(st.integers(0, 2_000)))
    except RefundTooLarge:
        pass
    return refund_amount(order, data.draw(st.integers(0, order.left_minor)))


@settings(max_examples=80)
@given(orders(), st.data())
def test_any_refunds_sum_and_a_full_one_empties_every_share(order: OrderState, data: st.DataObject) -> None:
    paid, returned = order.left_minor, 0
    for _ in range(data.draw(st.integers(0, 6))):
        before = order.held
        refund = some_refund(data, order, accepts=True)
        order, returned = refund.order, returned + refund.amount_minor

        assert sum(refund.by_payee.values()) == refund.amount_minor
        assert 0 <= order.left_minor == paid - returned
        others = [p for p in before if p.kind is not Part.MERCHANT]
        assert all(0 <= order.held[p] <= before[p] for p in others)
    for line in order.lines:
        units = line.sale.quantity - line.returned.quantity
        if units:
            order = refund_line(order, line.sale.line_id, quantity=units, supplier_accepts=True).order
    last = refund_amount(order, order.left_minor) if order.left_minor else None
    order = last.order if last else order

    assert order.left_minor == 0


@settings(max_examples=80)
@given(orders(), st.data())
def test_a_line_returned_unit_by_unit_gives_back_exactly_what_it_brought(
    order: OrderState, data: st.DataObject
) -> None:
    whole = [line.sale.parts for line in order.lines]
    for index, line in enumerate(order.lines):
        left = line.sale.quantity
        while left:
            units = data.draw(st.integers(1, left))
            refund = refund_line(order, line.sale.line_id, quantity=units, supplier_accepts=True)
            order, left = refund.order, left - units
        assert order.lines[index].returned.by_line == whole[index]


@settings(max_examples=100)
@given(orders(), st.lists(st.integers(0, 5_000), max_size=8))
def test_amounts_in_any_slices_never_take_below_zero_and_empty_exactly(
    order: OrderState, slices: list[int]
) -> None:
    for amount in [*slices, None]:
        asked = order.left_minor if amount is None else min(amount, order.left_minor)
        refund = refund_amount(order, asked)
        assert refund.amount_minor == asked
        if all(n >= 0 for n in order.held.values()):
            assert all(0 <= n <= order.held[p] for p, n in refund.by_payee.items())
        order = refund.order

    assert order.left_minor == 0
