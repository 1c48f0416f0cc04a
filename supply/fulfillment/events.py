"""What happened to fulfilment orders. Quantities are units, costs minor units of ``currency``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import BrandId, FulfillmentOrderId, OrderId, OrderLineId, ShipmentId, SupplierId, VariantId


@dataclass(frozen=True, slots=True)
class LineQuantity:
    order_line_id: OrderLineId
    variant_id: VariantId
    quantity: int


@event("fulfillment.submitted")
@dataclass(frozen=True, slots=True)
class FulfillmentOrderSubmitted(Event):
    fulfillment_order_id: FulfillmentOrderId
    order_id: OrderId
    supplier_id: SupplierId
    at: datetime


@event("fulfillment.accepted")
@dataclass(frozen=True, slots=True)
class FulfillmentOrderAccepted(Event):
    fulfillment_order_id: FulfillmentOrderId
    order_id: OrderId
    supplier_id: SupplierId
    lines: tuple[LineQuantity, ...]
    at: datetime


@event("fulfillment.rejected")
@dataclass(frozen=True, slots=True)
class FulfillmentOrderRejected(Event):
    """The lines of ``fulfillment_order_id`` need another source: refused, timed out or given up.

    After a partial acceptance or a partial shipment this is the remainder order split off for the rest.
    """

    fulfillment_order_id: FulfillmentOrderId
    order_id: OrderId
    supplier_id: SupplierId
    lines: tuple[LineQuantity, ...]
    reason: str
    at: datetime


@event("fulfillment.shipped")
@dataclass(frozen=True, slots=True)
class FulfillmentOrderShipped(Event):
    fulfillment_order_id: FulfillmentOrderId
    order_id: OrderId
    supplier_id: SupplierId
    shipment_id: ShipmentId
    carrier: str
    tracking_no: str
    lines: tuple[LineQuantity, ...]
    complete: bool
    at: datetime


@event("fulfillment.delivered")
@dataclass(frozen=True, slots=True)
class FulfillmentOrderDelivered(Event):
    """Lines of one fulfilment order reached the customer; ``complete`` when nothing is outstanding."""

    order_id: OrderId
    fulfillment_order_id: FulfillmentOrderId
    supplier_id: SupplierId
    at: datetime
    lines: tuple[LineQuantity, ...]
    complete: bool


@event("fulfillment.cancellation_requested")
@dataclass(frozen=True, slots=True)
class FulfillmentCancellationRequested(Event):
    fulfillment_order_id: FulfillmentOrderId
    order_id: OrderId
    supplier_id: SupplierId
    at: datetime


@event("fulfillment.cancelled")
@dataclass(frozen=True, slots=True)
class FulfillmentOrderCancelled(Event):
    """Unshipped units were taken off; ``complete`` when the whole fulfilment order ended."""

    fulfillment_order_id: FulfillmentOrderId
    order_id: OrderId
    supplier_id: SupplierId
    lines: tuple[LineQuantity, ...]
    reason: str
    complete: bool
    at: datetime


@event("fulfillment.excepted")
@dataclass(frozen=True, slots=True)
class FulfillmentExceptionRaised(Event):
    """Lost, or returned to the sender."""

    fulfillment_order_id: FulfillmentOrderId
    order_id: OrderId
    supplier_id: SupplierId
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class RoutedChange:
    """``quantity`` units of a line moved; costs are for all of them, without freight."""

    order_line_id: OrderLineId
    quantity: int
    from_supplier: SupplierId
    from_cost_minor: int
    to_supplier: SupplierId
    to_cost_minor: int


@event("fulfillment.rerouted")
@dataclass(frozen=True, slots=True)
class FulfillmentRerouted(Event):
    """One event per new fulfilment order. Freight: what the old order loses and the new one asks for.

    ``from_freight_minor`` is the old order's whole freight on the first event of a re-route that leaves it
    nothing to ship, otherwise 0.
    """

    order_id: OrderId
    brand_id: BrandId
    from_fo: FulfillmentOrderId
    to_fo: FulfillmentOrderId
    currency: str
    changes: tuple[RoutedChange, ...]
    from_freight_minor: int
    to_freight_minor: int
    at: datetime


@event("fulfillment.unsourced")
@dataclass(frozen=True, slots=True)
class FulfillmentUnsourced(Event):
    """No source is left for these units; the fulfilment order is on hold for an operator."""

    order_id: OrderId
    fulfillment_order_id: FulfillmentOrderId
    lines: tuple[LineQuantity, ...]
    reason: str
    at: datetime
