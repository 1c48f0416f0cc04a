"""A carrier's manifest: parcels of many orders leave, or arrive, in one go.

The same steps as ``ship`` and ``deliver`` one by one, in a handful of statements for any number of orders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import FulfillmentLineId, FulfillmentOrderId, ReservationId, ShipmentId
from infra.outbox import outbox
from supply.fulfillment import machine, state
from supply.fulfillment.carriers import NUMBERS_REPEAT_AFTER, checked_carrier
from supply.fulfillment.errors import FulfillmentOrderNotFound, NothingSelected, TrackingNumberUsed
from supply.fulfillment.events import FulfillmentOrderDelivered, FulfillmentOrderShipped
from supply.fulfillment.machine import ALL, FoEventKind
from supply.fulfillment.models import ClockKind, TrackingEventId
from supply.fulfillment.shipping import (
    DELIVERED_EARLY,
    as_json,
    left_the_building,
    reached_customer,
)
from supply.fulfillment.state import FulfillmentOrderState, LineState, by_of
from supply.inventory import service as inventory

_NUMBERS_USED = text(
    "SELECT w.carrier, w.number FROM unnest(CAST(:carriers AS varchar[]), CAST(:numbers AS varchar[]))"
    " AS w(carrier, number) WHERE tracking_number_used(w.carrier, w.number, :since) LIMIT 1"
)
_INSERT = text("""
WITH shipment AS (
    INSERT INTO shipments (id, fulfillment_order_id, order_id, supplier_id, brand_id, carrier, tracking_no,
        status, status_at, handed_over_at, created_at)
    SELECT id, fo, order_id, supplier_id, brand_id, carrier, number, 'INFO_RECEIVED', at, at, :now
    FROM jsonb_to_recordset(CAST(:shipments AS jsonb)) AS w(id uuid, fo uuid, order_id uuid, supplier_id uuid,
        brand_id uuid, carrier varchar, number varchar, at timestamptz)
)
INSERT INTO shipment_lines (shipment_id, fulfillment_line_id, supplier_id, brand_id, quantity)
SELECT shipment, line, supplier_id, brand_id, quantity
FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS w(shipment uuid, line uuid, supplier_id uuid, brand_id uuid,
    quantity bigint)
