"""Fulfilment orders and suppliers as a brand sees them."""

from __future__ import annotations

from datetime import datetime

import strawberry

from graph.scalars import Money
from supply.fulfillment.machine import RequestStatus, Status
from supply.fulfillment.queries import FulfillmentLineView, FulfillmentOrderView, ShipmentView
from supply.suppliers.models import BrandRelation, SupplierKind, SupplierStatus
from supply.suppliers.queries import OfferView, SupplierView

strawberry.enum(Status, name="FulfillmentOrderStatus")
strawberry.enum(RequestStatus, name="FulfillmentRequestStatus")
strawberry.enum(BrandRelation, name="BrandRelation")
strawberry.enum(SupplierKind, name="SupplierKind")
strawberry.enum(SupplierStatus, name="SupplierStatus")


@strawberry.type
class FulfillmentLine:
    id: strawberry.ID
    order_line_id: strawberry.ID
    variant_id: strawberry.ID
    sku: str
    title: str
    quantity: int
    accepted: int
    rejected: int
    cancelled: int
    shipped: int
    delivered: int
    returned: int
    unit_cost: Money = strawberry.field(description="Frozen when the order was placed.")

    @classmethod
    def of(cls, row: FulfillmentLineView) -> FulfillmentLine:
        return cls(
            id=strawberry.ID(str(row.id)),
            order_line_id=strawberry.ID(str(row.order_line_id)),
            variant_id=strawberry.ID(str(row.variant_id)),
            sku=row.sku,
            title=row.title,
            quantity=row.quantity,
            accepted=row.accepted,
            rejected=row.rejected,
            cancelled=row.cancelled,
            shipped=row.shipped,
            delivered=row.delivered,
            returned=row.returned,
            unit_cost=Money.of(row.unit_cost),
        )


@strawberry.type
class Shipment:
    id: strawberry.ID
    carrier: str
    tracking_number: str
    status: str
    handed_over_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, row: ShipmentView) -> Shipment:
        return cls(
            id=strawberry.ID(str(row.id)),
            carrier=row.carrier,
            tracking_number=row.tracking_no,
            status=row.status,
            handed_over_at=row.handed_over_at,
            delivered_at=row.delivered_at,
        )


@strawberry.type(description="What one supplier sends from one location for one order.")
class FulfillmentOrder:
    id: strawberry.ID
    order_id: strawberry.ID
    supplier_id: strawberry.ID
    location_id: strawberry.ID
    parent_id: strawberry.ID | None = strawberry.field(
        description="What it took over from, after a re-route."
    )
    attempt: int
    status: Status
    request_status: RequestStatus
    reason: str | None
    hold_reason: str | None
    ship_by: datetime | None
    freight: Money
    lines: list[FulfillmentLine]
    shipments: list[Shipment]
    allowed_actions: list[str]

    @classmethod
    def of(cls, row: FulfillmentOrderView) -> FulfillmentOrder:
        return cls(
            id=strawberry.ID(str(row.id)),
            order_id=strawberry.ID(str(row.order_id)),
            supplier_id=strawberry.ID(str(row.supplier_id)),
            location_id=strawberry.ID(str(row.location_id)),
            parent_id=strawberry.ID(str(row.parent_id)) if row.parent_id else None,
            attempt=row.attempt_no,
            status=row.status,
            request_status=row.request_status,
            reason=row.reason,
            hold_reason=row.hold_reason,
            ship_by=row.ship_by,
            freight=Money.of(row.freight),
            lines=[FulfillmentLine.of(line) for line in row.lines],
            shipments=[Shipment.of(shipment) for shipment in row.shipments],
            allowed_actions=[str(action) for action in row.allowed_actions],
        )


@strawberry.type
class Supplier:
    id: strawberry.ID
    code: str
    name: str
    kind: SupplierKind
    status: SupplierStatus

    @classmethod
    def of(cls, row: SupplierView) -> Supplier:
        return cls(
            id=strawberry.ID(str(row.id)), code=row.code, name=row.name, kind=row.kind, status=row.status
        )


@strawberry.type(description="A supplier's offer of one of the brand's variants at one location.")
class SupplierOffer:
    id: strawberry.ID
    supplier_id: strawberry.ID
    location_id: strawberry.ID
    variant_id: strawberry.ID
    sku: str
    unit_cost: Money | None
    minimum_quantity: int
    lead_time_hours: int
    status: str

    @classmethod
    def of(cls, row: OfferView) -> SupplierOffer:
        return cls(
            id=strawberry.ID(str(row.id)),
            supplier_id=strawberry.ID(str(row.supplier_id)),
            location_id=strawberry.ID(str(row.location_id)),
            variant_id=strawberry.ID(str(row.variant_id)),
            sku=row.sku,
            unit_cost=Money.of(row.unit_cost) if row.unit_cost else None,
            minimum_quantity=row.moq,
            lead_time_hours=row.lead_time_hours,
            status=str(row.status),
        )
