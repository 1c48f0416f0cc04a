"""What a cart would cost and who would ship it, with everything that keeps it from being bought.

A quote changes nothing. Placing an order makes a quote inside its transaction and refuses unless it is clean.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.errors import LianyuError
from core.ids import BrandId, LocationId, OrderLineId, SupplierId, TenantId, VariantId
from marketplace.catalog import queries as catalog
from marketplace.catalog.queries import VariantForSale
from marketplace.orders import selling
from marketplace.orders.cart import CartLineView, CartView
from marketplace.orders.discounts import Discountable, discounts_of
from marketplace.orders.errors import (
    AddressNotServed,
    CartEmpty,
    NoPriceInCurrency,
    NotSellableHere,
    OutOfStock,
    PriceChanged,
)
from marketplace.orders.pricing import (
    PricedLine,
    SourcedLine,
    TaxRule,
    Totals,
    price_lines,
    spread_shipment,
    totals_of,
)
from marketplace.promotion.agreements.promises import Promise
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.coupons.codes import Coupon
from marketplace.promotion.errors import CouponNotUsable
from supply.routing import service as routing
from supply.routing.eligibility import LineFact, OrderNeed, RejectCode
from supply.routing.models import RoutingMode
from supply.routing.router import LineDecision, RoutingOutcome


@dataclass(frozen=True, slots=True)
class MerchantQuote:
    """One merchant's part: it becomes one order. ``ids`` gives each priced line its future order line."""

    merchant_id: BrandId
    lines: tuple[PricedLine, ...]
    line_ids: tuple[OrderLineId, ...]
    routing: RoutingOutcome

    @property
    def totals(self) -> Totals:
        return totals_of(self.lines)


@dataclass(frozen=True, slots=True)
class Quote:
    currency: str
    merchants: tuple[MerchantQuote, ...]
    problems: tuple[LianyuError, ...]
    coupon: Coupon | None = None
    """The one that was applied; its discount is in the lines."""

    @property
    def totals(self) -> Totals:
        return totals_of([line for merchant in self.merchants for line in merchant.lines])


async def quote_cart(session: AsyncSession, cart: CartView, *, zone: str, clock: Clock) -> Quote:
    """Price, tax and route a cart to ``zone``. Problems are listed, never raised."""
    if not cart.lines:
        return Quote(cart.currency, (), (CartEmpty(),))
    variants = await catalog.variants_for_sale(
        session, [line.variant_id for line in cart.lines], currency=cart.currency
    )
    allowed = await selling.sellable(session, cart.brand_id, at=clock.now())
    problems: list[LianyuError] = []
    wanted: dict[BrandId, list[CartLineView]] = defaultdict(list)
    for line in cart.lines:
        variant = variants.get(line.variant_id)
        problem = _problem_of(line, variant, allowed, cart.currency)
        if problem is not None:
            problems.append(problem)
        if variant is not None and not isinstance(problem, NotSellableHere | NoPriceInCurrency):
            wanted[variant.brand_id].append(line)
    taxes = await catalog.tax_rate(session, zone[:2], {v.category for v in variants.values()})
    rules = {category: TaxRule(tax.rate_ppm, tax.included) for category, tax in taxes.items()}
    merchants = []
    for merchant_id in sorted(wanted):
        merchant, unserved = await _route_merchant(
            session, merchant_id, wanted[merchant_id], variants, rules,
            currency=cart.currency, zone=zone, clock=clock,
        )  # fmt: skip
        problems += unserved
        merchants.append(merchant)
    if cart.coupon_code is None or not merchants:
        return Quote(cart.currency, tuple(merchants), tuple(problems))
    promised = {variant.variant_id: allowed.promises(variant) for variant in variants.values()}
    try:
        coupon, discounted = await _with_coupon(session, cart, merchants, promised, clock=clock)
    except CouponNotUsable as problem:
        return Quote(cart.currency, tuple(merchants), (*problems, problem))
    return Quote(cart.currency, discounted, tuple(problems), coupon)


async def _with_coupon(
    session: AsyncSession,
    cart: CartView,
    merchants: Sequence[MerchantQuote],
    promised: Mapping[VariantId, Sequence[Promise]],
    *,
    clock: Clock,
) -> tuple[Coupon, tuple[MerchantQuote, ...]]:
    """The cart's coupon taken off its lines: the first of that code that can be used. Raises ``CouponNotUsable``."""
    assert cart.coupon_code is not None
    lines = [
        Discountable(line.source, promised[line.source.variant_id]) for m in merchants for line in m.lines
    ]
    owners: set[TenantId] = {cart.brand_id}
    for each in lines:
        owners |= {each.line.merchant_id, each.line.supplier_id}
    found = await coupons.coupons_named(session, cart.coupon_code, owners)
    # The storefront's own goes first, the platform's last.
    found.sort(key=lambda each: (each.owner_id is None, each.owner_id != cart.brand_id, each.id))
    refused = CouponNotUsable(cart.coupon_code, "unknown")
    for coupon in found:
        obstacle = coupon.obstacle(currency=cart.currency, at=clock.now())
        if obstacle is not None:
            refused = CouponNotUsable(coupon.code, obstacle)
            continue
        try:
            return coupon, _discounted(merchants, discounts_of(coupon, lines, seller=cart.brand_id), coupon)
        except CouponNotUsable as refusal:
            refused = refusal
    raise refused


