"""Checkout: an address turns a cart into a quote; placing it reserves, orders and freezes, all or nothing."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.errors import Problems
from core.ids import BrandId, CartId, CheckoutId, ContactId, OrderId, PaymentId, StorefrontId
from core.money import Money
from infra import outbox
from infra.db.base import table_of
from marketplace.audiences import queries as audiences
from marketplace.audiences.identity import IdentityVault
from marketplace.audiences.models import IdentifierKind
from marketplace.brands.queries import StorefrontFacts
from marketplace.orders import cart as carts
from marketplace.orders.address import Address, address_key, buyer_key, checked_email
from marketplace.orders.cart import CartView
from marketplace.orders.errors import CartAlreadyOrdered, CheckoutNotFound, CheckoutNotOpen, TotalChanged
from marketplace.orders.events import CheckoutPlaced
from marketplace.orders.models import (
    CartStatus,
    Checkout,
    CheckoutStatus,
    FulfillmentStatus,
    Order,
    OrderLine,
    Payment,
    PaymentStatus,
)
from marketplace.orders.quote import MerchantQuote, Quote, quote_cart
from marketplace.orders.shipments import fulfillment_orders
from marketplace.promotion.coupons import codes as coupons
from supply.fulfillment import service as fulfillment
from supply.inventory import reservations as inventory
from supply.inventory.reservations import StockRequest
from supply.routing import service as routing
from supply.routing.models import RoutingMode

_NUMBER_LETTERS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_NUMBER_LENGTH = 10

_INSERT_CHECKOUT = insert(table_of(Checkout)).returning(table_of(Checkout))
_INSERT_ORDERS = insert(table_of(Order))
_INSERT_LINES = insert(table_of(OrderLine))
_INSERT_PAYMENT = insert(table_of(Payment))
_LOAD = text(
    "SELECT id, cart_id, storefront_id, brand_id, currency, contact_id, buyer_key, address, address_key,"
    " dest_zone, email, status, goods_minor, discount_minor, shipping_minor, tax_minor, total_minor,"
    " started_at, placed_at, expires_at, paid_at FROM checkouts WHERE id = :id AND storefront_id = :storefront"
)
_ORDER_CART = text(
    "UPDATE carts SET status = :status, version = version + 1, updated_at = :now WHERE id = :id"
)
_PLACED = text(
    "UPDATE checkouts SET status = 'placed', goods_minor = :goods, discount_minor = :discount,"
    " shipping_minor = :shipping,"
    " tax_minor = :tax, total_minor = :total, placed_at = :now, expires_at = :expires_at"
    " WHERE id = :id AND status = 'open' RETURNING 1"
)


@dataclass(frozen=True, slots=True)
class CheckoutView:
    id: CheckoutId
    cart_id: CartId
    storefront_id: StorefrontId
    brand_id: BrandId
    currency: str
    contact_id: ContactId | None
    buyer_key: bytes
    address: Address
    address_key: bytes
    zone: str
    email: str
    status: CheckoutStatus
    goods: Money
    """Before ``discount``."""
    discount: Money
    shipping: Money
    tax: Money
    total: Money
    started_at: datetime
    placed_at: datetime | None
    expires_at: datetime | None
    paid_at: datetime | None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the platform's settings decide about a checkout."""

    secret: str
    reservation_ttl: timedelta
    platform_fee_ppm: int


async def start(
    session: AsyncSession,
    actor: Actor,
    storefront: StorefrontFacts,
    *,
    cart_id: CartId,
    address: Address,
    email: str,
    policy: Policy,
    clock: Clock,
) -> tuple[CheckoutView, Quote]:
    """Where it goes and who buys; nothing is reserved yet. Problems are in the quote."""
    cart = await carts.load(session, cart_id, storefront.id)
    if cart.status is not CartStatus.OPEN:
        raise CartAlreadyOrdered(cart_id)
    email = checked_email(email)
    contact_id = await _contact(session, storefront.brand_id, email, policy)
    checkout_id = CheckoutId.new()
    row = {
        "id": checkout_id, "cart_id": cart.id, "storefront_id": storefront.id,
        "brand_id": storefront.brand_id, "currency": cart.currency, "contact_id": contact_id,
        "buyer_key": buyer_key(policy.secret, email), "address": address.as_json(),
        "address_key": address_key(policy.secret, address), "dest_zone": address.zone, "email": email,
        "status": CheckoutStatus.OPEN.value, "goods_minor": 0, "discount_minor": 0, "shipping_minor": 0, "tax_minor": 0,
        "total_minor": 0, "started_at": clock.now(),
    }  # fmt: skip
    view = _view((await session.execute(_INSERT_CHECKOUT, row)).one())
    quote = await quote_cart(session, cart, zone=address.zone, clock=clock)
    return view, quote


