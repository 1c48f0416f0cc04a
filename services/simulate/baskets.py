"""Baskets and the orders they become: priced by the shop's own arithmetic, written many at a time.

The rows are those of a placed checkout (`marketplace.orders.checkout`); catalogue, stock and routing have their own
proofs and are left out, so that thousands of orders take seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import (
    BrandId,
    CartId,
    CartLineId,
    CheckoutId,
    LocationId,
    OrderId,
    OrderLineId,
    PaymentId,
    ProductId,
    SupplierId,
    TenantId,
    TouchId,
    VariantId,
)
from core.money import PPM
from infra.db.base import table_of
from infra.db.rows import insert_rows
from marketplace.orders.address import Address, address_key, buyer_key
from marketplace.orders.models import (
    Cart,
    CartStatus,
    Checkout,
    CheckoutStatus,
    FulfillmentStatus,
    Order,
    OrderLine,
    Payment,
    PaymentStatus,
)
from marketplace.orders.pricing import PricedLine, SourcedLine, TaxRule, price_lines, totals_of
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.touches.touch_token import TouchSigner
from services.simulate.market import COUNTRY, Market, Storefront

HOLD = timedelta(minutes=30)
"""How long a placed checkout waits for its payment."""
OLDEST_TOUCH = timedelta(hours=10)
FEE_PPM = 60_000
_TAXES = (TaxRule(0, included=False), TaxRule(60_000, included=False), TaxRule(130_000, included=True))
_TABLES = [table_of(model) for model in (Cart, Checkout, Order, OrderLine, Payment)]
_BUYERS = 60
_ADDRESS = Address(name="Anna", line1="1 Road", city="Shanghai", country=COUNTRY, region="SH")


@dataclass(frozen=True, slots=True)
class PlacedLine:
    """``pieces``: how many units each supplier delivers, which a re-route changes."""

    id: OrderLineId
    variant_id: VariantId
    pieces: Counter[SupplierId]


@dataclass(slots=True)
class PlacedOrder:
    """What the simulation remembers of an order. ``name`` is its number in the trace."""

    name: str
    id: OrderId
    checkout_id: CheckoutId
    merchant_id: BrandId
    currency: str
    total_minor: int
    lines: list[PlacedLine]
    arrived: set[OrderLineId] = field(default_factory=set)
    """Lines whose parcels are with the customer."""

    @property
    def delivered(self) -> bool:
        return len(self.arrived) == len(self.lines)


@dataclass(slots=True)
class PlacedCheckout:
    name: str
    id: CheckoutId
    currency: str
    total_minor: int
    expires_at: datetime
    orders: list[PlacedOrder] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A coupon of a basket: ``owner`` names the merchant or supplier whose goods it is for, if it is one's."""

    funder: Funder
    owner: TenantId | None
    off_ppm: int

    def off(self, line: SourcedLine) -> int:
        if self.owner not in (None, line.merchant_id, line.supplier_id):
            return 0
        price = line.unit_price_minor * line.quantity
        most = line.unit_cost_minor * line.quantity if self.funder is Funder.SUPPLIER else price
        return min(price * self.off_ppm // PPM, most)


class Shopper:
    """Draws baskets and places them."""

    def __init__(self, market: Market, dice: Random, secret: str) -> None:
        self._market, self._dice, self._secret = market, dice, secret
        self._signer = TouchSigner(secret)
        self.checkouts = self.orders = 0

    async def place(self, session: AsyncSession, count: int, now: datetime) -> list[PlacedCheckout]:
        """Up to ``count`` checkouts of one to six merchants each, in five statements."""
        placed, rows = [], [list[dict[str, Any]]() for _ in _TABLES]
        for _ in range(count):
            placed.append(self._checkout(rows, now))
        for table, some in zip(_TABLES, rows, strict=True):
            await insert_rows(session, table, some)
        return placed

    def _checkout(self, rows: Sequence[list[dict[str, Any]]], now: datetime) -> PlacedCheckout:
        carts, checkouts, orders, lines, payments = rows
        dice, shop = self._dice, self._dice.choice(self._market.storefronts)
        self.checkouts += 1
        merchants = dice.sample(self._market.brands, dice.choice([1, 2, 3, 4, 5, 6]))
        checkout = PlacedCheckout(
            f"checkout {self.checkouts}", CheckoutId.new(), shop.currency, 0, now + HOLD
        )
        buyer = f"buyer{dice.randrange(_BUYERS)}@shoppers.example"
        cart_id, sold, coupon = CartId.new(), list[PricedLine](), self._coupon(merchants)
        carts.append(self._cart_row(cart_id, shop, merchants, now))
        for merchant in merchants:
            priced = self._priced(merchant, shop, coupon)
            order = self._order(checkout, merchant, priced)
            orders.append(self._order_row(order, checkout, shop, priced, buyer, now))
            lines += [
                _line_row(line.id, order, shop, each) for line, each in zip(order.lines, priced, strict=True)
            ]
            sold += priced
        totals = totals_of(sold)
        checkout.total_minor = totals.total_minor
        money = {
            "goods_minor": totals.goods_minor, "discount_minor": totals.discount_minor,
            "shipping_minor": totals.shipping_minor, "tax_minor": totals.tax_minor,
            "total_minor": totals.total_minor,
        }  # fmt: skip
        checkouts.append(
            {
                "id": checkout.id, "cart_id": cart_id, "storefront_id": shop.id, "brand_id": shop.brand_id,
                "currency": shop.currency, "buyer_key": buyer_key(self._secret, buyer),
                "address": _ADDRESS.as_json(), "address_key": address_key(self._secret, _ADDRESS),
                "dest_zone": _ADDRESS.zone, "email": buyer, "status": CheckoutStatus.PLACED.value,
                "started_at": now, "placed_at": now, "expires_at": checkout.expires_at, **money,
            }
        )  # fmt: skip
        payments.append(
            {
                "id": PaymentId.new(), "checkout_id": checkout.id, "brand_id": shop.brand_id,
                "currency": shop.currency, "amount_minor": totals.total_minor,
                "status": PaymentStatus.PENDING.value, "captured_minor": 0, "refunded_minor": 0,
                "created_at": now,
            }
        )  # fmt: skip
        return checkout

    def _cart_row(
        self, cart_id: CartId, shop: Storefront, merchants: Sequence[BrandId], now: datetime
    ) -> dict[str, Any]:
        """Its touches: through none, one or several links of the storefront's brand per merchant."""
        dice, tokens = self._dice, []
        for merchant in merchants:
            links = self._market.links_of(shop, merchant)
            for link in dice.sample(links, min(dice.choice([0, 1, 1, 2]), len(links))):
                at = now - timedelta(minutes=dice.randrange(1, OLDEST_TOUCH // timedelta(minutes=1)))
                tokens.append(self._signer.token(TouchId.new(), link, at))
        return {
            "id": cart_id, "storefront_id": shop.id, "brand_id": shop.brand_id, "currency": shop.currency,
            "country": COUNTRY, "touch_tokens": tokens, "session_key": "", "status": CartStatus.ORDERED.value,
            "version": 1, "created_at": now, "updated_at": now,
        }  # fmt: skip

    def _coupon(self, merchants: Sequence[BrandId]) -> Drawn | None:
        """One for every third basket, at the cost of anybody who may make one."""
        dice = self._dice
        if dice.randrange(3):
            return None
        funder = dice.choice(list(Funder))
        owners = {Funder.ADVERTISER: merchants[0], Funder.SUPPLIER: dice.choice(self._market.suppliers)}
        # A promoter gives no more than the least that an agreement promises it.
        return Drawn(
            funder, owners.get(funder), 30_000 if funder is Funder.PROMOTER else dice.randrange(300_000)
        )

    def _priced(self, merchant: BrandId, shop: Storefront, coupon: Drawn | None) -> list[PricedLine]:
        dice = self._dice
        # The last digit of a three-decimal currency cannot be charged.
        step = 10 if shop.currency == "KWD" else 1
        tax = _TAXES[0] if step > 1 else dice.choice(_TAXES)
        sourced = []
        for _ in range(dice.choice([1, 1, 1, 2, 3])):
            price = step * dice.choice([dice.randrange(1, 40), dice.randrange(200, 20_000)])
            cost = price * dice.randrange(10, 75) // 100
            sourced.append(
                SourcedLine(
                    CartLineId.new(), merchant, VariantId.new(), ProductId.new(), "SKU", "Thing", "things",
                    dice.choice([1, 1, 2, 3, 5]), 500, price, tax, dice.choice(self._market.suppliers),
                    LocationId.new(), cost,
                )
            )  # fmt: skip
        freight = [step * dice.choice([0, 0, 80, 95]) for _ in sourced]
        if coupon is None or (coupon.funder is Funder.PROMOTER and merchant == shop.brand_id):
            return price_lines(sourced, freight)
        off = [coupon.off(line) // step * step for line in sourced]
        return price_lines(sourced, freight, off, funder=coupon.funder)

    def _order(
        self, checkout: PlacedCheckout, merchant: BrandId, priced: Sequence[PricedLine]
    ) -> PlacedOrder:
        self.orders += 1
        lines = [
            PlacedLine(
                OrderLineId.new(),
                line.source.variant_id,
                Counter({line.source.supplier_id: line.source.quantity}),
            )
            for line in priced
        ]
        total = totals_of(priced).total_minor
        order = PlacedOrder(
            f"order {self.orders}", OrderId.new(), checkout.id, merchant, checkout.currency, total, lines
        )
        checkout.orders.append(order)
        return order

    def _order_row(
        self, order: PlacedOrder, checkout: PlacedCheckout, shop: Storefront, priced: Sequence[PricedLine],
        buyer: str, now: datetime,
    ) -> dict[str, Any]:  # fmt: skip
        totals = totals_of(priced)
        return {
            "id": order.id, "number": order.name, "checkout_id": checkout.id,
            "merchant_id": order.merchant_id, "seller_id": shop.brand_id, "storefront_id": shop.id,
            "buyer_key": buyer_key(self._secret, buyer), "currency": shop.currency,
            "goods_minor": totals.goods_minor, "discount_minor": totals.discount_minor,
            "shipping_minor": totals.shipping_minor, "tax_minor": totals.tax_minor,
            "total_minor": totals.total_minor, "refunded_minor": 0,
            "payment_status": PaymentStatus.PENDING.value,
            "fulfillment_status": FulfillmentStatus.UNFULFILLED.value, "country": COUNTRY, "placed_at": now,
            "version": 1,
        }  # fmt: skip


def _line_row(line_id: OrderLineId, order: PlacedOrder, shop: Storefront, line: PricedLine) -> dict[str, Any]:
    source = line.source
    return {
        "id": line_id, "order_id": order.id, "merchant_id": order.merchant_id, "seller_id": shop.brand_id,
        "variant_id": source.variant_id, "product_id": source.product_id, "sku": source.sku,
        "title": source.title, "category": source.category, "quantity": source.quantity,
        "unit_price_minor": source.unit_price_minor, "gross_minor": line.gross_minor,
        "discount_minor": line.discount_minor,
        "discount_funder": line.funder.value if line.funder else None,
        "tax_minor": line.tax_minor, "tax_ppm": source.tax.rate_ppm, "tax_included": source.tax.included,
        "shipping_minor": line.shipping_minor, "shipping_tax_minor": line.shipping_tax_minor,
        "platform_fee_ppm": FEE_PPM, "supplier_id": source.supplier_id, "location_id": source.location_id,
        "supplier_cost_minor": line.supplier_cost_minor, "refunded_quantity": 0, "refunded_shipping_minor": 0,
    }  # fmt: skip
