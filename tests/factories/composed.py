"""A line and its shipping as composition sees them: order O1 of money.md §2 unless a test says otherwise."""

from __future__ import annotations

from supply.settlement.composition import LineSale, ShippingSale

O1_SHIPPING = ShippingSale("shipping", 800, 48, "merchant", "supplier", 800)


def sold_line(**other: object) -> LineSale:
    """2 × 5,000 less a coupon of 1,000 of the merchant's, 6 % tax, CPS 15 %, platform fee 5 %."""
    facts: dict[str, object] = {
        "line_id": "line", "quantity": 2, "goods_minor": 9_000, "tax_minor": 540, "merchant_id": "merchant",
        "supplier_id": "supplier", "supplier_cost_minor": 4_000, "platform_fee_minor": 450,
        "basis_minor": 9_000, "promoter_brand_id": "brand", "individual_id": "person",
        "promoter_brand_minor": 900, "individual_minor": 450,
    }  # fmt: skip
    return LineSale(**{**facts, **other})  # type: ignore[arg-type]