async def _contact(session: AsyncSession, brand_id: BrandId, email: str, policy: Policy) -> ContactId | None:
    """The seller's own contact with this e-mail, if it has one."""
    return await audiences.find_contact(
        session, brand_id, IdentifierKind.EMAIL, email, vault=IdentityVault(policy.secret)
    )


async def load(session: AsyncSession, checkout_id: CheckoutId, storefront_id: StorefrontId) -> CheckoutView:
    """Raises ``CheckoutNotFound``."""
    row = (await session.execute(_LOAD, {"id": checkout_id, "storefront": storefront_id})).first()
    if row is None:
        raise CheckoutNotFound(checkout_id)
    return _view(row)


async def place(
    session: AsyncSession,
    *,
    checkout_id: CheckoutId,
    storefront_id: StorefrontId,
    expected_total: Money | None,
    policy: Policy,
    clock: Clock,
) -> list[OrderId]:
    """Reserve the stock and write everything an order is, or nothing. ``session`` acts as SYSTEM: the lines
    belong to many tenants, and ``storefront_id`` is the object check.

    Raises ``CheckoutNotFound``, ``CheckoutNotOpen``, ``CartAlreadyOrdered``, ``Problems``, ``TotalChanged``,
    and inventory's ``InsufficientStock`` or ``CouponNotUsable`` when another buyer was faster.
    """
    checkout = await load(session, checkout_id, storefront_id)
    if checkout.status is not CheckoutStatus.OPEN:
        raise CheckoutNotOpen(checkout_id, checkout.status)
    # The cart's lock makes two checkouts of one cart take turns; the second finds it ordered.
    cart = await carts.lock_open(session, checkout.cart_id, storefront_id)
    quote = await quote_cart(session, cart, zone=checkout.zone, clock=clock)
    if quote.problems:
        raise Problems(quote.problems)
    total = Money(quote.totals.total_minor, quote.currency)
    if expected_total is not None and expected_total != total:
        raise TotalChanged(expected_total, total)
    now = clock.now()
    expires_at = now + policy.reservation_ttl
    reserved = await inventory.reserve(
        session, _requests(quote), reference=checkout_id, expires_at=expires_at, now=now
    )
    if quote.coupon is not None:
        off = quote.totals.discount_minor
        await coupons.redeem(session, quote.coupon, checkout_id, amount_minor=off, now=now)
    orders = {merchant.merchant_id: OrderId.new() for merchant in quote.merchants}
    await _write_orders(session, checkout, quote, orders, policy, now)
    await _mark_placed(session, checkout, cart, quote, now=now, expires_at=expires_at)
    for merchant in quote.merchants:
        await routing.record(
            session, merchant.routing, order_id=orders[merchant.merchant_id], mode=RoutingMode.CHECKOUT
        )
    await fulfillment.create(
        session,
        fulfillment_orders(quote, orders, reserved, checkout_id=checkout_id, address=checkout.address),
        clock=clock,
    )
    await outbox.record(
        session, CheckoutPlaced(checkout_id=checkout_id, order_ids=tuple(sorted(orders.values())), at=now)
    )
    return sorted(orders.values())


def _requests(quote: Quote) -> list[StockRequest]:
    return [
        StockRequest(line_id, line.source.location_id, line.source.variant_id, line.source.quantity)
        for merchant in quote.merchants
        for line_id, line in zip(merchant.line_ids, merchant.lines, strict=True)
    ]


async def _write_orders(
    session: AsyncSession,
    checkout: CheckoutView,
    quote: Quote,
    orders: dict[BrandId, OrderId],
    policy: Policy,
    now: datetime,
) -> None:
    rows = [_order_row(m, orders[m.merchant_id], checkout, now) for m in quote.merchants]
    await session.execute(_INSERT_ORDERS, rows)
    lines = [row for m in quote.merchants for row in _line_rows(m, orders[m.merchant_id], checkout, policy)]
    await session.execute(_INSERT_LINES, lines)


