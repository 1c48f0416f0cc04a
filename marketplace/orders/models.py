"""Tables of the selling side's orders: cart → checkout → one order per merchant → payment → refunds."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from core.ids import (
    BrandId,
    CartId,
    CartLineId,
    CheckoutId,
    ContactId,
    LocationId,
    OrderId,
    OrderLineId,
    PaymentId,
    ProductId,
    RefundId,
    RoutingRunId,
    StorefrontId,
    SupplierId,
    VariantId,
)
from infra.db.base import IdColumn, Row, currency_field, id_field, minor_field, one_of, utc_field


class CartStatus(StrEnum):
    OPEN = "open"
    ORDERED = "ordered"


class CheckoutStatus(StrEnum):
    OPEN = "open"
    """Address known, nothing reserved."""
    PLACED = "placed"
    """Stock held until ``expires_at``, waiting for payment."""
    PAID = "paid"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class PaymentStatus(StrEnum):
    PENDING = "pending"
    PAID = "paid"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"
    VOIDED = "voided"


class FulfillmentStatus(StrEnum):
    UNFULFILLED = "unfulfilled"
    IN_PROGRESS = "in_progress"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    ON_HOLD = "on_hold"
    CANCELLED = "cancelled"


class RefundStatus(StrEnum):
    PENDING = "pending"
    """Reserved in the ledger; the provider has not said yes or no."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class RefundKind(StrEnum):
    SHARED = "shared"
    """Everybody who earned from the order gives back its part."""
    GOODWILL = "goodwill"
    """The platform pays; nobody's part changes."""


class RefundCause(StrEnum):
    REQUESTED_BY_CUSTOMER = "requested_by_customer"
    RETURNED = "returned"
    DAMAGED = "damaged"
    NOT_RECEIVED = "not_received"
    WRONG_ITEM = "wrong_item"
    CANCELLED = "cancelled"
    PRICE_PROTECTION = "price_protection"
    GOODWILL = "goodwill"
    DUPLICATE = "duplicate"
    FRAUDULENT = "fraudulent"
    MADE_AT_PROVIDER = "made_at_provider"
    """Somebody refunded the charge at the provider, past us."""
    OTHER = "other"


def _status(default: StrEnum) -> Any:
    return Field(default=default, sa_type=String)


def _child_of(kind: type[Any], target: str) -> Any:
    return Field(sa_column=Column(IdColumn(kind), ForeignKey(target), nullable=False))


class Cart(Row, table=True):
    """``brand_id`` is the storefront's brand, ``touch_tokens`` what tracked links left, newest last."""

    __tablename__ = "carts"
    __table_args__ = (one_of("status", CartStatus), Index("ix_carts_brand_id_id", "brand_id", "id"))

    id: CartId = id_field(CartId, primary_key=True)
    storefront_id: StorefrontId = id_field(StorefrontId)
    brand_id: BrandId = id_field(BrandId)
    currency: str = currency_field()
    country: str
    touch_tokens: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    session_key: str = ""
    coupon_code: str | None = None
    status: CartStatus = _status(CartStatus.OPEN)
    version: int = 1
    created_at: datetime = utc_field()
    updated_at: datetime = utc_field()


class CartLine(Row, table=True):
    """``quoted_minor`` is the unit price the shopper saw when the line was last changed."""

    __tablename__ = "cart_lines"
    __table_args__ = (
        UniqueConstraint("cart_id", "variant_id"),
        CheckConstraint("quantity BETWEEN 1 AND 9999", name="quantity"),
    )

    id: CartLineId = id_field(CartLineId, primary_key=True)
    cart_id: CartId = _child_of(CartId, "carts.id")
    brand_id: BrandId = id_field(BrandId)
    variant_id: VariantId = id_field(VariantId)
    quantity: int
    quoted_minor: int = minor_field()
    added_at: datetime = utc_field()


