"""What can go wrong with stock, and what a caller can do about it."""

from __future__ import annotations

from core.errors import Conflict, Invalid
from core.ids import LocationId, ReservationId, VariantId


class InsufficientStock(Conflict):
    """Nothing was reserved. ``shortages`` holds each (variant, location, requested, available) short."""

    code = "INSUFFICIENT_STOCK"

    def __init__(
        self, variant_id: VariantId, location_id: LocationId, requested: int, available: int,
        shortages: tuple[tuple[VariantId, LocationId, int, int], ...] = (),
    ) -> None:  # fmt: skip
        super().__init__(f"{requested} wanted, {available} available")
        self.variant_id, self.location_id = variant_id, location_id
        self.requested, self.available = requested, available
        self.shortages = shortages or ((variant_id, location_id, requested, available),)


class ReservationExpired(Conflict):
    """The hold is over; its units may be somebody else's."""

    code = "RESERVATION_EXPIRED"

    def __init__(self, reservation_ids: list[ReservationId]) -> None:
        super().__init__("the stock was no longer held")
        self.reservation_ids = [str(each) for each in reservation_ids]


class ReservationNotOpen(Conflict):
    """More units than the reservation still holds, or one that was never committed."""

    code = "RESERVATION_NOT_OPEN"

    def __init__(self, reservation_ids: list[ReservationId]) -> None:
        super().__init__("the reservation does not hold these units")
        self.reservation_ids = [str(each) for each in reservation_ids]


class TooManyRows(Invalid):
    code = "TOO_MANY_ROWS"
