"""How far an order is, from its fulfilment orders. Events may come in any order; the answer is recomputed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId
from infra import outbox
from marketplace.orders.events import OrderDelivered
from marketplace.orders.models import FulfillmentStatus
from supply.fulfillment import queries as fulfillment
from supply.fulfillment.events import (
    FulfillmentOrderAccepted,
    FulfillmentOrderCancelled,
    FulfillmentOrderDelivered,
    FulfillmentOrderShipped,
    FulfillmentOrderSubmitted,
    FulfillmentRerouted,
    FulfillmentUnsourced,
)
from supply.fulfillment.machine import Status
from supply.fulfillment.queries import FulfillmentOrderView, FulfillmentProgress

# The row lock makes two events of one order take turns; the second sees what the first wrote.
_LOCK = text("SELECT fulfillment_status, payment_status FROM orders WHERE id = :id FOR UPDATE")
_SET = text(
    "UPDATE orders SET fulfillment_status = :status, delivered_at = :delivered_at, version = version + 1"
    " WHERE id = :id"
)
_LOCK_MANY = text("SELECT id, fulfillment_status FROM orders WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_SET_MANY = text(
    "UPDATE orders o SET fulfillment_status = n.status, delivered_at = n.delivered_at, version = version + 1"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:times AS timestamptz[]))"
    " AS n(id, status, delivered_at) WHERE o.id = n.id"
)
FulfillmentMoved = (
    FulfillmentOrderSubmitted
    | FulfillmentOrderAccepted
    | FulfillmentOrderCancelled
    | FulfillmentOrderShipped
    | FulfillmentOrderDelivered
    | FulfillmentRerouted
    | FulfillmentUnsourced
)
_GONE = {Status.CANCELLED, Status.INCOMPLETE}
_ARRIVED = {Status.DELIVERED, Status.CLOSED}
_SENT = _ARRIVED | {Status.SHIPPED}
_WAITING = {Status.SCHEDULED, Status.OPEN}


def status_of(parts: Sequence[FulfillmentOrderView | FulfillmentProgress]) -> FulfillmentStatus:
    """Parts that went elsewhere or were cancelled do not count unless there is nothing else."""
    live = [part for part in parts if part.status not in _GONE]
    if not live:
        return FulfillmentStatus.CANCELLED if parts else FulfillmentStatus.UNFULFILLED
    if any(part.status is Status.ON_HOLD for part in live):
        return FulfillmentStatus.ON_HOLD
    if all(part.status in _ARRIVED for part in live):
        return FulfillmentStatus.DELIVERED
    if all(part.status in _SENT for part in live):
        return FulfillmentStatus.SHIPPED
    if all(part.status in _WAITING for part in live):
        return FulfillmentStatus.UNFULFILLED
    return FulfillmentStatus.IN_PROGRESS


async def refresh(session: AsyncSession, order_id: OrderId, *, at: datetime) -> None:
    """Recompute an order's fulfilment status. Orders this platform did not take are left alone."""
    row = (await session.execute(_LOCK, {"id": order_id})).first()
    if row is None:
        return
    parts = (await fulfillment.of_orders(session, SYSTEM, [order_id]))[order_id]
    status = status_of(parts)
    if status == row.fulfillment_status:
        return
    delivered = status is FulfillmentStatus.DELIVERED
    last = max((part.delivered_at for part in parts if part.delivered_at), default=at)
    values = {"id": order_id, "status": status.value, "delivered_at": last if delivered else None}
    await session.execute(_SET, values)
    if delivered:
        await outbox.record(session, OrderDelivered(order_id=order_id, at=last))


async def refresh_many(session: AsyncSession, order_ids: Sequence[OrderId], *, at: datetime) -> None:
    """``refresh`` for many orders. Three statements, and one for those that have arrived."""
    rows = (await session.execute(_LOCK_MANY, {"ids": sorted(set(order_ids))})).all()
    parts = await fulfillment.progress_of(session, [OrderId.of(row.id) for row in rows])
    changes: list[tuple[OrderId, str, datetime | None]] = []
    for row in rows:
        order_id = OrderId.of(row.id)
        status = status_of(parts[order_id])
        if status != row.fulfillment_status:
            last = max((part.delivered_at for part in parts[order_id] if part.delivered_at), default=at)
            arrived = last if status is FulfillmentStatus.DELIVERED else None
            changes.append((order_id, status.value, arrived))
    if not changes:
        return
    ids, statuses, times = (list(column) for column in zip(*changes, strict=True))
    await session.execute(_SET_MANY, {"ids": ids, "statuses": statuses, "times": times})
    delivered = [OrderDelivered(order_id=each, at=when) for each, _, when in changes if when]
    await outbox.record(session, *delivered)


async def on_fulfillment_moved(session: AsyncSession, event: FulfillmentMoved, *, clock: Clock) -> None:
    """Whatever happened to a fulfilment order, its order's status follows."""
    await refresh(session, event.order_id, at=event.at)