def _order_row(
    merchant: MerchantQuote, order_id: OrderId, checkout: CheckoutView, now: datetime
) -> dict[str, Any]:
    totals = merchant.totals
    return {
        "id": order_id, "number": order_number(), "checkout_id": checkout.id,
        "merchant_id": merchant.merchant_id, "seller_id": checkout.brand_id,
        "storefront_id": checkout.storefront_id, "buyer_key": checkout.buyer_key,
        "currency": checkout.currency, "goods_minor": totals.goods_minor,
        "discount_minor": totals.discount_minor,
        "shipping_minor": totals.shipping_minor, "tax_minor": totals.tax_minor,
        "total_minor": totals.total_minor, "refunded_minor": 0,
        "payment_status": PaymentStatus.PENDING.value,
        "fulfillment_status": FulfillmentStatus.UNFULFILLED.value,
        "country": checkout.address.country, "placed_at": now, "version": 1,
    }  # fmt: skip


def _line_rows(
    merchant: MerchantQuote, order_id: OrderId, checkout: CheckoutView, policy: Policy
) -> Sequence[dict[str, Any]]:
    return [
        {
            "id": line_id, "order_id": order_id, "merchant_id": merchant.merchant_id,
            "seller_id": checkout.brand_id, "variant_id": line.source.variant_id,
            "product_id": line.source.product_id, "sku": line.source.sku, "title": line.source.title,
            "category": line.source.category, "quantity": line.source.quantity,
            "unit_price_minor": line.source.unit_price_minor, "gross_minor": line.gross_minor,
            "discount_minor": line.discount_minor,
            "discount_funder": line.funder.value if line.funder else None, "tax_minor": line.tax_minor,
            "tax_ppm": line.source.tax.rate_ppm,
            "tax_included": line.source.tax.included, "shipping_minor": line.shipping_minor,
            "shipping_tax_minor": line.shipping_tax_minor,
            "platform_fee_ppm": policy.platform_fee_ppm, "supplier_id": line.source.supplier_id,
            "location_id": line.source.location_id, "supplier_cost_minor": line.supplier_cost_minor,
            "refunded_quantity": 0, "refunded_shipping_minor": 0,
        }
        for line_id, line in zip(merchant.line_ids, merchant.lines, strict=True)
    ]  # fmt: skip


async def _mark_placed(
    session: AsyncSession,
    checkout: CheckoutView,
    cart: CartView,
    quote: Quote,
    *,
    now: datetime,
    expires_at: datetime,
) -> None:
    totals = quote.totals
    values = {
        "id": checkout.id, "goods": totals.goods_minor, "discount": totals.discount_minor,
        "shipping": totals.shipping_minor,
        "tax": totals.tax_minor, "total": totals.total_minor, "now": now, "expires_at": expires_at,
    }  # fmt: skip
    if (await session.execute(_PLACED, values)).first() is None:
        raise CheckoutNotOpen(checkout.id, CheckoutStatus.PLACED)
    await session.execute(_ORDER_CART, {"id": cart.id, "status": CartStatus.ORDERED.value, "now": now})
    payment = {
        "id": PaymentId.new(), "checkout_id": checkout.id, "brand_id": checkout.brand_id,
        "currency": checkout.currency, "amount_minor": totals.total_minor,
        "status": PaymentStatus.PENDING.value, "captured_minor": 0, "refunded_minor": 0, "created_at": now,
    }  # fmt: skip
    await session.execute(_INSERT_PAYMENT, payment)


def order_number() -> str:
    """Short enough to read aloud, long enough (32^10) never to be guessed or met twice."""
    return "LY" + "".join(secrets.choice(_NUMBER_LETTERS) for _ in range(_NUMBER_LENGTH))


def _view(row: Row[Any]) -> CheckoutView:
    def amount(minor: int) -> Money:
        return Money(minor, row.currency)

    return CheckoutView(
        id=CheckoutId.of(row.id),
        cart_id=CartId.of(row.cart_id),
        storefront_id=StorefrontId.of(row.storefront_id),
        brand_id=BrandId.of(row.brand_id),
        currency=row.currency,
        contact_id=ContactId.of(row.contact_id) if row.contact_id else None,
        buyer_key=bytes(row.buyer_key),
        address=Address(**row.address),
        address_key=bytes(row.address_key),
        zone=row.dest_zone,
        email=row.email,
        status=CheckoutStatus(row.status),
        goods=amount(row.goods_minor),
        discount=amount(row.discount_minor),
        shipping=amount(row.shipping_minor),
        tax=amount(row.tax_minor),
        total=amount(row.total_minor),
        started_at=row.started_at,
        placed_at=row.placed_at,
        expires_at=row.expires_at,
        paid_at=row.paid_at,
    )
