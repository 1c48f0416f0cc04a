"""The rows of orders that were placed in a brand's own checkout: those of our own, without what is not ours.

There is no stock, no source, nothing to ship and no address: who bought is a keyed hash. A line that the catalogue does
not know keeps its title and category.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import CartId, CheckoutId, ContactId, OrderId, OrderLineId, PaymentId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from marketplace.brands.queries import StorefrontFacts
from marketplace.catalog.queries import VariantForSale
from marketplace.orders.cart import MOST_TOUCHES
from marketplace.orders.checkout import order_number
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
from marketplace.orders.own_checkout.models import LeadMatch, ToldOrder
from marketplace.orders.own_checkout.told import (
    Known,
    LineReckoned,
    OrderContent,
    content_json,
    reckon,
)

_TABLES = [table_of(model) for model in (Cart, Checkout, Order, OrderLine, Payment, ToldOrder, LeadMatch)]


@dataclass(frozen=True, slots=True)
class Placed:
    """An order that was told of for the first time."""

    order_id: OrderId
    reference: str
    content: OrderContent
    known: Known
    content_hash: str
    line_ids: tuple[OrderLineId, ...]
    """Of its lines, in their sequence."""
    cart_id: CartId = field(default_factory=CartId.new)
    checkout_id: CheckoutId = field(default_factory=CheckoutId.new)

    @property
    def totals(self) -> dict[str, int]:
        lines = reckon(self.content)
        on_top = sum(line.told.tax_minor for line in lines if not line.told.tax_included)
        return {
            "goods_minor": sum(line.told.gross_minor for line in lines),
            "discount_minor": sum(line.off_minor for line in lines),
            "shipping_minor": sum(line.shipping_minor for line in lines), "tax_minor": on_top,
            "total_minor": self.content.total_minor,
        }  # fmt: skip


async def write_orders(
    session: AsyncSession,
    shop: StorefrontFacts,
    orders: Sequence[Placed],
    variants: Mapping[str, VariantForSale],
    own: Mapping[OrderId, ContactId],
    led: Mapping[OrderId, Sequence[ContactId]],
    *,
    now: datetime,
) -> None:
    """Seven statements for any number. ``own``: the brand's contact of the buyer; ``led``: its partners'."""
    rows: list[list[dict[str, Any]]] = [
        [_cart(shop, order) for order in orders],
        [_checkout(shop, order, own.get(order.order_id)) for order in orders],
        [_order(shop, order) for order in orders],
        [row for order in orders for row in _lines(shop, order, variants)],
        [_payment(shop, order) for order in orders],
        [_told(shop, order, now) for order in orders],
        [
            {"order_id": order_id, "contact_id": contact}
            for order_id, contacts in led.items()
            for contact in contacts
        ],
    ]
    for table, new in zip(_TABLES, rows, strict=True):
        await insert_rows(session, table, new)


def _cart(shop: StorefrontFacts, order: Placed) -> dict[str, Any]:
    at = order.content.placed_at
    return {
        "id": order.cart_id, "storefront_id": shop.id, "brand_id": shop.brand_id, "currency": shop.currency,
        "country": _country(shop, order), "touch_tokens": list(order.content.touch_tokens)[-MOST_TOUCHES:],
        "session_key": "", "status": CartStatus.ORDERED.value, "version": 1, "created_at": at,
        "updated_at": at,
    }  # fmt: skip


def _checkout(shop: StorefrontFacts, order: Placed, contact: ContactId | None) -> dict[str, Any]:
    at, began = order.content.placed_at, order.content.checkout_started_at
    return {
        "id": order.checkout_id, "cart_id": order.cart_id, "storefront_id": shop.id,
        "brand_id": shop.brand_id, "currency": shop.currency, "contact_id": contact,
        "buyer_key": order.known.buyer_keys[0], "address": {}, "address_key": order.known.address_key,
        "dest_zone": _country(shop, order), "email": "", "status": CheckoutStatus.PLACED.value,
        # When the buyer began to check out is the shop's to say; the order's own moment is the latest.
        "started_at": began or at, "placed_at": at, "expires_at": None, **order.totals,
    }  # fmt: skip


def _order(shop: StorefrontFacts, order: Placed) -> dict[str, Any]:
    return {
        "id": order.order_id, "number": order_number(), "checkout_id": order.checkout_id,
        "merchant_id": shop.brand_id, "seller_id": shop.brand_id, "storefront_id": shop.id,
        "buyer_key": order.known.buyer_keys[0], "currency": shop.currency, "refunded_minor": 0,
        "payment_status": PaymentStatus.PENDING.value,
        "fulfillment_status": FulfillmentStatus.UNFULFILLED.value, "country": _country(shop, order),
        "placed_at": order.content.placed_at, "version": 1, **order.totals,
    }  # fmt: skip


def _lines(
    shop: StorefrontFacts, order: Placed, variants: Mapping[str, VariantForSale]
) -> list[dict[str, Any]]:
    return [
        {"id": line_id, **_line(shop, order, line, variants.get(line.told.sku or ""))}
        for line_id, line in zip(order.line_ids, reckon(order.content), strict=True)
    ]


def _line(
    shop: StorefrontFacts, order: Placed, line: LineReckoned, variant: VariantForSale | None
) -> dict[str, Any]:
    told = line.told
    title = (variant.title or variant.product_title) if variant else told.title or told.sku
    return {
        "order_id": order.order_id, "merchant_id": shop.brand_id, "seller_id": shop.brand_id,
        "variant_id": variant.variant_id if variant else None,
        "product_id": variant.product_id if variant else None, "sku": told.sku or "", "title": title,
        "category": variant.category if variant else told.category, "quantity": told.quantity,
        "unit_price_minor": told.unit_price_minor, "gross_minor": told.gross_minor,
        "discount_minor": line.off_minor, "discount_funder": _funder(order, line),
        "tax_minor": told.tax_minor, "tax_ppm": told.tax_ppm, "tax_included": told.tax_included,
        "shipping_minor": line.shipping_minor, "shipping_tax_minor": 0, "platform_fee_ppm": 0,
        "supplier_id": None, "location_id": None, "supplier_cost_minor": 0, "refunded_quantity": 0,
        "refunded_shipping_minor": 0,
    }  # fmt: skip


def _funder(order: Placed, line: LineReckoned) -> str | None:
    """Who pays what is off the line, where that is one and the same."""
    funders = {each.funder for each in order.content.discounts}
    if line.told.discount_funder is not None:
        funders.add(line.told.discount_funder)
    return funders.pop().value if line.off_minor and len(funders) == 1 else None


def _payment(shop: StorefrontFacts, order: Placed) -> dict[str, Any]:
    return {
        "id": PaymentId.new(), "checkout_id": order.checkout_id, "brand_id": shop.brand_id,
        "currency": shop.currency, "amount_minor": order.content.total_minor,
        "status": PaymentStatus.PENDING.value, "captured_minor": 0, "refunded_minor": 0,
        "created_at": order.content.placed_at,
    }  # fmt: skip


def _told(shop: StorefrontFacts, order: Placed, now: datetime) -> dict[str, Any]:
    return {
        "storefront_id": shop.id, "reference": order.reference, "brand_id": shop.brand_id,
        "order_id": order.order_id,
        "content": {**content_json(order.content), "line_ids": [str(each) for each in order.line_ids]},
        "content_hash": order.content_hash, "buyer_keys": list(order.known.buyer_keys), "recorded_at": now,
    }  # fmt: skip


def _country(shop: StorefrontFacts, order: Placed) -> str:
    return order.content.country or shop.country
