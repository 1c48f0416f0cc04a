"""Fulfilment orders, their lines, clocks and shipments, and what suppliers are told about them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from core.ids import (
    BrandId,
    CheckoutId,
    DeliveryId,
    FulfillmentLineId,
    FulfillmentOrderId,
    LocationId,
    OrderId,
    OrderLineId,
    ReservationId,
    ShipmentId,
    SupplierId,
    TypedId,
    VariantId,
    WebhookEndpointId,
)
from infra.db.base import Row, currency_field, id_field, minor_field, utc_field
from supply.fulfillment.machine import RequestStatus, Status


class FoEventId(TypedId):
    prefix = "fev"


class TrackingEventId(TypedId):
    prefix = "tre"


class ClockKind(StrEnum):
    ACK = "ack"
    SHIP = "ship"
    FIRST_SCAN = "first_scan"
    DELIVER = "deliver"
    CANCEL = "cancel"
    """How long the supplier has to answer a request to cancel."""


class ClockState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    MET = "met"
    BREACHED = "breached"
    STOPPED = "stopped"
    """The order went elsewhere before the clock was met or missed."""


class EndpointStatus(StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


def _units(**column: int) -> int:
    return Field(sa_type=BigInteger, **column)  # type: ignore[no-any-return, call-overload]


class FulfillmentOrder(Row, table=True):
    """What one location sends for one order. ``attempt_no`` counts re-routes from 1.

    ``quirks``: facts that came in an impossible order and were kept (shipped before payment, …).
    ``reference`` is the checkout whose stock reservations the lines carry.
    """

    __tablename__ = "fulfillment_orders"
    __table_args__ = (
        Index("ix_fulfillment_orders_order_id", "order_id"),
        Index("ix_fulfillment_orders_supplier_id", "supplier_id", "updated_at", "id"),
        Index("ix_fulfillment_orders_location_id", "location_id", "submitted_at"),
    )

    id: FulfillmentOrderId = id_field(FulfillmentOrderId, primary_key=True)
    order_id: OrderId = id_field(OrderId)
    reference: CheckoutId = id_field(CheckoutId)
    brand_id: BrandId = id_field(BrandId)
    supplier_id: SupplierId = id_field(SupplierId)
    location_id: LocationId = id_field(LocationId)
    parent_id: FulfillmentOrderId | None = id_field(
        FulfillmentOrderId, nullable=True, foreign_key="fulfillment_orders.id"
    )
    attempt_no: int = 1
    status: Status = Field(sa_type=String)
    request_status: RequestStatus = Field(sa_type=String)
    held_status: Status | None = Field(default=None, sa_type=String)
    """The status to return to when the hold ends; set exactly while ON_HOLD."""
    hold_reason: str | None = None
    reason: str | None = None
    """Why it was rejected, cancelled or left incomplete."""
    ship_by: datetime | None = utc_field(default=None, nullable=True)
    deliver_by: datetime | None = utc_field(default=None, nullable=True)
    address: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    dest_zone: str
    currency: str = currency_field()
    freight_minor: int = minor_field(default=0)
    """The supplier's freight and handling for this shipment, frozen when routed."""
    quirks: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(String), nullable=False))
    submitted_at: datetime | None = utc_field(default=None, nullable=True)
    accepted_at: datetime | None = utc_field(default=None, nullable=True)
    shipped_at: datetime | None = utc_field(default=None, nullable=True)
    delivered_at: datetime | None = utc_field(default=None, nullable=True)
    created_at: datetime = utc_field()
    updated_at: datetime = utc_field()
    version: int = 1


class FulfillmentLine(Row, table=True):
    """``quantity`` was asked for; the live part is ``quantity - rejected - cancelled``."""

    __tablename__ = "fulfillment_lines"
    __table_args__ = (
        Index("ix_fulfillment_lines_fulfillment_order_id", "fulfillment_order_id"),
        Index("ix_fulfillment_lines_order_line_id", "order_line_id"),
    )

    id: FulfillmentLineId = id_field(FulfillmentLineId, primary_key=True)
    fulfillment_order_id: FulfillmentOrderId = id_field(
        FulfillmentOrderId, foreign_key="fulfillment_orders.id"
    )
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    order_line_id: OrderLineId = id_field(OrderLineId)
    variant_id: VariantId = id_field(VariantId)
    sku: str
    title: str
    weight_g: int = _units(default=0)
    """Of one unit."""
    quantity: int = _units()
    accepted: int = _units(default=0)
    rejected: int = _units(default=0)
    cancelled: int = _units(default=0)
    shipped: int = _units(default=0)
    delivered: int = _units(default=0)
    returned: int = _units(default=0)
    unit_cost_minor: int = minor_field()
    price_version: int
    reservation_id: ReservationId | None = id_field(ReservationId, nullable=True)