class Checkout(Row, table=True):
    """An order group: what one shopper pays at once. Amounts are set when it is placed."""

    __tablename__ = "checkouts"
    __table_args__ = (
        one_of("status", CheckoutStatus),
        Index("ix_checkouts_placed", "expires_at", postgresql_where=text("status = 'placed'")),
        Index("ix_checkouts_brand_id_id", "brand_id", "id"),
    )

    id: CheckoutId = id_field(CheckoutId, primary_key=True)
    cart_id: CartId = _child_of(CartId, "carts.id")
    storefront_id: StorefrontId = id_field(StorefrontId)
    brand_id: BrandId = id_field(BrandId)
    currency: str = currency_field()
    contact_id: ContactId | None = id_field(ContactId, nullable=True, default=None)
    buyer_key: bytes
    """Keyed hash of the buyer's e-mail or phone: who bought, without saying who."""
    address: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    address_key: bytes
    dest_zone: str
    email: str
    status: CheckoutStatus = _status(CheckoutStatus.OPEN)
    goods_minor: int = minor_field(default=0)
    discount_minor: int = minor_field(default=0)
    shipping_minor: int = minor_field(default=0)
    tax_minor: int = minor_field(default=0)
    """Tax on top of prices; tax inside them is in ``goods_minor``."""
    total_minor: int = minor_field(default=0)
    routing_run_id: RoutingRunId | None = id_field(RoutingRunId, nullable=True, default=None)
    started_at: datetime = utc_field()
    placed_at: datetime | None = utc_field(nullable=True, default=None)
    expires_at: datetime | None = utc_field(nullable=True, default=None)
    paid_at: datetime | None = utc_field(nullable=True, default=None)


class Order(Row, table=True):
    """One merchant's part of a checkout. Visible to the merchant and to the storefront's brand."""

    __tablename__ = "orders"
    __table_args__ = (
        one_of("payment_status", PaymentStatus),
        one_of("fulfillment_status", FulfillmentStatus),
        UniqueConstraint("number"),
        Index("ix_orders_merchant_id_id", "merchant_id", "id"),
        Index("ix_orders_seller_id_id", "seller_id", "id"),
        Index("ix_orders_checkout_id", "checkout_id"),
        Index("ix_orders_buyer_key", "buyer_key"),
    )

    id: OrderId = id_field(OrderId, primary_key=True)
    number: str
    checkout_id: CheckoutId = _child_of(CheckoutId, "checkouts.id")
    merchant_id: BrandId = id_field(BrandId)
    seller_id: BrandId = id_field(BrandId)
    """The brand whose storefront sold it."""
    storefront_id: StorefrontId = id_field(StorefrontId)
    buyer_key: bytes
    currency: str = currency_field()
    goods_minor: int = minor_field()
    """Before ``discount_minor``."""
    discount_minor: int = minor_field(default=0)
    shipping_minor: int = minor_field()
    tax_minor: int = minor_field()
    total_minor: int = minor_field()
    refunded_minor: int = minor_field(default=0)
    payment_status: PaymentStatus = _status(PaymentStatus.PENDING)
    fulfillment_status: FulfillmentStatus = _status(FulfillmentStatus.UNFULFILLED)
    country: str
    placed_at: datetime = utc_field()
    paid_at: datetime | None = utc_field(nullable=True, default=None)
    delivered_at: datetime | None = utc_field(nullable=True, default=None)
    version: int = 1


class OrderLine(Row, table=True):
    """One SKU from one location. A cart line that needs two locations becomes two order lines.

    ``gross_minor`` = unit price x quantity. ``tax_minor`` is of the goods, inside ``gross_minor`` when
    ``tax_included``, else on top; ``shipping_tax_minor`` is on top. Costs and
    rates are frozen here when the order is placed.
    """

    __tablename__ = "order_lines"
    __table_args__ = (
        Index("ix_order_lines_order_id", "order_id"),
        CheckConstraint("quantity > 0 AND refunded_quantity BETWEEN 0 AND quantity", name="quantity"),
    )

    id: OrderLineId = id_field(OrderLineId, primary_key=True)
    order_id: OrderId = _child_of(OrderId, "orders.id")
    merchant_id: BrandId = id_field(BrandId)
    seller_id: BrandId = id_field(BrandId)
    variant_id: VariantId | None = id_field(VariantId, nullable=True, default=None)
    """What a brand's own checkout sold may not be in the catalogue here, and nobody of ours delivers it."""
    product_id: ProductId | None = id_field(ProductId, nullable=True, default=None)
    sku: str
    title: str
    category: str
    quantity: int
    unit_price_minor: int = minor_field()
    gross_minor: int = minor_field()
    discount_minor: int = minor_field(default=0)
    discount_funder: str | None = None
    """Who pays the discount: a ``Funder``."""
    tax_minor: int = minor_field()
    tax_ppm: int
    tax_included: bool
    shipping_minor: int = minor_field()
    shipping_tax_minor: int = minor_field()
    platform_fee_ppm: int
    supplier_id: SupplierId | None = id_field(SupplierId, nullable=True, default=None)
    location_id: LocationId | None = id_field(LocationId, nullable=True, default=None)
    supplier_cost_minor: int = minor_field()
    """Goods of the whole line at the supplier's price, frozen by the routing decision."""
    refunded_quantity: int = 0
    refunded_shipping_minor: int = minor_field(default=0)


