"""Taking units off before they ship, and holding an order still."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.events import Event
from core.ids import FulfillmentOrderId, OrderId, OrderLineId
from infra.outbox import outbox
from supply.fulfillment import machine, state
from supply.fulfillment.errors import CancellationNotRefusable
from supply.fulfillment.events import FulfillmentCancellationRequested, FulfillmentOrderCancelled
from supply.fulfillment.machine import ALL, DONE, HELD_STATUS, PART, FoEventKind
from supply.fulfillment.models import ClockKind, ClockState
from supply.fulfillment.placing import arrived_already
from supply.fulfillment.state import FulfillmentOrderState, LineState, by_of
from supply.inventory import service as inventory

CANCEL_ANSWER_WITHIN = timedelta(hours=24)
ORDER_CANCELLED = "ORDER_CANCELLED"


async def cancel_unshipped(
    session: AsyncSession,
    actor: Actor,
    order_id: OrderId,
    *,
    clock: Clock,
    lines: Mapping[OrderLineId, int] | None = None,
    reason: str = ORDER_CANCELLED,
) -> dict[OrderLineId, int]:
    """Take units that have not shipped off an order's fulfilment orders (default: all of them).

    Takes as much of what is asked as is still unshipped, orders without a source first, and returns how much
    that was per order line: the rest is on its way and has to come back as a return.
    """
    found = await state.lock_of_orders(session, actor, [order_id])
    left = dict(lines) if lines is not None else None
    now, taken, events, changed = clock.now(), dict[OrderLineId, int](), list[Event](), []
    for fo in sorted(
        found, key=lambda fo: (fo.state not in machine.REFUSED | machine.HELD, -fo.attempt_no, fo.id)
    ):
        if FoEventKind.CANCEL_UNSHIPPED not in machine.allowed(fo.state, by_of(actor)):
            continue
        parts = _wanted(fo, left)
        if not parts:
            continue
        events.append(await _take_off(session, actor, fo, parts, reason, now))
        events += arrived_already(fo, now)
        changed.append(fo)
        for line, quantity in parts:
            taken[line.order_line_id] = taken.get(line.order_line_id, 0) + quantity
    await state.save(session, changed, now=now)
    await outbox.record(session, *events)
    return taken


async def request_cancel(
    session: AsyncSession, actor: Actor, order_id: FulfillmentOrderId, *, clock: Clock
) -> FulfillmentOrderState:
    """Ask the supplier to stop; it has a day to answer, silence is consent."""
    fo = await state.lock(session, actor, order_id)
    now = clock.now()
    fo.take(FoEventKind.REQUEST_CANCEL, DONE, actor)
    fo.start_clock(ClockKind.CANCEL, now, CANCEL_ANSWER_WITHIN)
    await state.save(session, [fo], now=now)
    await outbox.record(session, FulfillmentCancellationRequested(fo.id, fo.order_id, fo.supplier_id, now))
    return fo


async def accept_cancel(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    clock: Clock,
    expected_version: int | None = None,
) -> FulfillmentOrderState:
    """What has not shipped is cancelled; what has, stays shipped."""
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    await _cancel_rest(session, actor, fo, FoEventKind.ACCEPT_CANCEL, clock.now())
    return fo


async def cancel_timeout(session: AsyncSession, order_id: FulfillmentOrderId, *, clock: Clock) -> None:
    fo = await state.lock(session, SYSTEM, order_id)
    asked = fo.clocks.get(ClockKind.CANCEL)
    if fo.state in machine.ASKED_TO_CANCEL and asked is not None and clock.now() >= asked.due_at:
        await _cancel_rest(session, SYSTEM, fo, FoEventKind.CANCEL_TIMEOUT, clock.now())


async def reject_cancel(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    clock: Clock,
    label: str | None = None,
    expected_version: int | None = None,
) -> FulfillmentOrderState:
    """Too late to stop: ``label`` is the number already printed, unless part of it has shipped.

    Raises ``CancellationNotRefusable``.
    """
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    machine.check(fo.state, FoEventKind.REJECT_CANCEL, by=by_of(actor))
    if not label and not fo.anything_shipped:
        raise CancellationNotRefusable("nothing is labelled or shipped yet", field="label")
    fo.take(FoEventKind.REJECT_CANCEL, DONE, actor, label=label)
    fo.end_clock(ClockKind.CANCEL, clock.now())
    await state.save(session, [fo], now=clock.now())
    return fo


async def hold(
    session: AsyncSession, actor: Actor, order_id: FulfillmentOrderId, *, reason: str, clock: Clock
) -> FulfillmentOrderState:
    """Stand still: the clocks pause."""
    fo = await state.lock(session, actor, order_id)
    now = clock.now()
    fo.take(FoEventKind.HOLD, DONE, actor, reason=reason)
    fo.hold_reason = reason
    for each in fo.clocks.values():
        if each.state is ClockState.RUNNING:
            each.state, each.paused_at = ClockState.PAUSED, now
    await state.save(session, [fo], now=now)
    return fo


async def release_hold(
    session: AsyncSession, actor: Actor, order_id: FulfillmentOrderId, *, clock: Clock
) -> FulfillmentOrderState:
    """Go on where it stood; the clocks get the pause back."""
    fo = await state.lock(session, actor, order_id)
    now = clock.now()
    fo.take(FoEventKind.RELEASE_HOLD, HELD_STATUS, actor)
    for each in fo.clocks.values():
        if each.state is ClockState.PAUSED and each.paused_at is not None:
            pause = now - each.paused_at
            each.due_at, each.paused_ms = (
                each.due_at + pause,
                each.paused_ms + pause // timedelta(milliseconds=1),
            )
            each.state, each.paused_at = ClockState.RUNNING, None
    await state.save(session, [fo], now=now)
    return fo


def _wanted(fo: FulfillmentOrderState, left: dict[OrderLineId, int] | None) -> list[tuple[LineState, int]]:
    parts = []
    for line, outstanding in fo.outstanding():
        quantity = outstanding if left is None else min(left.get(line.order_line_id, 0), outstanding)
        if quantity:
            parts.append((line, quantity))
            if left is not None:
                left[line.order_line_id] -= quantity
    return parts


async def _take_off(
    session: AsyncSession,
    actor: Actor,
    fo: FulfillmentOrderState,
    parts: list[tuple[LineState, int]],
    reason: str,
    now: datetime,
) -> FulfillmentOrderCancelled:
    still_held = fo.request_status not in (machine.RequestStatus.REJECTED, machine.RequestStatus.CLOSED)
    for line, quantity in parts:
        line.cancelled += quantity
    outcome = DONE
    if not any(line.outstanding for line in fo.lines):
        outcome = PART if fo.anything_shipped else ALL
    fo.take(FoEventKind.CANCEL_UNSHIPPED, outcome, actor, reason=reason)
    return await _cancelled(session, fo, parts, reason, now, still_held=still_held, ended=outcome != DONE)


async def _cancel_rest(
    session: AsyncSession, actor: Actor, fo: FulfillmentOrderState, event: FoEventKind, now: datetime
) -> None:
    outcome = PART if fo.anything_shipped else ALL
    fo.take(event, outcome, actor)
    fo.end_clock(ClockKind.CANCEL, now)
    parts = fo.outstanding()
    for line, quantity in parts:
        line.cancelled += quantity
    told = await _cancelled(session, fo, parts, event.value.upper(), now, still_held=True, ended=True)
    arrived = arrived_already(fo, now)
    await state.save(session, [fo], now=now)
    await outbox.record(session, told, *arrived)


async def _cancelled(
    session: AsyncSession,
    fo: FulfillmentOrderState,
    parts: list[tuple[LineState, int]],
    reason: str,
    now: datetime,
    *,
    still_held: bool,
    ended: bool,
) -> FulfillmentOrderCancelled:
    """Give the units back and say so; a finished order's clocks stop."""
    held = [(line.reservation_id, quantity) for line, quantity in parts if line.reservation_id and still_held]
    await inventory.release_part(session, held, cause=f"{fo.id}:cancel:v{fo.version}", now=now)
    for line in fo.lines:
        line.accepted = min(line.accepted, line.live)
    if ended:
        if fo.anything_shipped:
            fo.shipped_at = fo.shipped_at or now
            fo.end_clock(ClockKind.SHIP, now)
        else:
            fo.reason = reason
            fo.stop_clocks(now)
    lines = tuple(line.of(quantity) for line, quantity in parts)
    complete = ended and not fo.anything_shipped
    return FulfillmentOrderCancelled(fo.id, fo.order_id, fo.supplier_id, lines, reason, complete, now)
