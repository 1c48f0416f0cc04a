"""Goods leave the building and arrive. Carriers report late and out of order; facts are kept, never refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.events import Event
from core.ids import FulfillmentLineId, FulfillmentOrderId, ShipmentId
from infra.outbox import outbox
from supply.fulfillment import machine, state
from supply.fulfillment.carriers import NUMBERS_REPEAT_AFTER, checked_carrier
from supply.fulfillment.errors import NothingSelected, ShipmentNotFound, TrackingNumberUsed
from supply.fulfillment.events import (
    FulfillmentExceptionRaised,
    FulfillmentOrderDelivered,
    FulfillmentOrderShipped,
    LineQuantity,
)
from supply.fulfillment.machine import ALL, DONE, PART, FoEventKind
from supply.fulfillment.models import ClockKind, TrackingEventId
from supply.fulfillment.state import FulfillmentOrderState, by_of
from supply.inventory import service as inventory

FIRST_SCAN_WITHIN = timedelta(hours=24)
DELIVERED_WITHIN = timedelta(days=30)
"""Without any news for so long a shipment counts as delivered."""
HANDED_OVER_EARLY = "HANDED_OVER_BEFORE_SUBMITTED"
DELIVERED_EARLY = "DELIVERED_BEFORE_HANDED_OVER"


class ShipmentStatus(StrEnum):
    LABELLED = "LABELLED"
    INFO_RECEIVED = "INFO_RECEIVED"
    IN_TRANSIT = "IN_TRANSIT"
    OUT_FOR_DELIVERY = "OUT_FOR_DELIVERY"
    ATTEMPT_FAILED = "ATTEMPT_FAILED"
    AVAILABLE_FOR_PICKUP = "AVAILABLE_FOR_PICKUP"
    EXCEPTION = "EXCEPTION"
    EXPIRED = "EXPIRED"
    DELIVERED = "DELIVERED"
    RETURNED = "RETURNED"


_RANK = {
    ShipmentStatus.LABELLED: 0, ShipmentStatus.INFO_RECEIVED: 1, ShipmentStatus.IN_TRANSIT: 2,
    ShipmentStatus.OUT_FOR_DELIVERY: 3, ShipmentStatus.ATTEMPT_FAILED: 3,
    ShipmentStatus.AVAILABLE_FOR_PICKUP: 3, ShipmentStatus.EXCEPTION: 3, ShipmentStatus.EXPIRED: 4,
    ShipmentStatus.RETURNED: 5, ShipmentStatus.DELIVERED: 5,
}  # fmt: skip

_NUMBER_USED = text("SELECT tracking_number_used(:carrier, :number, :since)")
_INSERT = text("""
WITH shipment AS (
    INSERT INTO shipments (id, fulfillment_order_id, order_id, supplier_id, brand_id, carrier, tracking_no,
        status, status_at, handed_over_at, created_at)
    VALUES (:id, :fo, :order_id, :supplier_id, :brand_id, :carrier, :number, 'INFO_RECEIVED', :handed_over_at,
        :handed_over_at, :now)
)
INSERT INTO shipment_lines (shipment_id, fulfillment_line_id, supplier_id, brand_id, quantity)
SELECT :id, w.id, :supplier_id, :brand_id, w.quantity
FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS w(id uuid, quantity bigint)
""")
_SHIPMENTS = text("""
SELECT s.id, s.fulfillment_order_id, s.status, s.status_at, s.handed_over_at, s.delivered_at,
    (SELECT jsonb_object_agg(l.fulfillment_line_id, l.quantity) FROM shipment_lines l
     WHERE l.shipment_id = s.id) AS lines
FROM shipments s WHERE s.fulfillment_order_id = :fo ORDER BY s.id
""")
_OWNER = text("SELECT fulfillment_order_id FROM shipments WHERE id = :id")
_TRACK = text("""
WITH news AS (
    INSERT INTO tracking_events (id, shipment_id, supplier_id, brand_id, event_id, status, carrier_time,
        received_at, correction, raw)
    SELECT id, shipment_id, :supplier_id, :brand_id, event_id, status, carrier_time, :now, correction, raw
    FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS w(id uuid, shipment_id uuid, event_id varchar,
        status varchar, carrier_time timestamptz, correction boolean, raw varchar)
    ON CONFLICT (shipment_id, event_id) DO NOTHING
)
UPDATE shipments s SET status = w.status, status_at = w.status_at, delivered_at = w.delivered_at
FROM jsonb_to_recordset(CAST(:shipments AS jsonb)) AS w(id uuid, status varchar, status_at timestamptz,
    delivered_at timestamptz) WHERE s.id = w.id
""")


@dataclass(frozen=True, slots=True)
class TrackingUpdate:
    """``at`` is the carrier's time; ``event_id`` its id of the scan. Only a ``correction`` may step back."""

    event_id: str
    status: ShipmentStatus
    at: datetime
    correction: bool = False
    raw: str | None = None


