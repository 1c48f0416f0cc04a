"""A fulfilment order in hand: loaded under its lock, changed in memory, written back in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind
from core.ids import (
    BrandId,
    CheckoutId,
    FulfillmentLineId,
    FulfillmentOrderId,
    LocationId,
    OrderId,
    OrderLineId,
    ReservationId,
    SupplierId,
    VariantId,
)
from supply.fulfillment import machine
from supply.fulfillment.errors import (
    FulfillmentLineNotFound,
    FulfillmentOrderNotFound,
    QuantityNotOutstanding,
)
from supply.fulfillment.events import LineQuantity
from supply.fulfillment.machine import By, FoEventKind, RequestStatus, State, Status
from supply.fulfillment.models import ClockKind, ClockState, FoEventId
from supply.suppliers.errors import VersionConflict

# The lock and the reading are two statements: one that waited would read the lines as they were before.
_LOCK_IDS = text("SELECT id FROM fulfillment_orders WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_LOCK_ORDERS = text("SELECT id FROM fulfillment_orders WHERE order_id = ANY(:ids) ORDER BY id FOR UPDATE")
_READ = text("""
SELECT f.*, p.accept_mode, p.accept_sla_min, p.ship_sla_hours, p.status AS supplier_status, p.tz,
    (SELECT jsonb_agg(l ORDER BY l.id) FROM fulfillment_lines l WHERE l.fulfillment_order_id = f.id) AS lines,
    (SELECT jsonb_agg(c) FROM sla_clocks c WHERE c.fulfillment_order_id = f.id) AS clocks
FROM fulfillment_orders f JOIN suppliers p ON p.id = f.supplier_id
WHERE f.id = ANY(:ids) ORDER BY f.id
""")
_ORDER_FIELDS = """id uuid, order_id uuid, reference uuid, brand_id uuid, supplier_id uuid, location_id uuid,
    parent_id uuid, attempt_no int, status varchar, request_status varchar, held_status varchar,
    hold_reason varchar, reason varchar, ship_by timestamptz, deliver_by timestamptz, address jsonb,
    dest_zone varchar, currency varchar, freight_minor bigint, quirks varchar[], submitted_at timestamptz,
    accepted_at timestamptz, shipped_at timestamptz, delivered_at timestamptz"""
_LINE_FIELDS = """id uuid, fulfillment_order_id uuid, supplier_id uuid, brand_id uuid, order_line_id uuid,
    variant_id uuid, sku varchar, title varchar, weight_g bigint, quantity bigint, accepted bigint,
    rejected bigint, cancelled bigint, shipped bigint, delivered bigint, returned bigint,
    unit_cost_minor bigint, price_version int, reservation_id uuid, location_id uuid"""
# Clocks and events go the same way for new and for changed orders.
_TRAIL = """clocks AS (
    INSERT INTO sla_clocks AS k (fulfillment_order_id, kind, supplier_id, brand_id, state, started_at, due_at,
        paused_at, paused_ms, ended_at)
    SELECT fulfillment_order_id, kind, supplier_id, brand_id, state, started_at, due_at, paused_at, paused_ms,
        ended_at
    FROM jsonb_to_recordset(CAST(:clocks AS jsonb)) AS w(fulfillment_order_id uuid, kind varchar,
        supplier_id uuid, brand_id uuid, state varchar, started_at timestamptz, due_at timestamptz,
        paused_at timestamptz, paused_ms bigint, ended_at timestamptz)
    ON CONFLICT (fulfillment_order_id, kind) DO UPDATE SET state = excluded.state,
        started_at = excluded.started_at, due_at = excluded.due_at, paused_at = excluded.paused_at,
        paused_ms = excluded.paused_ms, ended_at = excluded.ended_at
)
INSERT INTO fo_events (id, fulfillment_order_id, supplier_id, brand_id, event, from_status, to_status,
    from_request, to_request, actor, detail, at)
SELECT id, fulfillment_order_id, supplier_id, brand_id, event, from_status, to_status, from_request, to_request,
    actor, detail, :now
