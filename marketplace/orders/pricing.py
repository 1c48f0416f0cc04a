"""What the shopper pays: pure arithmetic over prices the catalogue gave, never over the client's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from core.ids import BrandId, CartLineId, LocationId, ProductId, SupplierId, VariantId
from core.money import PPM, allocate_minor, half_up, rate_of
from marketplace.promotion.coupons.models import Funder


@dataclass(frozen=True, slots=True)
class TaxRule:
    """``included``: the price contains the tax, as where law wants consumer prices; else it comes on top."""

    rate_ppm: int
    included: bool


@dataclass(frozen=True, slots=True)
class SourcedLine:
    """A quantity of one SKU from one location, as the router decided, before prices are applied."""

    cart_line_id: CartLineId
    merchant_id: BrandId
    variant_id: VariantId
    product_id: ProductId
    sku: str
    title: str
    category: str
    quantity: int
    weight_g: int
    unit_price_minor: int
    tax: TaxRule
    supplier_id: SupplierId
    location_id: LocationId
    unit_cost_minor: int


@dataclass(frozen=True, slots=True)
class PricedLine:
    """``tax_minor`` is of the goods, ``shipping_tax_minor`` of the shipping (0 where prices contain tax).

    ``discount_minor`` is what a coupon takes off, at the cost of ``funder``.
    """

    source: SourcedLine
    gross_minor: int
    tax_minor: int
    shipping_minor: int
    shipping_tax_minor: int
    discount_minor: int = 0
    funder: Funder | None = None

    @property
    def supplier_cost_minor(self) -> int:
        return self.source.unit_cost_minor * self.source.quantity

    @property
    def total_minor(self) -> int:
        """What the shopper pays for this line, shipping and tax on top included."""
        return self.gross_minor - self.discount_minor + self.shipping_minor + self.tax_on_top_minor

    @property
    def tax_on_top_minor(self) -> int:
        return 0 if self.source.tax.included else self.tax_minor + self.shipping_tax_minor


def included_tax(gross_minor: int, rate_ppm: int) -> int:
    """The tax inside a price: ``half_up(g·t / (10^6 + t))`` (cps.md R1)."""
    return half_up(Fraction(gross_minor * rate_ppm, PPM + rate_ppm))


def price_lines(
    lines: Sequence[SourcedLine],
    freight_minor: Sequence[int],
    discounts_minor: Sequence[int] = (),
    *,
    funder: Funder | None = None,
) -> list[PricedLine]:
    """Prices and tax per line; ``freight_minor`` is each line's share of the shipping.

    Tax on top is on goods and shipping together (money.md §2, order O1); tax inside is of the goods. A discount of
    the merchant or the supplier lowers the price and the tax on it; what the platform or a promoter pays for the
    customer is still a part of the price.
    """
    priced = []
    discounts = discounts_minor or [0] * len(lines)
    for line, shipping, discount in zip(lines, freight_minor, discounts, strict=True):
        gross = line.unit_price_minor * line.quantity
        taxed = gross - discount if funder is not None and funder.lowers_price else gross
        if line.tax.included:
            goods_tax, shipping_tax = included_tax(taxed, line.tax.rate_ppm), 0
        else:
            goods_tax, shipping_tax = _tax_on_top(taxed, shipping, line.tax.rate_ppm)
        by = funder if discount else None
        priced.append(PricedLine(line, gross, goods_tax, shipping, shipping_tax, discount, by))
    return priced


def _tax_on_top(gross_minor: int, shipping_minor: int, rate_ppm: int) -> tuple[int, int]:
    """Rounded once over goods and shipping together, then shared, so that the sum is the tax of the sum."""
    tax = rate_of(gross_minor + shipping_minor, rate_ppm)
    if not tax:
        return 0, 0
    goods, shipping = allocate_minor(tax, [gross_minor, shipping_minor])
    return goods, shipping


def spread_shipment(freight_minor: int, gross_minor: Sequence[int]) -> list[int]:
    """One shipment's freight over its lines in proportion to their goods; evenly when all are free."""
    weights = list(gross_minor) if any(gross_minor) else [1] * len(gross_minor)
    return allocate_minor(freight_minor, weights)


@dataclass(frozen=True, slots=True)
class Totals:
    """``tax_minor`` is the tax on top; ``total_minor`` what is charged. ``goods_minor`` before ``discount_minor``."""

    goods_minor: int
    shipping_minor: int
    tax_minor: int
    discount_minor: int = 0

    @property
    def total_minor(self) -> int:
        return self.goods_minor - self.discount_minor + self.shipping_minor + self.tax_minor


def totals_of(lines: Sequence[PricedLine]) -> Totals:
    return Totals(
        goods_minor=sum(line.gross_minor for line in lines),
        shipping_minor=sum(line.shipping_minor for line in lines),
        tax_minor=sum(line.tax_on_top_minor for line in lines),
        discount_minor=sum(line.discount_minor for line in lines),
    )
