"""Prices, tax and shipping of a checkout; figures from money.md §2 (order O1) or worked on paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import BrandId, CartLineId, LocationId, ProductId, SupplierId, VariantId
from marketplace.orders.pricing import (
    SourcedLine,
    TaxRule,
    included_tax,
    price_lines,
    spread_shipment,
    totals_of,
)

LINE = SourcedLine(
    cart_line_id=CartLineId.new(),
    merchant_id=BrandId.new(),
    variant_id=VariantId.new(),
    product_id=ProductId.new(),
    sku="A",
    title="A",
    category="beauty",
    quantity=2,
    weight_g=100,
    unit_price_minor=4_500,
    tax=TaxRule(60_000, included=False),
    supplier_id=SupplierId.new(),
    location_id=LocationId.new(),
    unit_cost_minor=2_000,
)


def test_tax_on_top_is_on_goods_and_shipping_together() -> None:
    # O1: goods 9,000 after the coupon, shipping 800, 6 % on 9,800 = 588, the customer pays 10,388.
    (line,) = price_lines([LINE], [800])

    assert line.tax_minor + line.shipping_tax_minor == 588
    assert (line.tax_minor, line.shipping_tax_minor) == (540, 48)
    assert line.supplier_cost_minor == 4_000
    assert totals_of([line]).total_minor == 10_388


def test_tax_inside_the_price_changes_nothing_the_shopper_pays() -> None:
    # 13 % inside 113.00 is 13.00.
    inside = replace(LINE, quantity=1, unit_price_minor=11_300, tax=TaxRule(130_000, included=True))

    (line,) = price_lines([inside], [800])

    assert line.tax_minor == 1_300
    assert line.shipping_tax_minor == 0
    assert totals_of([line]).tax_minor == 0
    assert line.total_minor == 12_100


@pytest.mark.parametrize(
    ("gross", "ppm", "tax"),
    [(11_300, 130_000, 1_300), (1, 130_000, 0), (5, 130_000, 1), (0, 130_000, 0), (10_000, 0, 0)],
)
def test_included_tax_is_rounded_half_up(gross: int, ppm: int, tax: int) -> None:
    # 5 x 13/113 = 0.575 → 1; 1 x 13/113 = 0.115 → 0
    assert included_tax(gross, ppm) == tax


def test_a_shipments_freight_is_shared_by_the_goods_in_it() -> None:
    # 1000 over 1:2 → 333.33 / 666.67: the larger fraction gets the left-over unit.
    assert spread_shipment(1_000, [100, 200]) == [333, 667]
    assert spread_shipment(1_001, [0, 0]) == [501, 500]


@given(
    amounts=st.lists(
        st.tuples(st.integers(0, 10**7), st.integers(1, 50), st.integers(0, 10**5)), min_size=1, max_size=8
    ),
    ppm=st.integers(0, 300_000),
    included=st.booleans(),
)
def test_lines_always_sum_to_what_is_charged(
    amounts: list[tuple[int, int, int]], ppm: int, included: bool
) -> None:
    lines = [
        replace(LINE, unit_price_minor=price, quantity=quantity, tax=TaxRule(ppm, included))
        for price, quantity, _ in amounts
    ]

    priced = price_lines(lines, [freight for *_, freight in amounts])

    assert sum(line.total_minor for line in priced) == totals_of(priced).total_minor
    assert all(line.tax_minor >= 0 and line.shipping_tax_minor >= 0 for line in priced)
    for line in priced:
        assert not included or line.tax_minor <= line.gross_minor