class FoEvent(Row, table=True):
    """Append-only: every step of every fulfilment order, and who took it."""

    __tablename__ = "fo_events"
    __table_args__ = (Index("ix_fo_events_fulfillment_order_id", "fulfillment_order_id", "id"),)

    id: FoEventId = id_field(FoEventId, primary_key=True)
    fulfillment_order_id: FulfillmentOrderId = id_field(
        FulfillmentOrderId, foreign_key="fulfillment_orders.id"
    )
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    event: str
    from_status: str | None = None
    to_status: str
    from_request: str | None = None
    to_request: str
    actor: str
    detail: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    at: datetime = utc_field()


class SlaClock(Row, table=True):
    __tablename__ = "sla_clocks"
    __table_args__ = (Index("ix_sla_clocks_due", "due_at", postgresql_where=text("state = 'running'")),)

    fulfillment_order_id: FulfillmentOrderId = id_field(
        FulfillmentOrderId, primary_key=True, foreign_key="fulfillment_orders.id"
    )
    kind: ClockKind = Field(sa_type=String, primary_key=True)
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    state: ClockState = Field(sa_type=String)
    started_at: datetime = utc_field()
    due_at: datetime = utc_field()
    paused_at: datetime | None = utc_field(default=None, nullable=True)
    paused_ms: int = _units(default=0)
    ended_at: datetime | None = utc_field(default=None, nullable=True)


class Shipment(Row, table=True):
    """``status`` is the furthest step by the carrier's own time (``status_at``)."""

    __tablename__ = "shipments"
    __table_args__ = (
        Index("ix_shipments_fulfillment_order_id", "fulfillment_order_id"),
        Index("ix_shipments_carrier_tracking_no", "carrier", "tracking_no"),
    )

    id: ShipmentId = id_field(ShipmentId, primary_key=True)
    fulfillment_order_id: FulfillmentOrderId = id_field(
        FulfillmentOrderId, foreign_key="fulfillment_orders.id"
    )
    order_id: OrderId = id_field(OrderId)
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    carrier: str
    tracking_no: str
    status: str
    status_at: datetime = utc_field()
    handed_over_at: datetime = utc_field()
    delivered_at: datetime | None = utc_field(default=None, nullable=True)
    created_at: datetime = utc_field()


class ShipmentLine(Row, table=True):
    __tablename__ = "shipment_lines"

    shipment_id: ShipmentId = id_field(ShipmentId, primary_key=True, foreign_key="shipments.id")
    fulfillment_line_id: FulfillmentLineId = id_field(
        FulfillmentLineId, primary_key=True, foreign_key="fulfillment_lines.id"
    )
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    quantity: int = _units()


class TrackingEvent(Row, table=True):
    """Append-only, as received; ``event_id`` makes a repeat a no-op."""

    __tablename__ = "tracking_events"
    __table_args__ = (UniqueConstraint("shipment_id", "event_id"),)

    id: TrackingEventId = id_field(TrackingEventId, primary_key=True)
    shipment_id: ShipmentId = id_field(ShipmentId, foreign_key="shipments.id")
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    event_id: str
    status: str
    carrier_time: datetime = utc_field()
    received_at: datetime = utc_field()
    correction: bool = False
    raw: str | None = None


class WebhookEndpoint(Row, table=True):
    """Secrets are encrypted; two are valid while one is being rotated out."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index("ix_webhook_endpoints_supplier_id", "supplier_id"),)

    id: WebhookEndpointId = id_field(WebhookEndpointId, primary_key=True)
    supplier_id: SupplierId = id_field(SupplierId)
    url: str
    events: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    status: EndpointStatus = Field(default=EndpointStatus.ACTIVE, sa_type=String)
    disabled_reason: str | None = None
    secret: bytes = Field(sa_type=LargeBinary)
    previous_secret: bytes | None = Field(default=None, sa_type=LargeBinary)
    previous_until: datetime | None = utc_field(default=None, nullable=True)
    created_at: datetime = utc_field()
    updated_at: datetime = utc_field()
    version: int = 1


class WebhookDelivery(Row, table=True):
    """The delivery log. ``message_key`` names the fact told, so that it is queued once per endpoint."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("endpoint_id", "message_key"),
        Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("state = 'pending'")),
        Index("ix_webhook_deliveries_supplier_id", "supplier_id", "id"),
    )

    id: DeliveryId = id_field(DeliveryId, primary_key=True)
    endpoint_id: WebhookEndpointId = id_field(
        WebhookEndpointId, foreign_key="webhook_endpoints.id", ondelete="CASCADE"
    )
    supplier_id: SupplierId = id_field(SupplierId)
    message_key: str
    event_type: str
    payload: str
    state: DeliveryState = Field(default=DeliveryState.PENDING, sa_type=String)
    attempts: int = 0
    next_attempt_at: datetime | None = utc_field(default=None, nullable=True)
    last_status: int | None = None
    last_error: str | None = None
    created_at: datetime = utc_field()
    updated_at: datetime = utc_field()
