"""Recomputes the levels from the ledgers: any difference is a bug, named by location and variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import LocationId, VariantId

_DRIFT = text("""
WITH shelf AS (
    SELECT location_id, variant_id, sum(delta)::bigint AS units FROM stock_movements GROUP BY 1, 2
), promised AS (
    SELECT location_id, variant_id, sum(quantity)::bigint AS units FROM reservation_entries GROUP BY 1, 2
), open AS (
    SELECT location_id, variant_id, sum(quantity - consumed - released)::bigint AS units
    FROM reservations WHERE state IN ('HELD', 'COMMITTED') GROUP BY 1, 2
), keys AS (
    SELECT location_id, variant_id FROM stock_levels UNION SELECT location_id, variant_id FROM shelf
    UNION SELECT location_id, variant_id FROM promised UNION SELECT location_id, variant_id FROM open
)
SELECT k.location_id, k.variant_id, coalesce(s.on_hand, 0) AS on_hand, coalesce(s.reserved, 0) AS reserved,
       coalesce(shelf.units, 0) AS shelf, coalesce(promised.units, 0) AS promised,
       coalesce(open.units, 0) AS open
FROM keys k
LEFT JOIN stock_levels s USING (location_id, variant_id)
LEFT JOIN shelf USING (location_id, variant_id)
LEFT JOIN promised USING (location_id, variant_id)
LEFT JOIN open USING (location_id, variant_id)
WHERE coalesce(s.on_hand, 0) <> coalesce(shelf.units, 0)
   OR coalesce(s.reserved, 0) <> coalesce(promised.units, 0)
   OR coalesce(s.reserved, 0) <> coalesce(open.units, 0)
ORDER BY 1, 2 LIMIT :limit
""")
_REPAIR = text("""
UPDATE stock_levels s SET reserved = p.units, on_hand = greatest(m.units, p.units),
    short = least(s.short, greatest(m.units, p.units)), version = s.version + 1
FROM (SELECT location_id, variant_id, coalesce(sum(quantity), 0)::bigint AS units
      FROM reservation_entries GROUP BY 1, 2) p,
     (SELECT location_id, variant_id, coalesce(sum(delta), 0)::bigint AS units
      FROM stock_movements GROUP BY 1, 2) m
WHERE s.location_id = :location_id AND s.variant_id = :variant_id
  AND p.location_id = s.location_id AND p.variant_id = s.variant_id
  AND m.location_id = s.location_id AND m.variant_id = s.variant_id
""")


@dataclass(frozen=True, slots=True)
class Drift:
    """``on_hand`` and ``reserved`` are the cached levels, the others what the ledgers say."""

    location_id: LocationId
    variant_id: VariantId
    on_hand: int
    shelf: int
    reserved: int
    promised: int
    open: int


async def drifts(session: AsyncSession, *, limit: int = 1000) -> list[Drift]:
    """Every level that its ledgers contradict. Needs a SYSTEM or platform session; [] is healthy."""
    rows = await session.execute(_DRIFT, {"limit": limit})
    return [
        Drift(
            LocationId.of(r.location_id), VariantId.of(r.variant_id), r.on_hand, r.shelf, r.reserved,
            r.promised, r.open,
        )
        for r in rows
    ]  # fmt: skip


async def repair(session: AsyncSession, found: Sequence[Drift]) -> None:
    """Set the cached levels to what the ledgers say."""
    for drift in found:
        await session.execute(_REPAIR, {"location_id": drift.location_id, "variant_id": drift.variant_id})