class Payment(Row, table=True):
    """What the provider was asked for one checkout."""

    __tablename__ = "payments"
    __table_args__ = (
        one_of("status", PaymentStatus),
        UniqueConstraint("checkout_id"),
        UniqueConstraint("intent_id"),
        CheckConstraint("refunded_minor BETWEEN 0 AND captured_minor", name="refunded"),
        Index("ix_payments_charge_id", "charge_id"),
        Index("ix_payments_give_back", "give_back_at", postgresql_where=text("give_back_at IS NOT NULL")),
    )

    id: PaymentId = id_field(PaymentId, primary_key=True)
    checkout_id: CheckoutId = _child_of(CheckoutId, "checkouts.id")
    brand_id: BrandId = id_field(BrandId)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    intent_id: str | None = None
    client_secret: str | None = None
    charge_id: str | None = None
    instrument_key: str | None = None
    status: PaymentStatus = _status(PaymentStatus.PENDING)
    captured_minor: int = minor_field(default=0)
    refunded_minor: int = minor_field(default=0)
    created_at: datetime = utc_field()
    captured_at: datetime | None = utc_field(nullable=True, default=None)
    came_late_at: datetime | None = utc_field(nullable=True, default=None)
    """When we heard of a capture whose checkout had been given up: it goes back (late_payments.py)."""
    give_back_at: datetime | None = utc_field(nullable=True, default=None)
    """When what is owed of it is sent the next time."""


class Refund(Row, table=True):
    """Money on its way back for one order. ``request`` says what was asked, ``lines`` what that came to by
    lines; the ledger says from whom."""

    __tablename__ = "refunds"
    __table_args__ = (
        one_of("status", RefundStatus),
        Index("ix_refunds_order_id", "order_id"),
        one_of("kind", RefundKind),
        Index("ix_refunds_pending", "next_try_at", postgresql_where=text("status = 'pending'")),
        Index(
            "uq_refunds_order_id_reference",
            "order_id",
            "reference",
            unique=True,
            postgresql_where=text("reference IS NOT NULL"),
        ),
        Index("uq_refunds_retry_of", "retry_of", unique=True, postgresql_where=text("retry_of IS NOT NULL")),
        Index("ix_refunds_provider_id", "provider_id"),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    id: RefundId = id_field(RefundId, primary_key=True)
    order_id: OrderId = _child_of(OrderId, "orders.id")
    payment_id: PaymentId = _child_of(PaymentId, "payments.id")
    merchant_id: BrandId = id_field(BrandId)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    reason: str
    lines: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    status: RefundStatus = _status(RefundStatus.PENDING)
    provider_id: str | None = None
    failure: str | None = None
    requested_by: str
    created_at: datetime = utc_field()
    settled_at: datetime | None = utc_field(nullable=True, default=None)
    kind: RefundKind = Field(sa_type=String)
    cause: str
    reference: str | None = None
    """The asker's own name for it, once per order."""
    request: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    retry_of: RefundId | None = id_field(RefundId, default=None, nullable=True)
    attempt: int
    """Part of the provider's key; raised only after a look-up found nothing."""
    tries: int
    first_sent_at: datetime | None = utc_field(nullable=True, default=None)
    next_try_at: datetime = utc_field()


class ProviderEvent(Row, table=True):
    """A verified notice of the payment provider, stored once under the provider's own id.

    Not applied yet, it is tried (again) at ``next_try_at``; without one it was given up for the reason in ``parked``.
    """

    __tablename__ = "provider_events"
    __table_args__ = (
        Index(
            "ix_provider_events_due",
            "next_try_at",
            postgresql_where=text("applied_at IS NULL AND next_try_at IS NOT NULL"),
        ),
    )

    id: str = Field(primary_key=True)
    provider: str
    type: str
    object_id: str
    account: str | None = None
    """The connected account it is about."""
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    received_at: datetime = utc_field()
    tries: int
    next_try_at: datetime | None = utc_field(nullable=True, default=None)
    applied_at: datetime | None = utc_field(nullable=True, default=None)
    parked: str | None = None


class ProviderEventCursor(Row, table=True):
    """How far the provider's own list of events was read (missed_notices.py)."""

    __tablename__ = "provider_event_cursors"

    provider: str = Field(primary_key=True)
    seen_to: datetime = utc_field()
