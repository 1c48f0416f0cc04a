"""Reads of fulfilment orders: what each party may see, with what it may do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind
from core.ids import (
    BrandId,
    FulfillmentLineId,
    FulfillmentOrderId,
    LocationId,
    MalformedId,
    OrderId,
    OrderLineId,
    ShipmentId,
    SupplierId,
    VariantId,
)
from core.money import Money
from core.pagination import BadPage, Page, PageRequest, page_of
from supply.fulfillment import machine
from supply.fulfillment.errors import FulfillmentOrderNotFound
from supply.fulfillment.machine import By, FoEventKind, RequestStatus, State, Status

_COLUMNS = """f.id, f.order_id, f.brand_id, f.supplier_id, f.location_id, f.parent_id, f.attempt_no, f.status,
    f.request_status, f.hold_reason, f.reason, f.ship_by, f.deliver_by, f.address, f.dest_zone, f.currency,
    f.freight_minor, f.quirks, f.submitted_at, f.accepted_at, f.shipped_at, f.delivered_at, f.created_at,
    f.updated_at, f.version,
    (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.id) FROM fulfillment_lines l
     WHERE l.fulfillment_order_id = f.id) AS lines,
    (SELECT jsonb_agg(jsonb_build_object('id', s.id, 'carrier', s.carrier, 'tracking_no', s.tracking_no,
        'status', s.status, 'handed_over_at', s.handed_over_at, 'delivered_at', s.delivered_at) ORDER BY s.id)
     FROM shipments s WHERE s.fulfillment_order_id = f.id) AS shipments"""
_PAGE = text(f"""
SELECT {_COLUMNS} FROM fulfillment_orders f
WHERE (CAST(:supplier_id AS uuid) IS NULL OR f.supplier_id = CAST(:supplier_id AS uuid))
  AND (CAST(:brand_id AS uuid) IS NULL OR f.brand_id = CAST(:brand_id AS uuid))
  AND (CAST(:statuses AS varchar[]) IS NULL OR f.status = ANY (CAST(:statuses AS varchar[])))
  AND (CAST(:requests AS varchar[]) IS NULL OR f.request_status = ANY (CAST(:requests AS varchar[])))
  AND (CAST(:since AS timestamptz) IS NULL OR f.updated_at >= CAST(:since AS timestamptz))
  AND (CAST(:after_at AS timestamptz) IS NULL
       OR (f.updated_at, f.id) > (CAST(:after_at AS timestamptz), CAST(:after_id AS uuid)))
  AND (NOT :only_submitted OR f.submitted_at IS NOT NULL)
