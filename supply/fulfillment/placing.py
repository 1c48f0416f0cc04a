"""From an order to the supplier: create with the order, submit when it is paid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.events import Event
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
from core.money import Money
from infra.outbox import outbox
from supply.fulfillment import state
from supply.fulfillment.events import (
    FulfillmentOrderAccepted,
    FulfillmentOrderDelivered,
    FulfillmentOrderRejected,
    FulfillmentOrderSubmitted,
)
from supply.fulfillment.machine import ALL, DONE, FoEventKind, RequestStatus, Status
from supply.fulfillment.models import ClockKind, FoEventId
from supply.fulfillment.state import FulfillmentOrderState, LineState
from supply.inventory import service as inventory

SUPPLIER_INACTIVE = "SUPPLIER_INACTIVE"


@dataclass(frozen=True, slots=True)
class NewFulfillmentLine:
    """``unit_cost`` is frozen here; ``price_version`` is looked up when absent. ``weight_g`` is one unit's."""

    order_line_id: OrderLineId
    variant_id: VariantId
    sku: str
    title: str
    quantity: int
    unit_cost: Money
    reservation_id: ReservationId | None = None
    weight_g: int = 0
    price_version: int | None = None


@dataclass(frozen=True, slots=True)
class NewFulfillmentOrder:
    """What one location sends for one order. ``freight`` is the supplier's, handling included, frozen here."""

    order_id: OrderId
    reference: CheckoutId
    brand_id: BrandId
    supplier_id: SupplierId
    location_id: LocationId
    address: dict[str, Any]
    dest_zone: str
    freight: Money
    lines: tuple[NewFulfillmentLine, ...]
    deliver_by: datetime | None = None
    ship_by: datetime | None = None
    """Promised where it was sold; otherwise the supplier's own time to ship, from acceptance."""


async def create(
    session: AsyncSession, orders: Sequence[NewFulfillmentOrder], *, clock: Clock
) -> list[FulfillmentOrderId]:
    """All fulfilment orders of a checkout, waiting for its payment. One statement; SYSTEM session."""
    new = [from_new(order) for order in orders]
    for fo in new:
        fo.trail.append(created(fo))
    await state.insert(session, new, now=clock.now())
    return [fo.id for fo in new]


async def release_for_submission(
    session: AsyncSession,
    order_ids: Sequence[OrderId],
    *,
    clock: Clock,
    paid_at: Mapping[OrderId, datetime] | None = None,
) -> list[FulfillmentOrderId]:
    """The customer has paid: tell the suppliers. Orders that are past this are left alone.

    A supplier that accepts automatically has accepted at once; one that is no longer active counts as having
    refused. ``paid_at``: when, for orders that were paid elsewhere and some time ago.
    Five statements for any number of orders; SYSTEM session.
    """
    now = clock.now()
    waiting = [
        fo for fo in await state.lock_of_orders(session, SYSTEM, order_ids) if fo.status is Status.SCHEDULED
    ]
    events: list[Event] = []
    for fo in waiting:
        fo.take(FoEventKind.RELEASE_DUE, DONE, SYSTEM)
        events += submit(fo, (paid_at or {}).get(fo.order_id, now))
    await state.save(session, waiting, now=now)
    for fo in waiting:
        if not fo.supplier_active:
            held = [line.reservation_id for line in fo.lines if line.reservation_id]
            await inventory.release(session, held, cause=f"{fo.id}:inactive", now=now)
    await outbox.record(session, *events)
    return [fo.id for fo in waiting]