FROM jsonb_to_recordset(CAST(:events AS jsonb)) AS w(id uuid, fulfillment_order_id uuid, supplier_id uuid,
    brand_id uuid, event varchar, from_status varchar, to_status varchar, from_request varchar,
    to_request varchar, actor varchar, detail jsonb)"""
_INSERT = text(f"""
WITH orders AS (
    INSERT INTO fulfillment_orders (id, order_id, reference, brand_id, supplier_id, location_id, parent_id,
        attempt_no, status, request_status, held_status, hold_reason, reason, ship_by, deliver_by, address,
        dest_zone, currency, freight_minor, quirks, submitted_at, accepted_at, shipped_at, delivered_at,
        created_at, updated_at, version)
    SELECT w.*, :now, :now, 1 FROM jsonb_to_recordset(CAST(:orders AS jsonb)) AS w({_ORDER_FIELDS})
), lines AS (
    INSERT INTO fulfillment_lines (id, fulfillment_order_id, supplier_id, brand_id, order_line_id, variant_id,
        sku, title, weight_g, quantity, accepted, rejected, cancelled, shipped, delivered, returned,
        unit_cost_minor, price_version, reservation_id)
    SELECT id, fulfillment_order_id, supplier_id, brand_id, order_line_id, variant_id, sku, title, weight_g,
        quantity, accepted, rejected, cancelled, shipped, delivered, returned, unit_cost_minor,
        coalesce(price_version, (
            SELECT p.price_version FROM supplier_offers o JOIN offer_price_changes p ON p.offer_id = o.id
            WHERE o.location_id = w.location_id AND o.variant_id = w.variant_id AND p.effective_at <= :now
            ORDER BY p.effective_at DESC, p.price_version DESC LIMIT 1), 0),
        reservation_id
    FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS w({_LINE_FIELDS})
), {_TRAIL}
""")
_UPDATE = text(f"""
WITH orders AS (
    UPDATE fulfillment_orders f SET status = w.status, request_status = w.request_status,
        held_status = w.held_status, hold_reason = w.hold_reason, reason = w.reason, ship_by = w.ship_by,
        deliver_by = w.deliver_by, freight_minor = w.freight_minor, quirks = w.quirks,
        submitted_at = w.submitted_at, accepted_at = w.accepted_at, shipped_at = w.shipped_at,
        delivered_at = w.delivered_at, updated_at = :now, version = f.version + 1
    FROM jsonb_to_recordset(CAST(:orders AS jsonb)) AS w({_ORDER_FIELDS}) WHERE f.id = w.id
), lines AS (
    UPDATE fulfillment_lines l SET accepted = w.accepted, rejected = w.rejected, cancelled = w.cancelled,
        shipped = w.shipped, delivered = w.delivered, returned = w.returned
    FROM jsonb_to_recordset(CAST(:lines AS jsonb)) AS w({_LINE_FIELDS}) WHERE l.id = w.id
), {_TRAIL}
""")


@dataclass(slots=True)
class LineState:
    id: FulfillmentLineId
    order_line_id: OrderLineId
    variant_id: VariantId
    sku: str
    title: str
    quantity: int
    unit_cost_minor: int
    price_version: int | None = None
    reservation_id: ReservationId | None = None
    weight_g: int = 0
    accepted: int = 0
    rejected: int = 0
    cancelled: int = 0
    shipped: int = 0
    delivered: int = 0
    returned: int = 0

    @property
    def live(self) -> int:
        return self.quantity - self.rejected - self.cancelled

    @property
    def outstanding(self) -> int:
        """Units this order still has to ship."""
        return self.live - self.shipped

    def of(self, quantity: int) -> LineQuantity:
        return LineQuantity(self.order_line_id, self.variant_id, quantity)


@dataclass(slots=True)
class SlaClockState:
    kind: ClockKind
    state: ClockState
    started_at: datetime
    due_at: datetime
    paused_at: datetime | None = None
    paused_ms: int = 0
    ended_at: datetime | None = None


@dataclass(slots=True)
class FulfillmentOrderState:
    id: FulfillmentOrderId
    order_id: OrderId
    reference: CheckoutId
    brand_id: BrandId
    supplier_id: SupplierId
    location_id: LocationId
    address: dict[str, Any]
    dest_zone: str
    currency: str
    lines: list[LineState]
    parent_id: FulfillmentOrderId | None = None
    attempt_no: int = 1
    status: Status = Status.SCHEDULED
    request_status: RequestStatus = RequestStatus.UNSUBMITTED
    held_status: Status | None = None
    hold_reason: str | None = None
    reason: str | None = None
    ship_by: datetime | None = None
    deliver_by: datetime | None = None
    freight_minor: int = 0
    quirks: list[str] = field(default_factory=list)
    submitted_at: datetime | None = None
    accepted_at: datetime | None = None
    shipped_at: datetime | None = None
    delivered_at: datetime | None = None
    version: int = 1
    accept_mode: str = "manual"
    accept_sla_min: int = 1440
    ship_sla_hours: int = 48
    supplier_active: bool = True
    tz: str = "UTC"
    clocks: dict[ClockKind, SlaClockState] = field(default_factory=dict)
    trail: list[dict[str, Any]] = field(default_factory=list)

    @property
    def state(self) -> State:
        return State(self.status, self.request_status)

    @property
    def anything_shipped(self) -> bool:
        return any(line.shipped for line in self.lines)

    @property
    def all_shipped(self) -> bool:
        return self.anything_shipped and all(line.outstanding == 0 for line in self.lines)

    def line(self, line_id: FulfillmentLineId) -> LineState:
        """Raises ``FulfillmentLineNotFound``."""
        for line in self.lines:
            if line.id == line_id:
                return line
        raise FulfillmentLineNotFound(f"no line {line_id} in {self.id}", field="lines")

    def outstanding(
        self, wanted: Mapping[FulfillmentLineId, int] | None = None
    ) -> list[tuple[LineState, int]]:
        """Lines with the units asked for (all that is outstanding by default).

        Raises ``FulfillmentLineNotFound`` and ``QuantityNotOutstanding``.
        """
        if wanted is None:
            return [(line, line.outstanding) for line in self.lines if line.outstanding]
        chosen = [(self.line(line_id), quantity) for line_id, quantity in wanted.items()]
        for line, quantity in chosen:
            if not 0 <= quantity <= line.outstanding:
                raise QuantityNotOutstanding(line.id, quantity, line.outstanding)
        return [(line, quantity) for line, quantity in chosen if quantity]

    def take(self, event: FoEventKind, outcome: str, actor: Actor, /, **detail: Any) -> None:
        """One step of the machine, with its entry in the trail. Raises ``FulfillmentActionNotAllowed``."""
        before = self.state
        after = machine.step(before, event, outcome, by=by_of(actor), held=self.held_status)
        if after.status is Status.ON_HOLD:
            self.held_status = before.status
        elif before.status is Status.ON_HOLD:
            self.held_status, self.hold_reason = None, None
        self.status, self.request_status = after.status, after.request
        self.trail.append(
            {
                "id": FoEventId.new().hex, "fulfillment_order_id": self.id.hex,
                "supplier_id": self.supplier_id.hex, "brand_id": self.brand_id.hex, "event": event.value,
                "from_status": before.status.value, "to_status": after.status.value,
                "from_request": before.request.value, "to_request": after.request.value,
                "actor": str(actor), "detail": detail,
            }
        )  # fmt: skip

    def start_clock(self, kind: ClockKind, at: datetime, within: timedelta) -> None:
        self.clocks[kind] = SlaClockState(kind, ClockState.RUNNING, at, at + within)

    def end_clock(self, kind: ClockKind, at: datetime) -> None:
        """Met or breached by the time it ended; a clock that does not run is left alone."""
        clock = self.clocks.get(kind)
        if clock is not None and clock.state is ClockState.RUNNING:
            clock.state = ClockState.MET if at <= clock.due_at else ClockState.BREACHED
            clock.ended_at = at

    def stop_clocks(self, at: datetime) -> None:
        for clock in self.clocks.values():
            if clock.state in (ClockState.RUNNING, ClockState.PAUSED):
                clock.state, clock.ended_at = ClockState.STOPPED, at

    def flag(self, quirk: str) -> None:
        if quirk not in self.quirks:
            self.quirks = [*self.quirks, quirk]


def by_of(actor: Actor) -> By:
    if actor.kind is ActorKind.SUPPLIER:
        return By.SUPPLIER
    return By.SYSTEM if actor.sees_everything else By.BRAND


async def lock(
    session: AsyncSession, actor: Actor, order_id: FulfillmentOrderId, *, expected_version: int | None = None
) -> FulfillmentOrderState:
    """Raises ``FulfillmentOrderNotFound`` (or not the actor's) and ``VersionConflict`` (If-Match)."""
    found = await _load(session, _LOCK_IDS, [order_id])
    if not found or not _visible(found[0], actor):
        raise FulfillmentOrderNotFound(f"no fulfilment order {order_id}")
    if expected_version is not None and expected_version != found[0].version:
        raise VersionConflict(expected_version, found[0].version)
    return found[0]


async def lock_many(
    session: AsyncSession, actor: Actor, ids: Sequence[FulfillmentOrderId]
) -> dict[FulfillmentOrderId, FulfillmentOrderState]:
    return {fo.id: fo for fo in await _load(session, _LOCK_IDS, ids) if _visible(fo, actor)}


async def lock_of_orders(
    session: AsyncSession, actor: Actor, orders: Sequence[OrderId]
) -> list[FulfillmentOrderState]:
    return [fo for fo in await _load(session, _LOCK_ORDERS, orders) if _visible(fo, actor)]


async def insert(session: AsyncSession, orders: Sequence[FulfillmentOrderState], *, now: datetime) -> None:
    await _write(session, _INSERT, orders, now)


async def save(session: AsyncSession, orders: Sequence[FulfillmentOrderState], *, now: datetime) -> None:
    await _write(session, _UPDATE, orders, now)


def _visible(fo: FulfillmentOrderState, actor: Actor) -> bool:
    return actor.sees_everything or actor.tenant_id in (fo.supplier_id, fo.brand_id)


async def _load(session: AsyncSession, locking: Any, ids: Sequence[Any]) -> list[FulfillmentOrderState]:
    locked = (await session.execute(locking, {"ids": list(ids)})).scalars().all()
    if not locked:
        return []
    return [_state(dict(row._mapping)) for row in await session.execute(_READ, {"ids": locked})]


async def _write(
    session: AsyncSession, statement: Any, orders: Sequence[FulfillmentOrderState], now: datetime
) -> None:
    if not orders:
        return
    await session.execute(
        statement,
        {
            "orders": _json(_order_row(fo) for fo in orders),
            "lines": _json(_line_row(fo, line) for fo in orders for line in fo.lines),
            "clocks": _json(_clock_row(fo, clock) for fo in orders for clock in fo.clocks.values()),
            "events": _json(entry for fo in orders for entry in fo.trail),
            "now": now,
        },
    )
    for fo in orders:
        fo.trail.clear()


def _json(rows: Iterable[Any]) -> str:
    return orjson.dumps(list(rows)).decode()


def _order_row(fo: FulfillmentOrderState) -> dict[str, Any]:
    return {
        "id": fo.id.hex, "order_id": fo.order_id.hex, "reference": fo.reference.hex,
        "brand_id": fo.brand_id.hex, "supplier_id": fo.supplier_id.hex, "location_id": fo.location_id.hex,
        "parent_id": fo.parent_id.hex if fo.parent_id else None, "attempt_no": fo.attempt_no,
        "status": fo.status, "request_status": fo.request_status, "held_status": fo.held_status,
        "hold_reason": fo.hold_reason, "reason": fo.reason, "ship_by": fo.ship_by,
        "deliver_by": fo.deliver_by, "address": fo.address, "dest_zone": fo.dest_zone,
        "currency": fo.currency, "freight_minor": fo.freight_minor, "quirks": fo.quirks,
        "submitted_at": fo.submitted_at, "accepted_at": fo.accepted_at, "shipped_at": fo.shipped_at,
        "delivered_at": fo.delivered_at,
    }  # fmt: skip


def _line_row(fo: FulfillmentOrderState, line: LineState) -> dict[str, Any]:
    return {
        "id": line.id.hex, "fulfillment_order_id": fo.id.hex, "supplier_id": fo.supplier_id.hex,
        "brand_id": fo.brand_id.hex, "order_line_id": line.order_line_id.hex,
        "variant_id": line.variant_id.hex, "sku": line.sku, "title": line.title, "weight_g": line.weight_g,
        "quantity": line.quantity, "accepted": line.accepted, "rejected": line.rejected,
        "cancelled": line.cancelled, "shipped": line.shipped, "delivered": line.delivered,
        "returned": line.returned, "unit_cost_minor": line.unit_cost_minor,
        "price_version": line.price_version, "location_id": fo.location_id.hex,
        "reservation_id": line.reservation_id.hex if line.reservation_id else None,
    }  # fmt: skip


def _clock_row(fo: FulfillmentOrderState, clock: SlaClockState) -> dict[str, Any]:
    return {
        "fulfillment_order_id": fo.id.hex, "kind": clock.kind, "supplier_id": fo.supplier_id.hex,
        "brand_id": fo.brand_id.hex, "state": clock.state, "started_at": clock.started_at,
        "due_at": clock.due_at, "paused_at": clock.paused_at, "paused_ms": clock.paused_ms,
        "ended_at": clock.ended_at,
    }  # fmt: skip


def _state(row: Mapping[str, Any]) -> FulfillmentOrderState:
    return FulfillmentOrderState(
        id=FulfillmentOrderId.of(row["id"]),
        order_id=OrderId.of(row["order_id"]),
        reference=CheckoutId.of(row["reference"]),
        brand_id=BrandId.of(row["brand_id"]),
        supplier_id=SupplierId.of(row["supplier_id"]),
        location_id=LocationId.of(row["location_id"]),
        parent_id=FulfillmentOrderId.of(row["parent_id"]) if row["parent_id"] else None,
        status=Status(row["status"]),
        request_status=RequestStatus(row["request_status"]),
        held_status=Status(row["held_status"]) if row["held_status"] else None,
        lines=[_line(line) for line in row["lines"] or ()],
        clocks={ClockKind(c["kind"]): _clock(c) for c in row["clocks"] or ()},
        supplier_active=row["supplier_status"] == "active",
        **{name: row[name] for name in _PLAIN},
    )


_PLAIN = (
    "address", "dest_zone", "currency", "attempt_no", "hold_reason", "reason", "ship_by", "deliver_by",
    "freight_minor", "quirks", "submitted_at", "accepted_at", "shipped_at", "delivered_at", "version",
    "accept_mode", "accept_sla_min", "ship_sla_hours", "tz",
)  # fmt: skip
_COUNTERS = ("accepted", "rejected", "cancelled", "shipped", "delivered", "returned")


def _line(line: Mapping[str, Any]) -> LineState:
    return LineState(
        id=FulfillmentLineId(line["id"]),
        order_line_id=OrderLineId(line["order_line_id"]),
        variant_id=VariantId(line["variant_id"]),
        sku=line["sku"],
        title=line["title"],
        quantity=line["quantity"],
        unit_cost_minor=line["unit_cost_minor"],
        price_version=line["price_version"],
        reservation_id=ReservationId(line["reservation_id"]) if line["reservation_id"] else None,
        weight_g=line["weight_g"],
        **{name: line[name] for name in _COUNTERS},
    )


def _clock(clock: Mapping[str, Any]) -> SlaClockState:
    def at(name: str) -> datetime | None:
        return datetime.fromisoformat(clock[name]) if clock[name] else None

    return SlaClockState(
        ClockKind(clock["kind"]), ClockState(clock["state"]), datetime.fromisoformat(clock["started_at"]),
        datetime.fromisoformat(clock["due_at"]), at("paused_at"), clock["paused_ms"], at("ended_at"),
    )  # fmt: skip
