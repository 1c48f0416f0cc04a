"""Clocks that ran out: no answer, no shipment, no scan, no delivery.

Each due clock is claimed in a transaction of its own, so one bad order never holds up the rest, and a second
sweeper skips what the first one has in hand.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import FulfillmentOrderId
from infra.db.session import Database
from infra.outbox import outbox
from supply.fulfillment import machine, state
from supply.fulfillment.cancelling import cancel_timeout
from supply.fulfillment.events import FulfillmentOrderDelivered
from supply.fulfillment.machine import DONE, FoEventKind
from supply.fulfillment.models import ClockKind
from supply.fulfillment.refusing import ack_timeout

# The order is locked, not its clock: the verbs lock in that sequence too, so nobody waits in a circle.
_DUE = text(
    "SELECT c.fulfillment_order_id, c.kind FROM sla_clocks c"
    " JOIN fulfillment_orders f ON f.id = c.fulfillment_order_id"
    " WHERE c.state = 'running' AND c.due_at <= :now"
    " AND NOT (c.fulfillment_order_id, c.kind) = ANY (SELECT o, k FROM unnest(CAST(:orders AS uuid[]),"
    " CAST(:kinds AS varchar[])) AS seen(o, k))"
    " ORDER BY c.due_at, c.fulfillment_order_id LIMIT 1 FOR UPDATE OF f SKIP LOCKED"
)
_BREACH = text(
    "UPDATE sla_clocks SET state = 'breached', ended_at = :now"
    " WHERE fulfillment_order_id = :id AND kind = :kind AND state = 'running' AND due_at <= :now"
)


async def sweep_clocks(db: Database, *, clock: Clock, batch: int = 200) -> int:
    """Act on clocks that ran out, oldest first. Returns how many; safe to run many times at once."""
    seen: list[tuple[FulfillmentOrderId, str]] = []
    while len(seen) < batch:
        now = clock.now()
        async with db.unit_of_work(SYSTEM) as session:
            where = {"now": now, "orders": [each for each, _ in seen], "kinds": [kind for _, kind in seen]}
            due = (await session.execute(_DUE, where)).first()
            if due is None:
                break
            order_id = FulfillmentOrderId.of(due.fulfillment_order_id)
            seen.append((order_id, due.kind))
            await _ran_out(session, order_id, ClockKind(due.kind), now=now, clock=clock)
    return len(seen)


async def _ran_out(
    session: AsyncSession, order_id: FulfillmentOrderId, kind: ClockKind, *, now: datetime, clock: Clock
) -> None:
    if kind is ClockKind.ACK:
        await ack_timeout(session, order_id, clock=clock)
    elif kind is ClockKind.CANCEL:
        await cancel_timeout(session, order_id, clock=clock)
    elif kind is ClockKind.DELIVER:
        await _deliver_timeout(session, order_id, now)
    await session.execute(_BREACH, {"id": order_id, "kind": kind.value, "now": now})


async def _deliver_timeout(session: AsyncSession, order_id: FulfillmentOrderId, now: datetime) -> None:
    """No news for a month: nobody complained, so it arrived."""
    fo = await state.lock(session, SYSTEM, order_id)
    if fo.state != machine.SHIPPED:
        return
    lines = tuple(
        line.of(line.shipped - line.delivered) for line in fo.lines if line.shipped > line.delivered
    )
    fo.take(FoEventKind.DELIVER_TIMEOUT, DONE, SYSTEM)
    for line in fo.lines:
        line.delivered = line.shipped
    fo.delivered_at = now
    await state.save(session, [fo], now=now)
    await outbox.record(
        session, FulfillmentOrderDelivered(fo.order_id, fo.id, fo.supplier_id, now, lines, True)
    )
