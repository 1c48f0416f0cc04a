"""What happened to stock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import CheckoutId, LocationId, SupplierId, VariantId


@event("inventory.reservations_expired")
@dataclass(frozen=True, slots=True)
class ReservationsExpired(Event):
    """A checkout's holds ran out before it was paid."""

    reference: CheckoutId
    at: datetime


@event("inventory.fell_short")
@dataclass(frozen=True, slots=True)
class StockFellShort(Event):
    """A count came in ``short`` units below what is already promised."""

    supplier_id: SupplierId
    location_id: LocationId
    variant_id: VariantId
    short: int
    at: datetime