ORDER BY f.updated_at, f.id LIMIT :limit
""")
_BY_IDS = text(f"SELECT {_COLUMNS} FROM fulfillment_orders f WHERE f.id = ANY(:ids) ORDER BY f.id")
_BY_ORDERS = text(f"SELECT {_COLUMNS} FROM fulfillment_orders f WHERE f.order_id = ANY(:ids) ORDER BY f.id")
_TRAIL = text(
    "SELECT event, from_status, to_status, from_request, to_request, actor, detail, at FROM fo_events"
    " WHERE fulfillment_order_id = :id ORDER BY at, id"
)
_CLOCKS = text(
    "SELECT kind, state, started_at, due_at, paused_ms, ended_at FROM sla_clocks"
    " WHERE fulfillment_order_id = :id ORDER BY started_at, kind"
)

_PROGRESS = text(
    "SELECT id, order_id, status, delivered_at FROM fulfillment_orders WHERE order_id = ANY(:ids) ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class FulfillmentProgress:
    """How far one fulfilment order is, and nothing else."""

    id: FulfillmentOrderId
    status: Status
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class FulfillmentLineView:
    id: FulfillmentLineId
    order_line_id: OrderLineId
    variant_id: VariantId
    sku: str
    title: str
    quantity: int
    accepted: int
    rejected: int
    cancelled: int
    shipped: int
    delivered: int
    returned: int
    unit_cost: Money
    price_version: int
    weight_g: int

    @property
    def outstanding(self) -> int:
        return self.quantity - self.rejected - self.cancelled - self.shipped


@dataclass(frozen=True, slots=True)
class ShipmentView:
    id: ShipmentId
    carrier: str
    tracking_no: str
    status: str
    handed_over_at: datetime
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class FulfillmentOrderView:
    """``allowed_actions`` are those of the actor who asked, in this state."""

    id: FulfillmentOrderId
    order_id: OrderId
    brand_id: BrandId
    supplier_id: SupplierId
    location_id: LocationId
    parent_id: FulfillmentOrderId | None
    attempt_no: int
    status: Status
    request_status: RequestStatus
    hold_reason: str | None
    reason: str | None
    ship_by: datetime | None
    deliver_by: datetime | None
    address: dict[str, Any]
    dest_zone: str
    freight: Money
    quirks: tuple[str, ...]
    submitted_at: datetime | None
    accepted_at: datetime | None
    shipped_at: datetime | None
    delivered_at: datetime | None
    created_at: datetime
    updated_at: datetime
    version: int
    lines: tuple[FulfillmentLineView, ...]
    shipments: tuple[ShipmentView, ...]
    allowed_actions: tuple[FoEventKind, ...]


@dataclass(frozen=True, slots=True)
class FulfillmentFilter:
    statuses: tuple[Status, ...] = ()
    request_statuses: tuple[RequestStatus, ...] = ()
    updated_since: datetime | None = None


async def fulfillment_orders_page(
    session: AsyncSession, actor: Actor, wanted: FulfillmentFilter, page: PageRequest
) -> Page[FulfillmentOrderView]:
    """Oldest change first, so that a poller can go on from its last cursor. One statement.

    A supplier sees what was submitted to it, never what still waits for payment.
    """
    after_at, after_id = _position(page)
    supplier = actor.kind is ActorKind.SUPPLIER
    rows = await session.execute(
        _PAGE,
        {
            "supplier_id": actor.tenant_id if supplier else None,
            "brand_id": actor.tenant_id if actor.kind is ActorKind.BRAND else None,
            "statuses": [s.value for s in wanted.statuses] or None,
            "requests": [s.value for s in wanted.request_statuses] or None,
            "since": wanted.updated_since, "limit": page.first + 1, "only_submitted": supplier,
            "after_at": after_at, "after_id": after_id,
        },
    )  # fmt: skip
    views = [_view(row._mapping, actor) for row in rows]
    return page_of(views, page, lambda view: (view.updated_at.isoformat(), str(view.id)))


async def fulfillment_order(
    session: AsyncSession, actor: Actor, order_id: FulfillmentOrderId
) -> FulfillmentOrderView:
    """Raises ``FulfillmentOrderNotFound``, also for one that was not submitted to the asking supplier yet."""
    row = (await session.execute(_BY_IDS, {"ids": [order_id]})).first()
    view = _view(row._mapping, actor) if row is not None else None
    if view is None or not _sees(actor, view):
        raise FulfillmentOrderNotFound(f"no fulfilment order {order_id}")
    return view


async def of_orders(
    session: AsyncSession, actor: Actor, orders: Sequence[OrderId]
) -> dict[OrderId, list[FulfillmentOrderView]]:
    """For a DataLoader and for ``explain``. One statement."""
    found: dict[OrderId, list[FulfillmentOrderView]] = {order_id: [] for order_id in orders}
    for row in await session.execute(_BY_ORDERS, {"ids": list(orders)}):
        view = _view(row._mapping, actor)
        if _sees(actor, view):
            found[view.order_id].append(view)
    return found


async def progress_of(
    session: AsyncSession, orders: Sequence[OrderId]
) -> dict[OrderId, list[FulfillmentProgress]]:
    """Needs a session that may see them. One statement, without lines and shipments."""
    found: dict[OrderId, list[FulfillmentProgress]] = {order_id: [] for order_id in orders}
    for row in await session.execute(_PROGRESS, {"ids": list(orders)}):
        part = FulfillmentProgress(FulfillmentOrderId.of(row.id), Status(row.status), row.delivered_at)
        found[OrderId.of(row.order_id)].append(part)
    return found


async def trail(session: AsyncSession, order_id: FulfillmentOrderId) -> list[dict[str, Any]]:
    """Every step, oldest first."""
    return [dict(row._mapping) for row in await session.execute(_TRAIL, {"id": order_id})]


async def clocks(session: AsyncSession, order_id: FulfillmentOrderId) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in await session.execute(_CLOCKS, {"id": order_id})]


def _position(page: PageRequest) -> tuple[datetime | None, FulfillmentOrderId | None]:
    """Raises ``BadPage`` for a cursor of another list."""
    if page.key is None:
        return None, None
    try:
        at, order_id = page.key
        return datetime.fromisoformat(at).astimezone(UTC), FulfillmentOrderId.parse(order_id)
    except (ValueError, MalformedId) as error:
        raise BadPage("the cursor is not one of this list", field="cursor") from error


def _sees(actor: Actor, view: FulfillmentOrderView) -> bool:
    if actor.sees_everything:
        return True
    if actor.kind is ActorKind.SUPPLIER:
        return view.supplier_id == actor.tenant_id and view.submitted_at is not None
    return view.brand_id == actor.tenant_id


def _by(actor: Actor) -> By:
    if actor.kind is ActorKind.SUPPLIER:
        return By.SUPPLIER
    return By.SYSTEM if actor.sees_everything else By.BRAND


def _view(row: Any, actor: Actor) -> FulfillmentOrderView:
    status, request = Status(row["status"]), RequestStatus(row["request_status"])
    return FulfillmentOrderView(
        id=FulfillmentOrderId.of(row["id"]),
        order_id=OrderId.of(row["order_id"]),
        brand_id=BrandId.of(row["brand_id"]),
        supplier_id=SupplierId.of(row["supplier_id"]),
        location_id=LocationId.of(row["location_id"]),
        parent_id=FulfillmentOrderId.of(row["parent_id"]) if row["parent_id"] else None,
        attempt_no=row["attempt_no"],
        status=status,
        request_status=request,
        hold_reason=row["hold_reason"],
        reason=row["reason"],
        ship_by=row["ship_by"],
        deliver_by=row["deliver_by"],
        address=row["address"],
        dest_zone=row["dest_zone"],
        freight=Money(row["freight_minor"], row["currency"]),
        quirks=tuple(row["quirks"]),
        submitted_at=row["submitted_at"],
        accepted_at=row["accepted_at"],
        shipped_at=row["shipped_at"],
        delivered_at=row["delivered_at"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        version=row["version"],
        lines=tuple(_line(line, row["currency"]) for line in row["lines"] or ()),
        shipments=tuple(_shipment(each) for each in row["shipments"] or ()),
        allowed_actions=tuple(machine.allowed(State(status, request), _by(actor))),
    )


def _line(line: dict[str, Any], currency: str) -> FulfillmentLineView:
    return FulfillmentLineView(
        FulfillmentLineId(line["id"]), OrderLineId(line["order_line_id"]), VariantId(line["variant_id"]),
        line["sku"], line["title"], line["quantity"], line["accepted"], line["rejected"], line["cancelled"],
        line["shipped"], line["delivered"], line["returned"], Money(line["unit_cost_minor"], currency),
        line["price_version"], line["weight_g"],
    )  # fmt: skip


def _shipment(each: dict[str, Any]) -> ShipmentView:
    delivered = each["delivered_at"]
    return ShipmentView(
        ShipmentId(each["id"]), each["carrier"], each["tracking_no"], each["status"],
        datetime.fromisoformat(each["handed_over_at"]),
        datetime.fromisoformat(delivered) if delivered else None,
    )  # fmt: skip
