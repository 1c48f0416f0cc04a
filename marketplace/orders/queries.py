"""Reads of orders: columns only, what the actor may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, and_, func, or_, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import ColumnElement

from core.actor import Actor
from core.ids import (
    BrandId,
    CheckoutId,
    LocationId,
    OrderId,
    OrderLineId,
    PaymentId,
    ProductId,
    RefundId,
    StorefrontId,
    SupplierId,
    VariantId,
)
from core.money import Money
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from marketplace.orders.errors import OrderNotFound
from marketplace.orders.models import (
    FulfillmentStatus,
    Order,
    OrderLine,
    PaymentStatus,
    Refund,
    RefundCause,
    RefundKind,
    RefundStatus,
)

_O = table_of(Order).c
_L = table_of(OrderLine).c
_R = table_of(Refund).c
_ORDERS: Select[Any] = select(
    _O.id, _O.number, _O.checkout_id, _O.merchant_id, _O.seller_id, _O.storefront_id, _O.currency,
    _O.goods_minor, _O.discount_minor, _O.shipping_minor, _O.tax_minor, _O.total_minor, _O.refunded_minor,
    _O.payment_status, _O.fulfillment_status, _O.country, _O.placed_at, _O.paid_at, _O.delivered_at, _O.version,
)  # fmt: skip
_LINES: Select[Any] = select(table_of(OrderLine))
_REFUNDS: Select[Any] = select(
    _R.id, _R.order_id, _R.payment_id, _R.currency, _R.amount_minor, _R.reason, _R.lines, _R.status,
    _R.provider_id, _R.failure, _R.created_at, _R.settled_at, _R.kind, _R.cause, _R.reference, _R.retry_of,
    _R.requested_by,
)  # fmt: skip
_ORDER_OF_REFUND = text("SELECT order_id FROM refunds WHERE id = :id")


@dataclass(frozen=True, slots=True)
class OrderRow:
    id: OrderId
    number: str
    checkout_id: CheckoutId
    merchant_id: BrandId
    seller_id: BrandId
    storefront_id: StorefrontId
    goods: Money
    """Before ``discount``."""
    discount: Money
    shipping: Money
    tax: Money
    total: Money
    refunded: Money
    payment_status: PaymentStatus
    fulfillment_status: FulfillmentStatus
    country: str
    placed_at: datetime
    paid_at: datetime | None
    delivered_at: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class OrderLineRow:
    id: OrderLineId
    order_id: OrderId
    merchant_id: BrandId
    seller_id: BrandId
    variant_id: VariantId | None
    product_id: ProductId | None
    sku: str
    title: str
    category: str
    quantity: int
    unit_price_minor: int
    gross_minor: int
    discount_minor: int
    discount_funder: str | None
    tax_minor: int
    tax_ppm: int
    tax_included: bool
    shipping_minor: int
    shipping_tax_minor: int
    platform_fee_ppm: int
    supplier_id: SupplierId | None
    location_id: LocationId | None
    supplier_cost_minor: int
    refunded_quantity: int
    refunded_shipping_minor: int

    @property
    def paid_minor(self) -> int:
        """What the shopper paid for it, shipping and tax on top included."""
        on_top = 0 if self.tax_included else self.tax_minor
        return self.gross_minor - self.discount_minor + on_top + self.shipping_minor + self.shipping_tax_minor


@dataclass(frozen=True, slots=True)
class RefundRow:
    id: RefundId
    order_id: OrderId
    payment_id: PaymentId
    amount: Money
    reason: str
    lines: Sequence[dict[str, Any]]
    status: RefundStatus
    provider_id: str | None
    failure: str | None
    created_at: datetime
    settled_at: datetime | None
    kind: RefundKind
    cause: RefundCause
    reference: str | None
    retry_of: RefundId | None
    """The failed refund this one asks for again."""
    requested_by: str


def visible_to(actor: Actor) -> ColumnElement[bool]:
    """An order concerns the merchant who is paid and the brand whose storefront sold it."""
    if actor.sees_everything:
        return true()
    return or_(_O.merchant_id == actor.brand_id, _O.seller_id == actor.brand_id)


async def order(session: AsyncSession, actor: Actor, order_id: OrderId) -> OrderRow:
    """Raises ``OrderNotFound``."""
    row = (await session.execute(_ORDERS.where(_O.id == order_id, visible_to(actor)))).first()
    if row is None:
        raise OrderNotFound(order_id)
    return _order(row)


async def orders_page(
    session: AsyncSession,
    actor: Actor,
    request: PageRequest,
    *,
    payment_status: PaymentStatus | None = None,
    fulfillment_status: FulfillmentStatus | None = None,
) -> Page[OrderRow]:
    """Newest first."""
    query = _ORDERS.where(_matching(actor, payment_status, fulfillment_status))
    if request.key:
        query = query.where(_O.id < OrderId.parse(request.key[0]))
    rows = await session.execute(query.order_by(_O.id.desc()).limit(request.first + 1))
    return page_of([_order(row) for row in rows], request, lambda o: (str(o.id),))


async def orders_count(
    session: AsyncSession,
    actor: Actor,
    *,
    payment_status: PaymentStatus | None = None,
    fulfillment_status: FulfillmentStatus | None = None,
) -> int:
    matching = _matching(actor, payment_status, fulfillment_status)
    return int(
        (await session.execute(select(func.count()).select_from(_O.id.table).where(matching))).scalar_one()
    )


def _matching(
    actor: Actor, payment_status: PaymentStatus | None, fulfillment_status: FulfillmentStatus | None
) -> ColumnElement[bool]:
    parts = [visible_to(actor)]
    if payment_status is not None:
        parts.append(_O.payment_status == payment_status.value)
    if fulfillment_status is not None:
        parts.append(_O.fulfillment_status == fulfillment_status.value)
    return and_(*parts)


async def orders_of_checkout(session: AsyncSession, checkout_id: CheckoutId) -> list[OrderRow]:
    rows = await session.execute(_ORDERS.where(_O.checkout_id == checkout_id).order_by(_O.id))
    return [_order(row) for row in rows]


async def lines_of(session: AsyncSession, order_ids: Sequence[OrderId]) -> dict[OrderId, list[OrderLineRow]]:
    """The lines of several orders in one statement."""
    rows = await session.execute(_LINES.where(_L.order_id.in_(order_ids)).order_by(_L.order_id, _L.id))
    lines: dict[OrderId, list[OrderLineRow]] = {order_id: [] for order_id in order_ids}
    for row in rows:
        line = OrderLineRow(**row._mapping)
        lines[line.order_id].append(line)
    return lines


async def order_of_refund(session: AsyncSession, refund_id: RefundId) -> OrderId:
    """Of a refund that is known to be there."""
    return OrderId.of((await session.execute(_ORDER_OF_REFUND, {"id": refund_id})).scalar_one())


async def refunds_of(session: AsyncSession, order_ids: Sequence[OrderId]) -> dict[OrderId, list[RefundRow]]:
    rows = await session.execute(_REFUNDS.where(_R.order_id.in_(order_ids)).order_by(_R.id))
    refunds: dict[OrderId, list[RefundRow]] = {order_id: [] for order_id in order_ids}
    for row in rows:
        refunds[row.order_id].append(_refund(row))
    return refunds


def _order(row: Row[Any]) -> OrderRow:
    values = dict(row._mapping)
    currency = values.pop("currency")
    for amount in ("goods", "discount", "shipping", "tax", "total", "refunded"):
        values[amount] = Money(values.pop(f"{amount}_minor"), currency)
    values["payment_status"] = PaymentStatus(values["payment_status"])
    values["fulfillment_status"] = FulfillmentStatus(values["fulfillment_status"])
    return OrderRow(**values)


def _refund(row: Row[Any]) -> RefundRow:
    values = dict(row._mapping)
    values["amount"] = Money(values.pop("amount_minor"), values.pop("currency"))
    values["status"] = RefundStatus(values["status"])
    values["kind"], values["cause"] = RefundKind(values["kind"]), RefundCause(values["cause"])
    return RefundRow(**values)
