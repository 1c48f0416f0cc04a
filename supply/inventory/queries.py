"""Reads of stock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import (
    CheckoutId,
    LocationId,
    MalformedId,
    OrderLineId,
    ReservationId,
    SupplierId,
    VariantId,
)
from core.pagination import BadPage, Page, PageRequest, page_of
from supply.inventory.models import MovementId, MovementKind, ReservationState

_COLUMNS = (
    "s.location_id, s.variant_id, s.supplier_id, s.on_hand - s.short AS physical, s.reserved, s.safety,"
    " s.short,"
    " greatest(s.on_hand - s.short - s.reserved - s.safety, 0) AS available, s.source_as_of, s.version"
)
_AVAILABILITY = text(
    f"SELECT {_COLUMNS} FROM stock_levels s WHERE s.variant_id = ANY(:variants)"
    " ORDER BY s.variant_id, s.location_id"
)
_PAGE = text(
    f"SELECT {_COLUMNS} FROM stock_levels s WHERE s.supplier_id = :supplier_id"
    " AND (CAST(:location_id AS uuid) IS NULL OR s.location_id = CAST(:location_id AS uuid))"
    " AND (CAST(:after_location AS uuid) IS NULL OR (s.location_id, s.variant_id)"
    " > (CAST(:after_location AS uuid), CAST(:after_variant AS uuid)))"
    " ORDER BY s.location_id, s.variant_id LIMIT :limit"
)
_MOVEMENTS = text(
    "SELECT id, kind, delta, source, source_event_id, as_of, recorded_at FROM stock_movements"
    " WHERE supplier_id = :supplier_id AND location_id = :location_id AND variant_id = :variant_id"
    " AND (CAST(:at AS timestamptz) IS NULL OR (as_of, id) < (:at, CAST(:after AS uuid)))"
    " ORDER BY as_of DESC, id DESC LIMIT :limit"
)
_SELLABLE = text("SELECT variant_id, sellable FROM sellable_stock(:variants, :zone, :now)")
_BY_REFERENCE = text(
    "SELECT id, line_id, location_id, variant_id, quantity, consumed, released, state, expires_at"
    " FROM reservations WHERE reference = :reference ORDER BY id"
)

_OPEN_IDS = text(
    "SELECT id FROM reservations WHERE reference = ANY(:references) AND state IN ('HELD', 'COMMITTED') ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class StockView:
    """Units. ``on_hand`` is there, ``available`` may be sold, ``short`` is promised but missing."""

    location_id: LocationId
    variant_id: VariantId
    supplier_id: SupplierId
    on_hand: int
    reserved: int
    safety: int
    short: int
    available: int
    as_of: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class MovementView:
    """One entry of a shelf's history. ``delta`` is the change of units on hand; 0 where units that came only made
    up for promised ones that were missing. ``event_id`` names what caused it, where that has a name."""

    id: MovementId
    kind: MovementKind
    delta: int
    source: str
    event_id: str | None
    as_of: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class ReservationView:
    id: ReservationId
    line_id: OrderLineId
    location_id: LocationId
    variant_id: VariantId
    quantity: int
    open: int
    state: ReservationState
    expires_at: datetime


async def availability(session: AsyncSession, variants: Sequence[VariantId]) -> list[StockView]:
    """Every level the actor may see: a supplier its own, a brand those of its products. One statement."""
    return [_view(r) for r in await session.execute(_AVAILABILITY, {"variants": list(variants)})]


async def stock_page(
    session: AsyncSession,
    supplier_id: SupplierId,
    page: PageRequest,
    *,
    location_id: LocationId | None = None,
) -> Page[StockView]:
    location, variant = _position(page)
    rows = await session.execute(
        _PAGE,
        {
            "supplier_id": supplier_id, "location_id": location_id, "limit": page.first + 1,
            "after_location": location, "after_variant": variant,
        },
    )  # fmt: skip
    return page_of([_view(r) for r in rows], page, lambda v: (str(v.location_id), str(v.variant_id)))


async def movements_page(
    session: AsyncSession,
    supplier_id: SupplierId,
    page: PageRequest,
    *,
    location_id: LocationId,
    variant_id: VariantId,
) -> Page[MovementView]:
    """What came to and went from one shelf, newest first by when it was so."""
    at, after = _moment(page)
    rows = await session.execute(
        _MOVEMENTS,
        {
            "supplier_id": supplier_id, "location_id": location_id, "variant_id": variant_id, "at": at,
            "after": after, "limit": page.first + 1,
        },
    )  # fmt: skip
    views = [
        MovementView(
            MovementId.of(r.id), MovementKind(r.kind), r.delta, r.source, r.source_event_id, r.as_of,
            r.recorded_at,
        )
        for r in rows
    ]  # fmt: skip
    return page_of(views, page, lambda v: (v.as_of.isoformat(), str(v.id)))


async def sellable(
    session: AsyncSession, variants: Sequence[VariantId], dest_zone: str = "", *, now: datetime
) -> dict[VariantId, int]:
    """Units that can be sold to a zone (``""``: anywhere), 0 if unknown. One statement, for any actor."""
    rows = await session.execute(_SELLABLE, {"variants": list(variants), "zone": dest_zone, "now": now})
    found = {VariantId.of(r.variant_id): r.sellable for r in rows}
    return {variant: found.get(variant, 0) for variant in variants}


async def reservations_of(session: AsyncSession, reference: CheckoutId) -> list[ReservationView]:
    rows = await session.execute(_BY_REFERENCE, {"reference": reference})
    return [
        ReservationView(
            ReservationId.of(r.id), OrderLineId.of(r.line_id), LocationId.of(r.location_id),
            VariantId.of(r.variant_id), r.quantity, r.quantity - r.consumed - r.released,
            ReservationState(r.state), r.expires_at,
        )
        for r in rows
    ]  # fmt: skip


async def open_reservations(session: AsyncSession, references: Sequence[CheckoutId]) -> list[ReservationId]:
    """What these checkouts still hold. One statement."""
    rows = await session.execute(_OPEN_IDS, {"references": list(references)})
    return [ReservationId.of(each) for each in rows.scalars()]


def _position(page: PageRequest) -> tuple[LocationId | None, VariantId | None]:
    """Raises ``BadPage`` for a cursor of another list."""
    if page.key is None:
        return None, None
    try:
        location, variant = page.key
        return LocationId.parse(location), VariantId.parse(variant)
    except (ValueError, MalformedId) as error:
        raise BadPage("the cursor is not one of this list", field="cursor") from error


def _moment(page: PageRequest) -> tuple[datetime | None, MovementId | None]:
    """Raises ``BadPage`` for a cursor of another list."""
    if page.key is None:
        return None, None
    try:
        at, after = page.key
        return datetime.fromisoformat(at), MovementId.parse(after)
    except (ValueError, MalformedId) as error:
        raise BadPage("the cursor is not one of this list", field="cursor") from error


def _view(r: Row[Any]) -> StockView:
    return StockView(
        LocationId.of(r.location_id), VariantId.of(r.variant_id), SupplierId.of(r.supplier_id), r.physical,
        r.reserved, r.safety, r.short, r.available, r.source_as_of, r.version,
    )  # fmt: skip