def submit(fo: FulfillmentOrderState, now: datetime) -> list[Event]:
    """An OPEN order goes to its supplier. Returns the events to record."""
    fo.take(FoEventKind.SUBMIT, DONE, SYSTEM)
    fo.submitted_at = now
    if not fo.supplier_active:
        fo.take(FoEventKind.REJECT, DONE, SYSTEM, reason=SUPPLIER_INACTIVE)
        fo.reason = SUPPLIER_INACTIVE
        return [refused(fo, SUPPLIER_INACTIVE, now)]
    fo.start_clock(ClockKind.ACK, now, timedelta(minutes=fo.accept_sla_min))
    events: list[Event] = [FulfillmentOrderSubmitted(fo.id, fo.order_id, fo.supplier_id, now)]
    if fo.accept_mode == "auto":
        fo.take(FoEventKind.ACCEPT, DONE, SYSTEM, automatic=True)
        events.append(accepted(fo, now))
    return events


def accepted(fo: FulfillmentOrderState, now: datetime) -> FulfillmentOrderAccepted:
    """What acceptance changes beside the state: counters, clocks, the promise to ship."""
    for line in fo.lines:
        line.accepted = line.live
    fo.accepted_at = now
    fo.end_clock(ClockKind.ACK, now)
    fo.ship_by = fo.ship_by or now + timedelta(hours=fo.ship_sla_hours)
    fo.start_clock(ClockKind.SHIP, now, fo.ship_by - now)
    lines = tuple(line.of(line.accepted) for line in fo.lines if line.accepted)
    return FulfillmentOrderAccepted(fo.id, fo.order_id, fo.supplier_id, lines, now)


def arrived_already(fo: FulfillmentOrderState, at: datetime) -> list[Event]:
    """The rest was taken off an order whose parcels had all arrived: that was its delivery."""
    if fo.status is not Status.SHIPPED or any(line.delivered < line.shipped for line in fo.lines):
        return []
    fo.take(FoEventKind.DELIVER, ALL, SYSTEM, at=at.isoformat())
    fo.delivered_at = at
    fo.end_clock(ClockKind.DELIVER, at)
    return [FulfillmentOrderDelivered(fo.order_id, fo.id, fo.supplier_id, at, (), True)]


def refused(fo: FulfillmentOrderState, reason: str, now: datetime) -> FulfillmentOrderRejected:
    lines = tuple(line.of(line.outstanding) for line in fo.lines if line.outstanding)
    return FulfillmentOrderRejected(fo.id, fo.order_id, fo.supplier_id, lines, reason, now)


def from_new(
    new: NewFulfillmentOrder,
    *,
    parent: FulfillmentOrderState | None = None,
    status: Status = Status.SCHEDULED,
    request_status: RequestStatus = RequestStatus.UNSUBMITTED,
) -> FulfillmentOrderState:
    return FulfillmentOrderState(
        id=FulfillmentOrderId.new(),
        order_id=new.order_id,
        reference=new.reference,
        brand_id=new.brand_id,
        supplier_id=new.supplier_id,
        location_id=new.location_id,
        address=new.address,
        dest_zone=new.dest_zone,
        currency=new.freight.currency,
        freight_minor=new.freight.amount_minor,
        deliver_by=new.deliver_by,
        ship_by=new.ship_by,
        parent_id=parent.id if parent else None,
        attempt_no=parent.attempt_no + 1 if parent else 1,
        status=status,
        request_status=request_status,
        lines=[
            LineState(
                FulfillmentLineId.new(), line.order_line_id, line.variant_id, line.sku, line.title,
                line.quantity, line.unit_cost.amount_minor, line.price_version, line.reservation_id,
                line.weight_g,
            )
            for line in new.lines
        ],
    )  # fmt: skip


def created(fo: FulfillmentOrderState, **detail: Any) -> dict[str, Any]:
    """The first entry of an order's trail."""
    return {
        "id": FoEventId.new().hex, "fulfillment_order_id": fo.id.hex, "supplier_id": fo.supplier_id.hex,
        "brand_id": fo.brand_id.hex, "event": "create", "from_status": None, "to_status": fo.status,
        "from_request": None, "to_request": fo.request_status, "actor": str(SYSTEM), "detail": detail,
    }  # fmt: skip
