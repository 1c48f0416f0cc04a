"""What a supplier says about its shelves: counts (absolute, as of a time) and changes (with an event id).

A count is the truth of its moment: an older one is ignored, and what left or came after that moment is put on
top of it. A change counts once per event id. Neither can take back what is already promised: see ``short``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, LocationId, SupplierId, VariantId
from infra.outbox import outbox
from supply.inventory.errors import TooManyRows
from supply.inventory.events import StockFellShort
from supply.inventory.models import MovementId, MovementKind

MAX_ROWS = 1_000
MAX_UNITS = 1_000_000
CLOCKS_DIFFER = timedelta(minutes=5)
"""How far into our future a supplier's clock may run."""

_ENSURE = text("""
INSERT INTO stock_levels (location_id, variant_id, supplier_id, brand_id, on_hand, reserved, safety, short,
    source_as_of, updated_at, version)
SELECT DISTINCT ON (location_id, variant_id) location_id, variant_id, :supplier_id, brand_id, 0, 0, 0, 0,
    CAST(NULL AS timestamptz), :now, 0
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(location_id uuid, variant_id uuid, brand_id uuid)
ORDER BY location_id, variant_id ON CONFLICT DO NOTHING
""")
_LOCK = text("""
SELECT s.location_id, s.variant_id, s.on_hand, s.reserved, s.safety, s.short, s.source_as_of
FROM stock_levels s
WHERE (s.location_id, s.variant_id) IN (
    SELECT location_id, variant_id
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(location_id uuid, variant_id uuid))
ORDER BY s.location_id, s.variant_id FOR UPDATE
""")
# Read after the locks are ours, in a statement of its own: only now is everything the others did visible.
_SINCE = text("""
SELECT w.n, coalesce(sum(m.delta) FILTER (WHERE m.kind <> 'feed_set'), 0)::bigint AS moved
FROM jsonb_to_recordset(CAST(:rows AS jsonb))
    AS w(n int, location_id uuid, variant_id uuid, as_of timestamptz)
LEFT JOIN stock_movements m
    ON m.location_id = w.location_id AND m.variant_id = w.variant_id AND m.as_of > w.as_of
GROUP BY w.n
""")
_SEEN = text(
    "SELECT source_event_id FROM stock_movements"
    " WHERE supplier_id = :supplier_id AND source = :source AND source_event_id = ANY(:events)"
)
_STORE = text("""
WITH levels AS (
    UPDATE stock_levels s SET on_hand = w.on_hand, safety = w.safety, short = w.short,
        source_as_of = w.source_as_of, updated_at = :now, version = s.version + 1
    FROM jsonb_to_recordset(CAST(:levels AS jsonb)) AS w(location_id uuid, variant_id uuid, on_hand bigint,
        safety bigint, short bigint, source_as_of timestamptz)
    WHERE s.location_id = w.location_id AND s.variant_id = w.variant_id
)
INSERT INTO stock_movements (id, location_id, variant_id, supplier_id, brand_id, kind, delta, source,
    source_event_id, as_of, recorded_at)
SELECT id, location_id, variant_id, :supplier_id, brand_id, kind, delta, :source, event_id, as_of, :now
FROM jsonb_to_recordset(CAST(:movements AS jsonb)) AS w(id uuid, location_id uuid, variant_id uuid,
    brand_id uuid, kind varchar, delta bigint, event_id varchar, as_of timestamptz)
""")


class FeedResult(StrEnum):
    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """An older or repeated count, or an event id seen before: nothing to do, and not an error."""
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class StockRow:
    """Either ``count`` (units on the shelf as of ``as_of``) or ``delta`` with an ``event_id``.

    ``as_of``: now when absent. ``safety``: units never to be sold; ``None`` leaves them.
    """

    location_id: LocationId
    variant_id: VariantId
    brand_id: BrandId
    count: int | None = None
    delta: int | None = None
    as_of: datetime | None = None
    event_id: str | None = None
    safety: int | None = None
    kind: MovementKind = MovementKind.ADJUST


@dataclass(frozen=True, slots=True)
class StockRowResult:
    """``row`` counts from 0. ``available`` may be sold now; ``short`` is promised but missing."""

    row: int
    result: FeedResult
    code: str | None = None
    on_hand: int | None = None
    available: int | None = None
    short: int = 0


@dataclass(slots=True)
class _Level:
    on_hand: int
    reserved: int
    safety: int
    short: int
    as_of: datetime | None

    @property
    def physical(self) -> int:
        return self.on_hand - self.short

    def set_physical(self, units: int) -> int:
        """Returns the change of ``on_hand``, which never falls below what is promised."""
        before = self.on_hand
        self.on_hand = max(units, self.reserved)
        self.short = self.on_hand - units
        return self.on_hand - before


_Key = tuple[LocationId, VariantId]


async def apply_stock(
    session: AsyncSession,
    supplier_id: SupplierId,
    rows: Sequence[StockRow],
    *,
    clock: Clock,
    source: str = "api",
) -> list[StockRowResult]:
    """Apply up to 1,000 rows in order; a bad row is answered with a code and the others still count.

    Codes: ``COUNT_OR_DELTA``, ``QUANTITY_OUT_OF_RANGE``, ``EVENT_ID_MISSING``, ``AS_OF_IN_FUTURE``,
    ``NEGATIVE_STOCK``; ``unchanged`` rows say ``STALE_AS_OF`` or ``EVENT_SEEN``. Raises ``TooManyRows``.
    """
    if len(rows) > MAX_ROWS:
        raise TooManyRows(f"{len(rows)} rows; at most {MAX_ROWS} at once")
    now = clock.now()
    codes = [_refusal(row, now) for row in rows]
    good = [(n, row) for n, row in enumerate(rows) if codes[n] is None]
    results = {n: StockRowResult(n, FeedResult.REJECTED, code) for n, code in enumerate(codes) if code}
    if good:
        await _apply(session, supplier_id, good, results, now=now, source=source)
    return [results[n] for n in range(len(rows))]