""")
_ON_THEIR_WAY = text("""
SELECT s.id, s.fulfillment_order_id, s.handed_over_at, l.fulfillment_line_id, l.quantity
FROM shipments s JOIN shipment_lines l ON l.shipment_id = s.id
WHERE s.fulfillment_order_id = ANY(:ids) AND s.delivered_at IS NULL ORDER BY s.id, l.fulfillment_line_id
""")
_ARRIVED = text("""
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(event uuid, shipment uuid, supplier_id uuid,
        brand_id uuid, at timestamptz)
), news AS (
    INSERT INTO tracking_events (id, shipment_id, supplier_id, brand_id, event_id, status, carrier_time,
        received_at, correction, raw)
    SELECT event, shipment, supplier_id, brand_id, 'proof-of-delivery', 'DELIVERED', at, :now, false, NULL
    FROM wanted ON CONFLICT (shipment_id, event_id) DO NOTHING
)
UPDATE shipments s SET status = 'DELIVERED', status_at = w.at, delivered_at = w.at
FROM wanted w WHERE s.id = w.shipment
""")


@dataclass(frozen=True, slots=True)
class Departure:
    """Everything outstanding of one fulfilment order, in one parcel."""

    order_id: FulfillmentOrderId
    carrier: str
    tracking_no: str
    handed_over_at: datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """Every parcel on its way of one fulfilment order."""

    order_id: FulfillmentOrderId
    delivered_at: datetime


async def ship_many(
    session: AsyncSession, actor: Actor, departures: Sequence[Departure], *, clock: Clock
) -> list[ShipmentId]:
    """At most one departure per order; all or none. Seven statements.

    Raises ``FulfillmentOrderNotFound``, ``FulfillmentActionNotAllowed``, ``UnknownCarrier``,
    ``TrackingNumberUsed``, ``NothingSelected``.
    """
    if not departures:
        return []
    now = clock.now()
    orders = await _locked(session, actor, [each.order_id for each in departures], FoEventKind.SHIP)
    await _claim_numbers(session, departures, now)
    shipments: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    consumed: list[tuple[ReservationId, int, str]] = []
    events = []
    for each in departures:
        fo, shipment_id = orders[each.order_id], ShipmentId.new()
        parts = _load_all(fo)
        carrier = checked_carrier(each.carrier)
        fo.take(FoEventKind.SHIP, ALL, actor, shipment=str(shipment_id), carrier=carrier)
        left_the_building(fo, each.handed_over_at)
        shipments.append(_shipment_row(fo, shipment_id, carrier, each))
        contents += [_content_row(fo, shipment_id, line, units) for line, units in parts]
        consumed += [
            (line.reservation_id, units, str(shipment_id)) for line, units in parts if line.reservation_id
        ]
        told = tuple(line.of(units) for line, units in parts)
        events.append(
            FulfillmentOrderShipped(
                fo.id, fo.order_id, fo.supplier_id, shipment_id, carrier, each.tracking_no, told, True,
                each.handed_over_at,
            )
        )  # fmt: skip
    rows = {"shipments": as_json(shipments), "lines": as_json(contents), "now": now}
    await session.execute(_INSERT, rows)
    await state.save(session, list(orders.values()), now=now)
    await inventory.consume_many(session, consumed, now=now)
    await outbox.record(session, *events)
    return [event.shipment_id for event in events]


async def deliver_many(
    session: AsyncSession, actor: Actor, arrivals: Sequence[Arrival], *, clock: Clock
) -> list[FulfillmentOrderDelivered]:
    """At most one arrival per order; all or none. Six statements. Returns the events it recorded.

    Raises ``FulfillmentOrderNotFound``, ``FulfillmentActionNotAllowed``.
    """
    if not arrivals:
        return []
    now = clock.now()
    orders = await _locked(session, actor, [each.order_id for each in arrivals], FoEventKind.DELIVER)
    parcels: dict[FulfillmentOrderId, list[Any]] = defaultdict(list)
    for row in await session.execute(_ON_THEIR_WAY, {"ids": list(orders)}):
        parcels[FulfillmentOrderId.of(row.fulfillment_order_id)].append(row)
    rows: dict[Any, dict[str, Any]] = {}
    events = []
    for each in arrivals:
        fo, arrived = orders[each.order_id], dict[FulfillmentLineId, int]()
        for part in parcels[fo.id]:
            line_id = FulfillmentLineId.of(part.fulfillment_line_id)
            arrived[line_id] = arrived.get(line_id, 0) + part.quantity
            rows[part.id] = _arrival_row(fo, part, each.delivered_at)
            if each.delivered_at < part.handed_over_at:
                fo.flag(DELIVERED_EARLY)
        fo.end_clock(ClockKind.FIRST_SCAN, each.delivered_at)
        events.append(reached_customer(fo, actor, arrived, each.delivered_at))
    await session.execute(_ARRIVED, {"rows": as_json(rows.values()), "now": now})
    await state.save(session, list(orders.values()), now=now)
    await outbox.record(session, *events)
    return events


async def _locked(
    session: AsyncSession, actor: Actor, ids: Sequence[FulfillmentOrderId], event: FoEventKind
) -> dict[FulfillmentOrderId, FulfillmentOrderState]:
    orders = await state.lock_many(session, actor, ids)
    for order_id in ids:
        if order_id not in orders:
            raise FulfillmentOrderNotFound(f"no fulfilment order {order_id}")
        machine.check(orders[order_id].state, event, by=by_of(actor))
    return orders


async def _claim_numbers(session: AsyncSession, departures: Sequence[Departure], now: datetime) -> None:
    where = {
        "carriers": [checked_carrier(each.carrier) for each in departures],
        "numbers": [each.tracking_no for each in departures], "since": now - NUMBERS_REPEAT_AFTER,
    }  # fmt: skip
    used = (await session.execute(_NUMBERS_USED, where)).first()
    if used is not None:
        raise TrackingNumberUsed(
            f"{used.carrier} {used.number} belongs to another shipment", field="tracking_number"
        )


def _load_all(fo: FulfillmentOrderState) -> list[tuple[LineState, int]]:
    parts = fo.outstanding()
    if not parts:
        raise NothingSelected("a shipment needs at least one unit", field="lines")
    for line, units in parts:
        line.shipped += units
    return parts


def _shipment_row(
    fo: FulfillmentOrderState, shipment_id: ShipmentId, carrier: str, each: Departure
) -> dict[str, Any]:
    return {
        "id": shipment_id.hex, "fo": fo.id.hex, "order_id": fo.order_id.hex, "supplier_id": fo.supplier_id.hex,
        "brand_id": fo.brand_id.hex, "carrier": carrier, "number": each.tracking_no, "at": each.handed_over_at,
    }  # fmt: skip


def _content_row(
    fo: FulfillmentOrderState, shipment_id: ShipmentId, line: LineState, units: int
) -> dict[str, Any]:
    return {
        "shipment": shipment_id.hex, "line": line.id.hex, "supplier_id": fo.supplier_id.hex,
        "brand_id": fo.brand_id.hex, "quantity": units,
    }  # fmt: skip


def _arrival_row(fo: FulfillmentOrderState, part: Any, at: datetime) -> dict[str, Any]:
    return {
        "event": TrackingEventId.new().hex, "shipment": part.id.hex, "supplier_id": fo.supplier_id.hex,
        "brand_id": fo.brand_id.hex, "at": at,
    }  # fmt: skip
