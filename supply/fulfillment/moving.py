"""What the router does with an order that lost its source: hand its lines to others, or hold it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.events import Event
from core.ids import FulfillmentOrderId, OrderLineId
from infra.outbox import outbox
from supply.fulfillment import machine, state
from supply.fulfillment.events import FulfillmentRerouted, FulfillmentUnsourced, RoutedChange
from supply.fulfillment.machine import DONE, FoEventKind
from supply.fulfillment.placing import NewFulfillmentOrder, created, from_new, submit
from supply.fulfillment.state import FulfillmentOrderState
from supply.suppliers import queries as suppliers

NO_SOURCE = "NO_SOURCE"


async def lock_refused(session: AsyncSession, order_id: FulfillmentOrderId) -> FulfillmentOrderState | None:
    """The order in hand if it still waits for another source; ``None`` when that was seen to already."""
    fo = await state.lock(session, SYSTEM, order_id)
    return fo if fo.state in machine.REFUSED and fo.outstanding() else None


async def move(
    session: AsyncSession,
    fo: FulfillmentOrderState,
    placements: Sequence[NewFulfillmentOrder],
    *,
    clock: Clock,
    reason: str = NO_SOURCE,
) -> list[FulfillmentOrderId]:
    """Hand outstanding lines of a refused order to new orders, submitted at once.

    What the placements do not take stays with ``fo`` ON_HOLD for ``reason``; otherwise ``fo`` is cancelled as
    moved. Records ``FulfillmentRerouted`` per new order and ``FulfillmentUnsourced`` for the rest.
    """
    now = clock.now()
    new = [from_new(each, parent=fo, status=machine.Status.OPEN) for each in placements]
    await _know_suppliers(session, new)
    events: list[Event] = []
    for number, each in enumerate(new):
        each.trail.append(created(each, moved_from=str(fo.id)))
        events += submit(each, now)
        events.append(_rerouted(fo, each, now, first=number == 0))
    _take_moved(fo, new)
    if fo.outstanding():
        fo.take(FoEventKind.UNSOURCED, DONE, SYSTEM, reason=reason)
        fo.hold_reason = reason
        lines = tuple(line.of(quantity) for line, quantity in fo.outstanding())
        events.append(FulfillmentUnsourced(fo.order_id, fo.id, lines, reason, now))
    else:
        fo.take(FoEventKind.MOVE, DONE, SYSTEM, to=[str(each.id) for each in new])
        fo.stop_clocks(now)
    await state.save(session, [fo], now=now)
    await state.insert(session, new, now=now)
    await outbox.record(session, *events)
    return [each.id for each in new]


async def _know_suppliers(session: AsyncSession, new: Sequence[FulfillmentOrderState]) -> None:
    if not new:
        return
    known = await suppliers.suppliers(session, sorted({each.supplier_id for each in new}))
    for each in new:
        terms = known[each.supplier_id]
        each.accept_mode, each.accept_sla_min = terms.accept_mode, terms.accept_sla_min
        each.ship_sla_hours, each.supplier_active = terms.ship_sla_hours, terms.status == "active"


def _take_moved(fo: FulfillmentOrderState, new: Sequence[FulfillmentOrderState]) -> None:
    moved: dict[OrderLineId, int] = {}
    for each in new:
        for line in each.lines:
            moved[line.order_line_id] = moved.get(line.order_line_id, 0) + line.quantity
    for line, outstanding in fo.outstanding():
        quantity = min(outstanding, moved.get(line.order_line_id, 0))
        line.cancelled += quantity
        line.accepted = min(line.accepted, line.live)
        moved[line.order_line_id] = moved.get(line.order_line_id, 0) - quantity


def _rerouted(
    fo: FulfillmentOrderState, new: FulfillmentOrderState, now: datetime, *, first: bool
) -> FulfillmentRerouted:
    before = {line.order_line_id: line.unit_cost_minor for line in fo.lines}
    return FulfillmentRerouted(
        order_id=fo.order_id,
        brand_id=fo.brand_id,
        from_fo=fo.id,
        to_fo=new.id,
        currency=fo.currency,
        changes=tuple(
            RoutedChange(
                line.order_line_id, line.quantity, fo.supplier_id,
                before[line.order_line_id] * line.quantity, new.supplier_id,
                line.unit_cost_minor * line.quantity,
            )
            for line in new.lines
        ),
        from_freight_minor=fo.freight_minor if first else 0,
        to_freight_minor=new.freight_minor,
        at=now,
    )  # fmt: skip