def _refusal(row: StockRow, now: datetime) -> str | None:
    if (row.count is None) == (row.delta is None):
        return "COUNT_OR_DELTA"
    if row.count is not None and not 0 <= row.count <= MAX_UNITS:
        return "QUANTITY_OUT_OF_RANGE"
    if row.delta is not None and (not -MAX_UNITS <= row.delta <= MAX_UNITS or row.delta == 0):
        return "QUANTITY_OUT_OF_RANGE"
    if row.safety is not None and not 0 <= row.safety <= MAX_UNITS:
        return "QUANTITY_OUT_OF_RANGE"
    if row.delta is not None and not row.event_id:
        return "EVENT_ID_MISSING"
    if row.as_of is not None and row.as_of > now + CLOCKS_DIFFER:
        return "AS_OF_IN_FUTURE"
    return None


async def _apply(
    session: AsyncSession,
    supplier_id: SupplierId,
    good: list[tuple[int, StockRow]],
    results: dict[int, StockRowResult],
    *,
    now: datetime,
    source: str,
) -> None:
    document = _json(
        {
            "n": n, "location_id": row.location_id.hex, "variant_id": row.variant_id.hex,
            "brand_id": row.brand_id.hex, "as_of": row.as_of or now,
        }
        for n, row in good
    )  # fmt: skip
    await session.execute(_ENSURE, {"rows": document, "supplier_id": supplier_id, "now": now})
    levels: dict[_Key, _Level] = {
        (LocationId.of(r.location_id), VariantId.of(r.variant_id)): _Level(
            r.on_hand, r.reserved, r.safety, r.short, r.source_as_of
        )
        for r in await session.execute(_LOCK, {"rows": document})
    }
    since = {r.n: r.moved for r in await session.execute(_SINCE, {"rows": document})}
    events = [row.event_id for _, row in good if row.event_id]
    seen = set()
    if events:
        where = {"supplier_id": supplier_id, "source": source, "events": events}
        seen = set((await session.execute(_SEEN, where)).scalars())

    movements: list[dict[str, Any]] = []
    changed: dict[_Key, StockRow] = {}
    for n, row in good:
        key = row.location_id, row.variant_id
        results[n], movement = _step(n, row, levels[key], since[n], seen, now)
        if results[n].result is FeedResult.APPLIED:
            changed[key] = row
        if movement is not None:
            movements.append(movement)
    if changed:
        await session.execute(
            _STORE,
            {
                "levels": _json(_level_row(key, levels[key]) for key in changed),
                "movements": _json(movements), "supplier_id": supplier_id, "source": source, "now": now,
            },
        )  # fmt: skip
    short = [(key, levels[key].short) for key in changed if levels[key].short]
    await outbox.record(session, *(StockFellShort(supplier_id, *key, units, now) for key, units in short))


def _step(
    n: int, row: StockRow, level: _Level, since: int, seen: set[str], now: datetime
) -> tuple[StockRowResult, dict[str, Any] | None]:
    as_of = row.as_of or now
    if row.event_id and row.event_id in seen:
        return _result(n, level, FeedResult.UNCHANGED, "EVENT_SEEN"), None
    if row.count is not None:
        # A count with an event id of its own may follow another of the same instant.
        if level.as_of is not None and (as_of, bool(row.event_id)) <= (level.as_of, False):
            return _result(n, level, FeedResult.UNCHANGED, "STALE_AS_OF"), None
        kind, physical = MovementKind.FEED_SET, max(row.count + since, 0)
        level.as_of = as_of
    else:
        kind, physical = row.kind, level.physical + (row.delta or 0)
        if physical < 0:
            return _result(n, level, FeedResult.REJECTED, "NEGATIVE_STOCK"), None
    if row.safety is not None:
        level.safety = row.safety
    delta = level.set_physical(physical)
    if row.event_id:
        seen.add(row.event_id)
    if delta == 0 and not row.event_id:
        return _result(n, level, FeedResult.APPLIED), None
    movement = {
        "id": MovementId.new().hex, "location_id": row.location_id.hex, "variant_id": row.variant_id.hex,
        "brand_id": row.brand_id.hex, "kind": kind.value, "delta": delta, "event_id": row.event_id,
        "as_of": as_of,
    }  # fmt: skip
    return _result(n, level, FeedResult.APPLIED), movement


def _result(n: int, level: _Level, result: FeedResult, code: str | None = None) -> StockRowResult:
    available = max(level.on_hand - level.short - level.reserved - level.safety, 0)
    return StockRowResult(n, result, code, level.physical, available, level.short)


def _level_row(key: _Key, level: _Level) -> dict[str, Any]:
    return {
        "location_id": key[0].hex, "variant_id": key[1].hex, "on_hand": level.on_hand,
        "safety": level.safety, "short": level.short, "source_as_of": level.as_of,
    }  # fmt: skip


def _json(rows: Any) -> str:
    return orjson.dumps(list(rows)).decode()