@dataclass(slots=True)
class _Parcel:
    id: ShipmentId
    status: ShipmentStatus
    status_at: datetime
    handed_over_at: datetime
    delivered_at: datetime | None
    lines: dict[FulfillmentLineId, int]


async def ship(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    carrier: str,
    tracking_no: str,
    clock: Clock,
    lines: Mapping[FulfillmentLineId, int] | None = None,
    handed_over_at: datetime | None = None,
    expected_version: int | None = None,
) -> ShipmentId:
    """One parcel leaves, with the given units (default: all that is outstanding).

    Raises ``UnknownCarrier``, ``TrackingNumberUsed``, ``QuantityNotOutstanding``, ``NothingSelected``.
    """
    carrier, now = checked_carrier(carrier), clock.now()
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    machine.check(fo.state, FoEventKind.SHIP, by=by_of(actor))
    parts = fo.outstanding(lines)
    if not parts:
        raise NothingSelected("a shipment needs at least one unit", field="lines")
    await _claim_number(session, carrier, tracking_no, now)
    shipment_id, left_at = ShipmentId.new(), handed_over_at or now
    for line, quantity in parts:
        line.shipped += quantity
    fo.take(
        FoEventKind.SHIP, ALL if fo.all_shipped else PART, actor, shipment=str(shipment_id), carrier=carrier
    )
    left_the_building(fo, left_at)
    await session.execute(
        _INSERT,
        {
            "id": shipment_id, "fo": fo.id, "order_id": fo.order_id, "supplier_id": fo.supplier_id,
            "brand_id": fo.brand_id, "carrier": carrier, "number": tracking_no, "handed_over_at": left_at,
            "now": now, "lines": as_json({"id": line.id.hex, "quantity": q} for line, q in parts),
        },
    )  # fmt: skip
    await state.save(session, [fo], now=now)
    consumed = [(line.reservation_id, quantity) for line, quantity in parts if line.reservation_id]
    await inventory.consume(session, consumed, cause=str(shipment_id), now=now)
    told = tuple(line.of(quantity) for line, quantity in parts)
    await outbox.record(
        session,
        FulfillmentOrderShipped(
            fo.id,
            fo.order_id,
            fo.supplier_id,
            shipment_id,
            carrier,
            tracking_no,
            told,
            fo.all_shipped,
            left_at,
        ),
    )
    return shipment_id


async def record_tracking(
    session: AsyncSession,
    actor: Actor,
    shipment_id: ShipmentId,
    updates: Sequence[TrackingUpdate],
    *,
    clock: Clock,
) -> FulfillmentOrderState:
    """What the carrier says of one parcel. Repeats and late news are kept and change nothing.

    Raises ``ShipmentNotFound``.
    """
    owner = (await session.execute(_OWNER, {"id": shipment_id})).scalar()
    if owner is None:
        raise ShipmentNotFound(f"no shipment {shipment_id}")
    fo = await state.lock(session, actor, FulfillmentOrderId.of(owner))
    parcels = await _parcels(session, fo)
    await _apply(session, actor, fo, [(parcels[shipment_id], update) for update in updates], clock=clock)
    return fo


async def deliver(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    clock: Clock,
    delivered_at: datetime | None = None,
    proof: str | None = None,
    expected_version: int | None = None,
) -> FulfillmentOrderState:
    """Every parcel on its way has arrived (the supplier's own proof of delivery)."""
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    machine.check(fo.state, FoEventKind.DELIVER, by=by_of(actor))
    update = TrackingUpdate(
        "proof-of-delivery", ShipmentStatus.DELIVERED, delivered_at or clock.now(), raw=proof
    )
    parcels = [p for p in (await _parcels(session, fo)).values() if p.delivered_at is None]
    await _apply(session, actor, fo, [(parcel, update) for parcel in parcels], clock=clock)
    return fo


async def mark_lost(
    session: AsyncSession,
    actor: Actor,
    order_id: FulfillmentOrderId,
    *,
    clock: Clock,
    returned: bool = False,
    expected_version: int | None = None,
) -> FulfillmentOrderState:
    """A shipped order will not arrive: lost, or returned to its sender."""
    fo = await state.lock(session, actor, order_id, expected_version=expected_version)
    event = _excepted(fo, actor, returned=returned, at=clock.now())
    await state.save(session, [fo], now=clock.now())
    await outbox.record(session, event)
    return fo


async def _claim_number(session: AsyncSession, carrier: str, tracking_no: str, now: datetime) -> None:
    where = {"carrier": carrier, "number": tracking_no, "since": now - NUMBERS_REPEAT_AFTER}
    if (await session.execute(_NUMBER_USED, where)).scalar_one():
        raise TrackingNumberUsed(f"{carrier} {tracking_no} belongs to another shipment", field="tracking_no")


