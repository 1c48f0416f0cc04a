"""What can be wrong with a supplier's data."""

from __future__ import annotations

from core.errors import Conflict, Invalid, NotFound


class SupplierNotFound(NotFound):
    code = "SUPPLIER_NOT_FOUND"


class LocationNotFound(NotFound):
    code = "LOCATION_NOT_FOUND"


class OfferNotFound(NotFound):
    code = "OFFER_NOT_FOUND"


class LocationCodeTaken(Conflict):
    code = "LOCATION_CODE_TAKEN"


class BadZone(Invalid):
    code = "BAD_ZONE"


class QuantityOutOfRange(Invalid):
    code = "QUANTITY_OUT_OF_RANGE"


class AmountOutOfRange(Invalid):
    code = "AMOUNT_OUT_OF_RANGE"


class VersionConflict(Conflict):
    """Somebody else changed it since the caller looked."""

    code = "VERSION_CONFLICT"
    status = 412

    def __init__(self, expected: int, current: int) -> None:
        super().__init__(f"expected version {expected}, it is {current} now")
        self.expected, self.current = expected, current
