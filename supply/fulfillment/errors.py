"""What can go wrong while goods are on their way."""

from __future__ import annotations

from collections.abc import Iterable

from core.errors import Conflict, Invalid, NotFound
from core.ids import FulfillmentLineId


class FulfillmentOrderNotFound(NotFound):
    code = "FULFILLMENT_ORDER_NOT_FOUND"


class FulfillmentLineNotFound(NotFound):
    code = "FULFILLMENT_LINE_NOT_FOUND"


class ShipmentNotFound(NotFound):
    code = "SHIPMENT_NOT_FOUND"


class QuantityNotOutstanding(Conflict):
    """More units than the line still has to ship (or to answer for)."""

    code = "QUANTITY_NOT_OUTSTANDING"

    def __init__(self, line_id: FulfillmentLineId, requested: int, outstanding: int) -> None:
        super().__init__(f"{requested} units wanted of {outstanding} outstanding", field="lines")
        self.line_id, self.requested, self.outstanding = str(line_id), requested, outstanding


class NothingSelected(Invalid):
    code = "NOTHING_SELECTED"


class UnknownCarrier(Invalid):
    code = "UNKNOWN_CARRIER"

    def __init__(self, carrier: str, known: Iterable[str]) -> None:
        super().__init__(f"{carrier[:32]!r} is not a carrier we know", field="carrier")
        self.carrier, self.known = carrier[:32], sorted(known)


class TrackingNumberUsed(Conflict):
    code = "TRACKING_NUMBER_USED"


class CancellationNotRefusable(Conflict):
    """Only goods with a label or a shipment may be kept from being cancelled."""

    code = "CANCELLATION_NOT_REFUSABLE"