def left_the_building(fo: FulfillmentOrderState, at: datetime) -> None:
    if fo.submitted_at is not None and at < fo.submitted_at:
        fo.flag(HANDED_OVER_EARLY)
    if ClockKind.FIRST_SCAN not in fo.clocks:
        fo.start_clock(ClockKind.FIRST_SCAN, at, FIRST_SCAN_WITHIN)
    fo.start_clock(ClockKind.DELIVER, at, DELIVERED_WITHIN)
    if fo.all_shipped:
        fo.shipped_at = at
        fo.end_clock(ClockKind.SHIP, at)


async def _parcels(session: AsyncSession, fo: FulfillmentOrderState) -> dict[ShipmentId, _Parcel]:
    return {
        ShipmentId.of(row.id): _Parcel(
            ShipmentId.of(row.id), ShipmentStatus(row.status), row.status_at, row.handed_over_at,
            row.delivered_at, {FulfillmentLineId(k): quantity for k, quantity in row.lines.items()},
        )
        for row in await session.execute(_SHIPMENTS, {"fo": fo.id})
    }  # fmt: skip


async def _apply(
    session: AsyncSession,
    actor: Actor,
    fo: FulfillmentOrderState,
    news: Sequence[tuple[_Parcel, TrackingUpdate]],
    *,
    clock: Clock,
) -> None:
    now = clock.now()
    arrived: dict[FulfillmentLineId, int] = {}
    returned = False
    for parcel, update in sorted(news, key=lambda pair: pair[1].at):
        if not _moves(parcel, update):
            continue
        parcel.status, parcel.status_at = update.status, update.at
        if _RANK[update.status] >= _RANK[ShipmentStatus.IN_TRANSIT]:
            fo.end_clock(ClockKind.FIRST_SCAN, update.at)
        if update.status is ShipmentStatus.DELIVERED:
            parcel.delivered_at = update.at
            if update.at < parcel.handed_over_at:
                fo.flag(DELIVERED_EARLY)
            for line_id, quantity in parcel.lines.items():
                arrived[line_id] = arrived.get(line_id, 0) + quantity
        returned |= update.status is ShipmentStatus.RETURNED
    await session.execute(
        _TRACK,
        {
            "supplier_id": fo.supplier_id, "brand_id": fo.brand_id, "now": now,
            "events": as_json(_tracking_row(parcel.id, update) for parcel, update in news),
            "shipments": as_json({p.id: _parcel_row(p) for p, _ in news}.values()),
        },
    )  # fmt: skip
    events: list[Event] = []
    if arrived:
        at = max(update.at for _, update in news if update.status is ShipmentStatus.DELIVERED)
        events.append(reached_customer(fo, actor, arrived, at))
    elif returned and machine.FoEventKind.RETURNED_TO_SENDER in machine.allowed(fo.state):
        events.append(_excepted(fo, actor, returned=True, at=now))
    await state.save(session, [fo], now=now)
    await outbox.record(session, *events)


def _moves(parcel: _Parcel, update: TrackingUpdate) -> bool:
    """Further along, or later at the same step. A delivery has been paid out on and is never taken back."""
    if parcel.delivered_at is not None:
        return False
    if update.correction:
        return True
    return (_RANK[update.status], update.at) > (_RANK[parcel.status], parcel.status_at) and (
        _RANK[update.status] >= _RANK[parcel.status]
    )


def reached_customer(
    fo: FulfillmentOrderState, actor: Actor, arrived: Mapping[FulfillmentLineId, int], at: datetime
) -> FulfillmentOrderDelivered:
    lines: list[LineQuantity] = []
    for line_id, quantity in arrived.items():
        line = fo.line(line_id)
        line.delivered += quantity
        lines.append(line.of(quantity))
    complete = fo.all_shipped and all(line.delivered == line.shipped for line in fo.lines)
    fo.take(FoEventKind.DELIVER, ALL if complete else PART, actor, at=at.isoformat())
    if complete:
        fo.delivered_at = at
        fo.end_clock(ClockKind.DELIVER, at)
    return FulfillmentOrderDelivered(fo.order_id, fo.id, fo.supplier_id, at, tuple(lines), complete)


def _excepted(
    fo: FulfillmentOrderState, actor: Actor, *, returned: bool, at: datetime
) -> FulfillmentExceptionRaised:
    event = FoEventKind.RETURNED_TO_SENDER if returned else FoEventKind.LOST
    fo.take(event, DONE, actor)
    fo.reason = event.value.upper()
    return FulfillmentExceptionRaised(fo.id, fo.order_id, fo.supplier_id, fo.reason, at)


def _tracking_row(shipment_id: ShipmentId, update: TrackingUpdate) -> dict[str, Any]:
    return {
        "id": TrackingEventId.new().hex, "shipment_id": shipment_id.hex, "event_id": update.event_id,
        "status": update.status, "carrier_time": update.at, "correction": update.correction,
        "raw": update.raw,
    }  # fmt: skip


def _parcel_row(parcel: _Parcel) -> dict[str, Any]:
    return {
        "id": parcel.id.hex, "status": parcel.status, "status_at": parcel.status_at,
        "delivered_at": parcel.delivered_at,
    }  # fmt: skip


def as_json(rows: Any) -> str:
    return orjson.dumps(list(rows)).decode()
