"""A supplier says no: to all of an order, to part of it, or after it had said yes.

The reason changes the stock record, so that the router and the shop window stop believing in the goods. What
is refused waits in one order for the router: the order itself, or a remainder split off from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import FulfillmentLineId, FulfillmentOrderId
from infra.outbox import outbox
from supply.fulfillment import machine, state
from supply.fulfillment.errors import NothingSelected
from supply.fulfillment.machine import ALL, DONE, PART, FoEventKind, RequestStatus, Status
from supply.fulfillment.models import ClockKind
from supply.fulfillment.placing import accepted, arrived_already, created, refused
from supply.fulfillment.state import FulfillmentOrderState, LineState, by_of
from supply.inventory import service as inventory
from supply.inventory.models import MovementKind
from supply.suppliers import service as suppliers
from supply.suppliers.models import OfferStatus

TIMEOUT = "TIMEOUT"


class RejectReason(StrEnum):
    NOT_IN_STOCK = "NOT_IN_STOCK"
    """The shelf is empty: its count becomes 0."""
    DAMAGED = "DAMAGED"
    """These units are lost: they are written off."""
    CAPACITY = "CAPACITY"
    """Too much today: the offer pauses until the supplier's next day."""
    PRICE = "PRICE"
    """The cost is wrong: the offer is stale until a new price comes."""
    ADDRESS = "ADDRESS"
    """Cannot deliver there; nothing about the stock."""
    OTHER = "OTHER"


_Parts = Sequence[tuple[LineState, int]]


async def accept(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    clock: Clock,
    expected_version: int | None = None,
) -> FulfillmentOrderState:
    """Raises ``FulfillmentOrderNotFound``, ``FulfillmentActionNotAllowed``, ``VersionConflict``."""
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    now = clock.now()
    fo.take(FoEventKind.ACCEPT, DONE, actor)
    event = accepted(fo, now)
    await state.save(session, [fo], now=now)
    await outbox.record(session, event)
    return fo


async def accept_partial(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    lines: Mapping[FulfillmentLineId, int],
    reason: RejectReason,
    clock: Clock,
    expected_version: int | None = None,
) -> FulfillmentOrderState:
    """Accept so many units of each line (absent: none); the rest goes to another source.

    Raises ``NothingSelected`` when nothing is accepted (that is a rejection), ``QuantityNotOutstanding``.
    """
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    machine.check(fo.state, FoEventKind.ACCEPT_PARTIAL, by=by_of(actor))
    if not fo.outstanding(lines):
        raise NothingSelected("nothing is accepted; reject the order instead", field="lines")
    now = clock.now()
    parts = [(line, line.outstanding - lines.get(line.id, 0)) for line in fo.lines]
    parts = [(line, quantity) for line, quantity in parts if quantity]
    rest = split_off(fo, parts, Status.OPEN, reason)
    fo.take(
        FoEventKind.ACCEPT_PARTIAL, DONE, actor, reason=reason.value, remainder=str(rest.id) if rest else None
    )
    event = accepted(fo, now)
    await state.save(session, [fo], now=now)
    await outbox.record(session, event)
    if rest is not None:
        await _hand_back(session, fo, parts, reason, now=now, clock=clock)
        await state.insert(session, [rest], now=now)
        await outbox.record(session, refused(rest, reason, now))
    return fo


async def reject(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    reason: RejectReason,
    clock: Clock,
    note: str | None = None,
    expected_version: int | None = None,
) -> FulfillmentOrderState:
    """Refuse all of it. The units go back, with the reason's effect on the stock record, and to the router."""
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    now = clock.now()
    fo.take(FoEventKind.REJECT, DONE, actor, reason=reason.value, note=note)
    fo.end_clock(ClockKind.ACK, now)
    await _refuse_all(session, fo, reason, now=now, clock=clock)
    return fo


async def ack_timeout(session: AsyncSession, order_id: FulfillmentOrderId, *, clock: Clock) -> None:
    """The supplier did not answer in time. Orders that were answered meanwhile are left alone."""
    fo = await state.lock(session, SYSTEM, order_id)
    now = clock.now()
    ack = fo.clocks.get(ClockKind.ACK)
    if fo.state != machine.SUBMITTED or ack is None or now < ack.due_at:
        return
    fo.take(FoEventKind.ACK_TIMEOUT, DONE, SYSTEM, due_at=ack.due_at.isoformat())
    fo.end_clock(ClockKind.ACK, max(now, ack.due_at + timedelta(microseconds=1)))
    await _refuse_all(session, fo, TIMEOUT, now=now, clock=clock)