def _discounted(
    merchants: Sequence[MerchantQuote], discounts: Sequence[int], coupon: Coupon
) -> tuple[MerchantQuote, ...]:
    left = iter(discounts)
    quotes = []
    for merchant in merchants:
        priced = price_lines(
            [line.source for line in merchant.lines],
            [line.shipping_minor for line in merchant.lines],
            [next(left) for _ in merchant.lines],
            funder=coupon.funder,
        )
        quotes.append(replace(merchant, lines=tuple(priced)))
    return tuple(quotes)


def _problem_of(
    line: CartLineView, variant: VariantForSale | None, allowed: selling.Sellable, currency: str
) -> LianyuError | None:
    if variant is None or not allowed.covers(variant):
        return NotSellableHere(line.variant_id, line.id)
    if variant.price is None:
        return NoPriceInCurrency(line.variant_id, currency)
    if variant.price != line.quoted:
        return PriceChanged(line.id, line.quoted, variant.price)
    return None


async def _route_merchant(
    session: AsyncSession,
    merchant_id: BrandId,
    lines: Sequence[CartLineView],
    variants: Mapping[VariantId, VariantForSale],
    taxes: Mapping[str, TaxRule],
    *,
    currency: str,
    zone: str,
    clock: Clock,
) -> tuple[MerchantQuote, list[LianyuError]]:
    ids = {str(OrderLineId.new()): line for line in lines}
    need = OrderNeed(
        lines=tuple(
            LineFact(key, str(line.variant_id), line.quantity, variants[line.variant_id].weight_g)
            for key, line in ids.items()
        ),
        brand_id=str(merchant_id),
        dest_zone=zone,
        currency=currency,
        at=clock.now(),
    )
    outcome = await routing.plan(session, need, mode=RoutingMode.CHECKOUT)
    served = [d for d in outcome.decisions if d.location_id is not None]
    sourced = [_sourced(d, ids[d.line_id], variants[ids[d.line_id].variant_id], taxes) for d in served]
    priced = price_lines(sourced, _freight_shares(served, sourced))
    # The first piece of a line keeps the id it was routed under; further pieces are lines of their own.
    line_ids = [OrderLineId.parse(d.line_id) if d.piece == 0 else OrderLineId.new() for d in served]
    problems = [_unserved(key, ids[key], outcome, zone) for key, _ in outcome.unfilled]
    return MerchantQuote(merchant_id, tuple(priced), tuple(line_ids), outcome), problems


def _sourced(
    decision: LineDecision, line: CartLineView, variant: VariantForSale, taxes: Mapping[str, TaxRule]
) -> SourcedLine:
    assert decision.cost is not None
    assert decision.supplier_id is not None
    assert decision.location_id is not None
    assert variant.price is not None
    return SourcedLine(
        cart_line_id=line.id,
        merchant_id=variant.brand_id,
        variant_id=variant.variant_id,
        product_id=variant.product_id,
        sku=variant.sku,
        title=_title(variant),
        category=variant.category,
        quantity=decision.quantity,
        weight_g=variant.weight_g,
        unit_price_minor=variant.price.amount_minor,
        tax=taxes.get(variant.category, TaxRule(0, False)),
        supplier_id=SupplierId.parse(decision.supplier_id),
        location_id=LocationId.parse(decision.location_id),
        unit_cost_minor=decision.cost.goods_minor // decision.quantity,
    )


def _title(variant: VariantForSale) -> str:
    """Product and variant together, once: what the order, the supplier and the statement call it."""
    if not variant.title or variant.title == variant.product_title:
        return variant.product_title
    return f"{variant.product_title} {variant.title}"


def _freight_shares(decisions: Sequence[LineDecision], lines: Sequence[SourcedLine]) -> list[int]:
    """Each line's shipping: its own freight, and its part of what its shipment costs once."""
    shipments: dict[str | None, list[int]] = defaultdict(list)
    for index, decision in enumerate(decisions):
        shipments[decision.location_id].append(index)
    shares = [d.cost.freight_minor if d.cost else 0 for d in decisions]
    for members in shipments.values():
        first = decisions[members[0]].cost
        assert first is not None
        once = first.base_freight_minor + first.handling_minor
        goods = [lines[i].unit_price_minor * lines[i].quantity for i in members]
        for index, part in zip(members, spread_shipment(once, goods), strict=True):
            shares[index] += part
    return shares


def _unserved(key: str, line: CartLineView, outcome: RoutingOutcome, zone: str) -> LianyuError:
    """Stock is the reason when somebody would ship it there; else the address is."""
    codes = {c.reject_code for c in outcome.candidates if c.line_id == key}
    if codes <= {RejectCode.ZONE_NOT_SERVED} and codes:
        return AddressNotServed(line.id, zone)
    available = sum(d.quantity for d in outcome.decisions if d.line_id == key and d.location_id)
    return OutOfStock(line.id, line.quantity, available)
