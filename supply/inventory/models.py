"""Stock levels, and the two append-only ledgers they are a cache of."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, Index, String, UniqueConstraint, text
from sqlmodel import Field

from core.ids import (
    BrandId,
    CheckoutId,
    LocationId,
    OrderLineId,
    ReservationId,
    SupplierId,
    TypedId,
    VariantId,
)
from infra.db.base import Row, id_field, utc_field


class MovementId(TypedId):
    prefix = "mov"


class MovementKind(StrEnum):
    RECEIPT = "receipt"
    FEED_SET = "feed_set"
    ADJUST = "adjust"
    SHIP = "ship"
    RETURN_IN = "return_in"
    WRITE_OFF = "write_off"


class ReservationState(StrEnum):
    HELD = "HELD"
    COMMITTED = "COMMITTED"
    CONSUMED = "CONSUMED"
    RELEASED = "RELEASED"


class EntryKind(StrEnum):
    HOLD = "hold"
    COMMIT = "commit"
    RELEASE = "release"
    CONSUME = "consume"


def _units(**column: int) -> int:
    return Field(sa_type=BigInteger, **column)  # type: ignore[no-any-return, call-overload]


class StockLevel(Row, table=True):
    """Available to promise = on_hand - short - reserved - safety, never below zero.

    ``short``: units already promised that the supplier's last count says are not there.
    """

    __tablename__ = "stock_levels"
    __table_args__ = (
        Index("ix_stock_levels_variant_id", "variant_id"),
        Index("ix_stock_levels_supplier_id_variant_id", "supplier_id", "variant_id"),
    )

    location_id: LocationId = id_field(LocationId, primary_key=True)
    variant_id: VariantId = id_field(VariantId, primary_key=True)
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    on_hand: int = _units()
    reserved: int = _units(default=0)
    safety: int = _units(default=0)
    short: int = _units(default=0)
    source_as_of: datetime | None = utc_field(default=None, nullable=True)
    updated_at: datetime = utc_field()
    version: int = 1


class StockMovement(Row, table=True):
    """Append-only; the sum of ``delta`` by location and variant is ``on_hand``."""

    __tablename__ = "stock_movements"
    __table_args__ = (
        UniqueConstraint("supplier_id", "source", "source_event_id"),
        Index("ix_stock_movements_location_id_variant_id_as_of", "location_id", "variant_id", "as_of"),
    )

    id: MovementId = id_field(MovementId, primary_key=True)
    location_id: LocationId = id_field(LocationId)
    variant_id: VariantId = id_field(VariantId)
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    kind: MovementKind = Field(sa_type=String)
    delta: int = _units()
    source: str
    source_event_id: str | None = None
    as_of: datetime = utc_field()
    recorded_at: datetime = utc_field()


class Reservation(Row, table=True):
    """Open units are ``quantity - consumed - released``; zero exactly when the state is terminal."""

    __tablename__ = "reservations"
    __table_args__ = (
        Index("ix_reservations_reference", "reference"),
        Index("ix_reservations_line_id", "line_id"),
        Index("ix_reservations_expiring", "expires_at", postgresql_where=text("state = 'HELD'")),
    )

    id: ReservationId = id_field(ReservationId, primary_key=True)
    reference: CheckoutId = id_field(CheckoutId)
    line_id: OrderLineId = id_field(OrderLineId)
    location_id: LocationId = id_field(LocationId)
    variant_id: VariantId = id_field(VariantId)
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    quantity: int = _units()
    consumed: int = _units(default=0)
    released: int = _units(default=0)
    state: ReservationState = Field(default=ReservationState.HELD, sa_type=String)
    expires_at: datetime = utc_field()
    created_at: datetime = utc_field()
    updated_at: datetime = utc_field()


class ReservationEntry(Row, table=True):
    """Append-only and signed; the sum by location and variant is ``stock_levels.reserved``."""

    __tablename__ = "reservation_entries"
    __table_args__ = (Index("ix_reservation_entries_location_id_variant_id", "location_id", "variant_id"),)

    reservation_id: ReservationId = id_field(ReservationId, primary_key=True, foreign_key="reservations.id")
    kind: EntryKind = Field(sa_type=String, primary_key=True)
    cause: str = Field(primary_key=True)
    location_id: LocationId = id_field(LocationId)
    variant_id: VariantId = id_field(VariantId)
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    quantity: int = _units()
    at: datetime = utc_field()
