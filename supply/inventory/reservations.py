"""Promises of stock: hold, commit, consume, release, expire. Each is one statement.

Reading what is free and then writing oversells; serializable transactions give up under a race. So every
statement locks the rows it will change in one order (reservations by id, then levels by location and
variant), decides on the locked values, and writes the level, the reservation and its ledger entry together.
``reserve_stock`` is a database function (migration 0006), which says why.
The CHECK on ``stock_levels`` is the last line of defence. Measurements: benchmarks/inventory.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import CheckoutId, LocationId, OrderLineId, ReservationId, VariantId
from infra.db.session import Database
from infra.outbox import outbox
from supply.inventory.errors import InsufficientStock, ReservationExpired, ReservationNotOpen
from supply.inventory.events import ReservationsExpired
from supply.inventory.models import MovementId

_RESERVE = text(
    "SELECT location_id, variant_id, quantity, free, ok"
    " FROM reserve_stock(CAST(:rows AS jsonb), :reference, :cause, :expires_at, :now)"
)

_COMMIT = text("""
WITH locked AS (
    SELECT * FROM reservations WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
), ready AS (
    SELECT * FROM locked WHERE state = 'HELD' AND (expires_at > :now OR :late_is_fine)
), committed AS (
    UPDATE reservations r SET state = 'COMMITTED', updated_at = :now FROM ready WHERE r.id = ready.id
), entries AS (
    INSERT INTO reservation_entries (reservation_id, kind, cause, location_id, variant_id, supplier_id,
        brand_id, quantity, at)
    SELECT id, 'commit', reference::text, location_id, variant_id, supplier_id, brand_id, 0, :now FROM ready
)
SELECT id, state, expires_at FROM locked
""")

# Takes units out of reservations, either because they left the building (consume) or because nobody wants
# them any more (release). A repeat under the same cause finds its entry and does nothing.
_TAKE = """
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(id uuid, quantity bigint, cause varchar)
), locked AS (
    SELECT r.*, w.cause, r.quantity - r.consumed - r.released AS open,
           {take} AS take
    FROM reservations r JOIN wanted w ON w.id = r.id
    WHERE NOT EXISTS (SELECT FROM reservation_entries e
                      WHERE e.reservation_id = r.id AND e.kind = '{kind}' AND e.cause = w.cause)
    ORDER BY r.id FOR UPDATE OF r
), fits AS (
    SELECT coalesce(bool_and(open >= take AND {allowed}), true) AS ok FROM locked
), taken AS (
    SELECT * FROM locked WHERE take > 0 AND (SELECT ok FROM fits)
), total AS (
    SELECT location_id, variant_id, sum(take)::bigint AS quantity FROM taken GROUP BY 1, 2
), levels AS (
    SELECT s.location_id, s.variant_id, t.quantity FROM stock_levels s
    JOIN total t ON t.location_id = s.location_id AND t.variant_id = s.variant_id
    ORDER BY s.location_id, s.variant_id FOR UPDATE OF s
), changed AS (
    UPDATE reservations r SET {column} = r.{column} + t.take, updated_at = :now,
        state = CASE WHEN t.open > t.take THEN r.state
                     WHEN r.consumed + {consumed} > 0 THEN 'CONSUMED' ELSE 'RELEASED' END
    FROM taken t WHERE r.id = t.id
), moved AS (
    UPDATE stock_levels s SET {levels}, updated_at = :now, version = s.version + 1
    FROM levels l WHERE s.location_id = l.location_id AND s.variant_id = l.variant_id
), entries AS (
    INSERT INTO reservation_entries (reservation_id, kind, cause, location_id, variant_id, supplier_id,
        brand_id, quantity, at)
    SELECT id, '{kind}', cause, location_id, variant_id, supplier_id, brand_id, -take, :now FROM taken
){movements}
SELECT id, state, open, take FROM locked
"""
_MOVEMENTS = """, movements AS (
    INSERT INTO stock_movements (id, location_id, variant_id, supplier_id, brand_id, kind, delta, source,
        source_event_id, as_of, recorded_at)
    SELECT w.movement_id, t.location_id, t.variant_id, t.supplier_id, t.brand_id, 'ship', -t.take, 'shipment',
        t.cause || ':' || t.id, :now, :now
    FROM taken t JOIN jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(id uuid, movement_id uuid) ON w.id = t.id
)"""
_RELEASE = text(
    _TAKE.format(
        kind="release", allowed="true",
        # What ended before (expired, given back) absorbs a late release.
        take="CASE WHEN r.quantity = r.consumed + r.released THEN 0"
        " ELSE coalesce(w.quantity, r.quantity - r.consumed - r.released) END", column="released", consumed="0",
        levels="reserved = s.reserved - l.quantity", movements="",
    )
)  # fmt: skip
_CONSUME = text(
    _TAKE.format(
        kind="consume", take="w.quantity", allowed="state = 'COMMITTED'", column="consumed", consumed="t.take",
        levels="on_hand = s.on_hand - l.quantity, reserved = s.reserved - l.quantity,"
        " short = least(s.short, s.on_hand - l.quantity)",
        movements=_MOVEMENTS,
    )
)  # fmt: skip
_DUE = text(
    "SELECT id, reference FROM reservations WHERE state = 'HELD' AND expires_at <= :now"
    " ORDER BY id LIMIT :batch FOR UPDATE SKIP LOCKED"
)


@dataclass(frozen=True, slots=True)
class StockRequest:
    line_id: OrderLineId
    location_id: LocationId
    variant_id: VariantId
    quantity: int


async def reserve(
    session: AsyncSession,
    requests: Sequence[StockRequest],
    *,
    reference: CheckoutId,
    expires_at: datetime,
    now: datetime,
) -> dict[tuple[OrderLineId, LocationId], ReservationId]:
    """Hold units for every request, or none. Needs a SYSTEM session: stock is of many suppliers.

    A line may be held at several locations, once at each. Raises ``InsufficientStock`` with nothing written.
    """
    return await reserve_many(session, {reference: requests}, expires_at=expires_at, now=now)


async def reserve_many(
    session: AsyncSession,
    requests: Mapping[CheckoutId, Sequence[StockRequest]],
    *,
    expires_at: datetime,
    now: datetime,
) -> dict[tuple[OrderLineId, LocationId], ReservationId]:
    """``reserve`` for several checkouts at once, all or none. One statement."""
    pairs = [(reference, each) for reference, asked in requests.items() for each in asked]
    if not pairs:
        return {}
    ids = {(each.line_id, each.location_id): ReservationId.new() for _, each in pairs}
    if len(ids) < len(pairs) or any(each.quantity < 1 for _, each in pairs):
        raise ValueError("one positive request per line and location")
    rows = [
        {
            "id": ids[each.line_id, each.location_id].hex, "line_id": each.line_id.hex,
            "location_id": each.location_id.hex, "variant_id": each.variant_id.hex,
            "quantity": each.quantity, "reference": reference.hex, "cause": str(reference),
        }
        for reference, each in pairs
    ]  # fmt: skip
    first = pairs[0][0]
    values = {
        "rows": _json(rows), "reference": first, "cause": str(first), "expires_at": expires_at, "now": now,
    }  # fmt: skip
    totals = (await session.execute(_RESERVE, values)).all()
    if not totals[0].ok:
        raise _shortage(totals)
    return ids


async def commit(
    session: AsyncSession,
    reservation_ids: Sequence[ReservationId],
    *,
    now: datetime,
    late_is_fine: bool = False,
) -> None:
    """Held units become the order's. Committed ones stay so; all or none.

    ``late_is_fine`` (the customer has paid): a hold past its time still counts while nobody released it.
    Raises ``ReservationExpired``.
    """
    if not reservation_ids:
        return
    rows = await session.execute(
        _COMMIT, {"ids": sorted(reservation_ids), "now": now, "late_is_fine": late_is_fine}
    )
    lost = [
        ReservationId.of(row.id)
        for row in rows
        if row.state == "RELEASED" or (row.state == "HELD" and row.expires_at <= now and not late_is_fine)
    ]
    if lost:
        raise ReservationExpired(lost)


async def release(
    session: AsyncSession, reservation_ids: Iterable[ReservationId], *, cause: str, now: datetime
) -> None:
    """Give back whatever these reservations still hold. Terminal ones are left as they are."""
    await release_part(session, [(each, None) for each in reservation_ids], cause=cause, now=now)


async def release_part(
    session: AsyncSession,
    parts: Sequence[tuple[ReservationId, int | None]],
    *,
    cause: str,
    now: datetime,
) -> None:
    """Give back so many units of each (``None``: all that is left). ``cause`` names the fact, once.

    Raises ``ReservationNotOpen`` when an open one holds fewer, with nothing changed.
    """
    if not parts:
        return
    rows = [{"id": each.hex, "quantity": quantity, "cause": cause} for each, quantity in parts]
    answer = await session.execute(_RELEASE, {"rows": _json(rows), "now": now})
    _refuse_short([row for row in answer if row.open < row.take])


async def consume(
    session: AsyncSession, parts: Sequence[tuple[ReservationId, int]], *, cause: str, now: datetime
) -> None:
    """Committed units leave the building: out of the reservation and off the shelf.

    ``cause`` names the shipment; a repeat does nothing. Raises ``ReservationNotOpen`` with nothing changed.
    """
    await consume_many(session, [(each, quantity, cause) for each, quantity in parts], now=now)


async def consume_many(
    session: AsyncSession, parts: Sequence[tuple[ReservationId, int, str]], *, now: datetime
) -> None:
    """``consume`` for many shipments at once: reservation, units, cause; each reservation once."""
    if not parts:
        return
    rows = [
        {"id": each.hex, "quantity": quantity, "cause": cause, "movement_id": MovementId.new().hex}
        for each, quantity, cause in parts
    ]
    answer = await session.execute(_CONSUME, {"rows": _json(rows), "now": now})
    _refuse_short([row for row in answer if row.open < row.take or row.state != "COMMITTED"])


async def expire_reservations(db: Database, *, clock: Clock, batch: int = 500) -> int:
    """Sweep: release holds whose time is over. Returns how many; safe to run many times at once."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        due = (await session.execute(_DUE, {"now": now, "batch": batch})).all()
        await release(session, [ReservationId.of(row.id) for row in due], cause="expired", now=now)
        references = sorted({row.reference for row in due})
        await outbox.record(session, *(ReservationsExpired(CheckoutId.of(each), now) for each in references))
    return len(due)


def _json(rows: list[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()


def _shortage(totals: Sequence[Row[Any]]) -> InsufficientStock:
    short = tuple(
        (VariantId.of(row.variant_id), LocationId.of(row.location_id), row.quantity, row.free)
        for row in totals
        if row.free < row.quantity
    )
    return InsufficientStock(*short[0], shortages=short)


def _refuse_short(rows: Sequence[Row[Any]]) -> None:
    if rows:
        raise ReservationNotOpen([ReservationId.of(row.id) for row in rows])