async def cannot_complete(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    reason: RejectReason,
    clock: Clock,
    expected_version: int | None = None,
) -> FulfillmentOrderState:
    """Give up what has not shipped yet; what has, stays."""
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    now, parts = clock.now(), fo.outstanding()
    if not fo.anything_shipped:
        fo.take(FoEventKind.CANNOT_COMPLETE, ALL, actor, reason=reason.value)
        fo.stop_clocks(now)
        await _refuse_all(session, fo, reason, now=now, clock=clock)
        return fo
    rest = split_off(fo, parts, Status.INCOMPLETE, reason)
    fo.take(
        FoEventKind.CANNOT_COMPLETE,
        PART,
        actor,
        reason=reason.value,
        remainder=str(rest.id) if rest else None,
    )
    fo.end_clock(ClockKind.SHIP, now)
    fo.shipped_at = fo.shipped_at or now
    events = arrived_already(fo, now)
    await state.save(session, [fo], now=now)
    await outbox.record(session, *events)
    if rest is not None:
        await _hand_back(session, fo, parts, reason, now=now, clock=clock)
        await state.insert(session, [rest], now=now)
        await outbox.record(session, refused(rest, reason, now))
    return fo


def split_off(
    fo: FulfillmentOrderState, parts: _Parts, status: Status, reason: str
) -> FulfillmentOrderState | None:
    """A remainder order for the refused units: same source on paper, waiting for another one."""
    if not parts:
        return None
    rest = FulfillmentOrderState(
        id=FulfillmentOrderId.new(), order_id=fo.order_id, reference=fo.reference, brand_id=fo.brand_id,
        supplier_id=fo.supplier_id, location_id=fo.location_id, parent_id=fo.id, attempt_no=fo.attempt_no,
        address=fo.address, dest_zone=fo.dest_zone, currency=fo.currency, status=status,
        request_status=RequestStatus.REJECTED, reason=reason, deliver_by=fo.deliver_by,
        submitted_at=fo.submitted_at,
        lines=[
            LineState(
                FulfillmentLineId.new(), line.order_line_id, line.variant_id, line.sku, line.title, quantity,
                line.unit_cost_minor, line.price_version, None, line.weight_g,
            )
            for line, quantity in parts
        ],
    )  # fmt: skip
    for line, quantity in parts:
        line.rejected += quantity
        line.accepted = min(line.accepted, line.live)
    rest.trail.append(created(rest, remainder_of=str(fo.id), reason=reason))
    return rest


async def _refuse_all(
    session: AsyncSession, fo: FulfillmentOrderState, reason: str, *, now: datetime, clock: Clock
) -> None:
    fo.reason = reason
    await state.save(session, [fo], now=now)
    await _hand_back(session, fo, fo.outstanding(), reason, now=now, clock=clock)
    await outbox.record(session, refused(fo, reason, now))


async def _hand_back(
    session: AsyncSession,
    fo: FulfillmentOrderState,
    parts: _Parts,
    reason: str,
    *,
    now: datetime,
    clock: Clock,
) -> None:
    """Release the reservations, then let the reason change what we believe about the stock."""
    held = [(line.reservation_id, quantity) for line, quantity in parts if line.reservation_id]
    await inventory.release_part(session, held, cause=f"{fo.id}:{reason}:v{fo.version}", now=now)
    variants = [line.variant_id for line, _ in parts]
    if reason == RejectReason.CAPACITY:
        await suppliers.pause_offers(session, fo.location_id, variants, until=_next_day(fo.tz, now), now=now)
    elif reason == RejectReason.PRICE:
        await suppliers.pause_offers(
            session, fo.location_id, variants, until=None, now=now, status=OfferStatus.STALE
        )
    elif reason in (RejectReason.NOT_IN_STOCK, RejectReason.DAMAGED):
        await _correct_stock(session, fo, parts, reason, clock=clock)


async def _correct_stock(
    session: AsyncSession, fo: FulfillmentOrderState, parts: _Parts, reason: str, *, clock: Clock
) -> None:
    gone = reason == RejectReason.NOT_IN_STOCK
    rows = [
        inventory.StockRow(
            fo.location_id, line.variant_id, fo.brand_id,
            count=0 if gone else None, delta=None if gone else -quantity,
            event_id=f"{fo.id}:{line.id}:v{fo.version}", kind=MovementKind.WRITE_OFF,
        )
        for line, quantity in parts
    ]  # fmt: skip
    for start in range(0, len(rows), 1_000):
        await inventory.apply_stock(
            session, fo.supplier_id, rows[start : start + 1_000], clock=clock, source="fulfillment"
        )


def _next_day(tz: str, now: datetime) -> datetime:
    local = now.astimezone(ZoneInfo(tz))
    return datetime.combine(local.date() + timedelta(days=1), time(), local.tzinfo)
