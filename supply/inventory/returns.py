"""Units that came back and may be sold again: an entry on the shelf, once for each decision about them.

They go the way every change of a shelf goes (feed.py): under the level's lock, known by their event id, and first to
whoever is promised units that are not there (``short``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, LocationId, SupplierId, VariantId
from supply.inventory.feed import StockRow, apply_stock
from supply.inventory.models import MovementKind

SOURCE = "return"


@dataclass(frozen=True, slots=True)
class ReturnedUnits:
    """``event_id`` names the decision; the same one again changes nothing."""

    location_id: LocationId
    variant_id: VariantId
    brand_id: BrandId
    quantity: int
    event_id: str


async def restock(
    session: AsyncSession, supplier_id: SupplierId, units: Sequence[ReturnedUnits], *, clock: Clock
) -> None:
    """Put units back on their shelves. ``session`` acts as SYSTEM or the supplier."""
    rows = [
        StockRow(
            each.location_id, each.variant_id, each.brand_id, delta=each.quantity, event_id=each.event_id,
            kind=MovementKind.RETURN_IN,
        )
        for each in units
        if each.quantity
    ]  # fmt: skip
    if rows:
        await apply_stock(session, supplier_id, rows, clock=clock, source=SOURCE)
