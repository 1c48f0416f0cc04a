"""How an order that a shop told of stands: for the shop to check itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId
from marketplace.brands.queries import StorefrontFacts
from marketplace.orders.models import FulfillmentStatus, PaymentStatus
from marketplace.orders.own_checkout.errors import ToldOrderNotFound
from marketplace.orders.own_checkout.models import EventKind
from marketplace.orders.own_checkout.told import is_reference
from marketplace.promotion.commission.standing import LineStanding, commission_of_order
from supply.settlement.at_source.queries import OrderDue, dues_of

_ORDER = text(
    "SELECT t.content, o.id, o.number, o.currency, o.total_minor, o.refunded_minor, o.payment_status,"
    " o.fulfillment_status, o.placed_at, o.paid_at, o.delivered_at"
    " FROM told_orders t JOIN orders o ON o.id = t.order_id"
    " WHERE t.storefront_id = :storefront AND t.reference = :reference"
)
_EVENTS = text(
    "SELECT event_id, kind, at, applied_at, ARRAY(SELECT line ->> 0 FROM jsonb_array_elements(body -> 'lines') line)"
    " AS lines FROM told_events WHERE storefront_id = :storefront"
    " AND reference = :reference ORDER BY at, event_id"
)


@dataclass(frozen=True, slots=True)
class EventState:
    """``unknown_lines``: it was told of before its order and names lines that this does not have; they count for
    nothing."""

    id: str
    kind: EventKind
    at: datetime
    applied_at: datetime | None
    unknown_lines: list[str]


@dataclass(frozen=True, slots=True)
class ToldOrderState:
    """``lines`` names our order lines as the shop does. ``due`` is None until it is paid; ``events`` in their
    sequence, those that wait included."""

    order_id: OrderId
    number: str
    currency: str
    total_minor: int
    refunded_minor: int
    payment_status: PaymentStatus
    fulfillment_status: FulfillmentStatus
    placed_at: datetime
    paid_at: datetime | None
    delivered_at: datetime | None
    lines: dict[OrderLineId, str]
    commission: list[LineStanding]
    due: OrderDue | None
    events: list[EventState]


async def told_order(session: AsyncSession, shop: StorefrontFacts, reference: str) -> ToldOrderState:
    """Of the shop's own. Raises ``ToldOrderNotFound``."""
    where = {"storefront": shop.id, "reference": reference}
    row = (await session.execute(_ORDER, where)).one_or_none() if is_reference(reference) else None
    if row is None:
        raise ToldOrderNotFound("no order was told under this reference", field="reference")
    order_id = OrderId.of(row.id)
    names = [line[0] for line in row.content["lines"]]
    ids = [OrderLineId.parse(each) for each in row.content["line_ids"]]
    return ToldOrderState(
        order_id=order_id,
        number=row.number,
        currency=row.currency,
        total_minor=row.total_minor,
        refunded_minor=row.refunded_minor,
        payment_status=PaymentStatus(row.payment_status),
        fulfillment_status=FulfillmentStatus(row.fulfillment_status),
        placed_at=row.placed_at,
        paid_at=row.paid_at,
        delivered_at=row.delivered_at,
        lines=dict(zip(ids, names, strict=True)),
        commission=await commission_of_order(session, shop.brand_id, order_id),
        due=(await dues_of(session, [order_id])).get(order_id),
        events=await _events(session, where, frozenset(names)),
    )


async def _events(session: AsyncSession, where: dict[str, Any], lines: frozenset[str]) -> list[EventState]:
    return [
        EventState(
            row.event_id, EventKind(row.kind), row.at, row.applied_at,
            [line for line in row.lines if line not in lines],
        )
        for row in await session.execute(_EVENTS, where)
    ]  # fmt: skip
