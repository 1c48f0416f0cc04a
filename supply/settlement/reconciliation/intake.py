"""The provider's side: its rows, paged by when they were created, kept once each under the provider's id.

Read in windows of a day, each durable by itself: a run that dies goes on where it was. Every reading starts a
day before the last one ended, because a row may be listed a little after the moment it carries, and because a
day's rows still change (when their money becomes available).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM
from infra.db.session import Database
from infra.payments.gateway import Balance
from supply.settlement.reconciliation.provider_rows import ProviderRows, Row

OVERLAP = timedelta(days=1)
WINDOW = timedelta(days=1)
ROWS_AT_ONCE = 500
STANDS_STILL = 3
"""How often the rows are read again when the provider's balance moved meanwhile."""
_OPEN = text(
    "INSERT INTO psp_cursors (provider, rows_to, postings_to) VALUES (:provider, NULL, '0')"
    " ON CONFLICT (provider) DO NOTHING"
)
_CURSOR = text("SELECT rows_to, starts_at FROM psp_cursors WHERE provider = :provider")
_ADVANCE = text("UPDATE psp_cursors SET rows_to = greatest(rows_to, :rows_to) WHERE provider = :provider")
_COLUMNS = (
    ("id", "text"), ("type", "text"), ("reporting_category", "text"), ("source_id", "text"), ("ref", "text"),
    ("inward", "boolean"), ("amount_minor", "bigint"), ("fee_minor", "bigint"), ("net_minor", "bigint"),
    ("currency", "bpchar"), ("exchange_rate", "text"), ("created_at", "timestamptz"),
    ("available_on", "timestamptz"),
)  # fmt: skip
_NAMES = ", ".join(name for name, _ in _COLUMNS)
_ARRAYS = ", ".join(f"CAST(:{name} AS {kind}[])" for name, kind in _COLUMNS)
_UPSERT = text(
    f"INSERT INTO psp_txn (provider, {_NAMES}, read_at, state, suspended_minor)"
    f" SELECT :provider, {_NAMES}, :now, 'open', 0 FROM unnest({_ARRAYS}) AS n ({_NAMES})"
    " ON CONFLICT (provider, id) DO UPDATE SET available_on = excluded.available_on,"
    " read_at = excluded.read_at WHERE psp_txn.available_on <> excluded.available_on"
    " RETURNING xmax = 0 AS is_new"
)


@dataclass(frozen=True, slots=True)
class Read:
    """``since`` None is from the provider's beginning; ``rows`` met, ``new`` of them never met before."""

    since: datetime | None
    until: datetime
    rows: int
    new: int


async def read_rows(
    db: Database,
    provider: ProviderRows,
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Read:
    """Everything since the last reading, or the window asked for, which leaves the cursor alone; nothing from before
    reconciliation starts (opening.py).

    Times of the provider are whole seconds: everything up to and including ``now``'s is read.
    """
    name, end = provider.name, until or now.replace(microsecond=0) + timedelta(seconds=1)
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_OPEN, {"provider": name})
        cursor = (await session.execute(_CURSOR, {"provider": name})).one()
    on_demand = since is not None or until is not None
    start = since if on_demand else (cursor.rows_to - OVERLAP if cursor.rows_to else None)
    if cursor.starts_at is not None:
        start = max(start or cursor.starts_at, cursor.starts_at)
    rows = new = 0
    for begin, stop in _windows(start, end):
        met, first_met = await _read_window(db, provider, begin, stop, now)
        rows, new = rows + met, new + first_met
        if not on_demand:
            async with db.unit_of_work(SYSTEM) as session:
                await session.execute(_ADVANCE, {"provider": name, "rows_to": stop})
    return Read(start, end, rows, new)


async def read_until_still(
    db: Database,
    provider: ProviderRows,
    *,
    now: datetime,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[Read, Balance | None]:
    """The rows, and a balance that did not move while they were read; None when it would not stand still."""
    read = await read_rows(db, provider, now=now, since=since, until=until)
    rows, new = read.rows, read.new
    before = await provider.balance()
    for _ in range(STANDS_STILL):
        # What came between is read again: the overlap makes that cheap, the ids make it harmless.
        again = await read_rows(db, provider, now=now)
        new += again.new
        after = await provider.balance()
        if after == before:
            return Read(read.since, read.until, rows + again.new, new), before
        before = after
    return Read(read.since, read.until, rows, new), None


def _windows(start: datetime | None, end: datetime) -> list[tuple[datetime | None, datetime]]:
    """One window from the beginning when nobody knows when that was, else a day each."""
    if start is None:
        return [(None, end)]
    windows: list[tuple[datetime | None, datetime]] = []
    while start < end:
        stop = min(start + WINDOW, end)
        windows.append((start, stop))
        start = stop
    return windows


async def _read_window(
    db: Database, provider: ProviderRows, begin: datetime | None, stop: datetime, now: datetime
) -> tuple[int, int]:
    rows = new = 0
    page: list[Row] = []
    async for row in provider.rows(begin, stop):
        page.append(row)
        if len(page) == ROWS_AT_ONCE:
            rows, new, page = rows + len(page), new + await keep_rows(db, provider.name, page, now), []
    return rows + len(page), new + await keep_rows(db, provider.name, page, now)


async def keep_rows(db: Database, provider: str, rows: Sequence[Row], now: datetime) -> int:
    """Upsert one page; how many rows nobody had met before. The same row twice in a page counts once."""
    if not rows:
        return 0
    records = [_record(row) for row in {row.id: row for row in rows}.values()]
    columns: dict[str, Any] = {name: [record[name] for record in records] for name, _ in _COLUMNS}
    async with db.unit_of_work(SYSTEM) as session:
        kept = await session.execute(_UPSERT, {"provider": provider, "now": now, **columns})
        return sum(row.is_new for row in kept)


def _record(row: Row) -> dict[str, Any]:
    return {
        "id": row.id, "type": row.type, "reporting_category": row.reporting_category,
        "source_id": row.source_id, "ref": row.source_id or row.id,
        "inward": (row.amount_minor or row.net_minor) > 0, "amount_minor": row.amount_minor,
        "fee_minor": row.fee_minor, "net_minor": row.net_minor, "currency": row.currency,
        "exchange_rate": row.exchange_rate, "created_at": row.created_at, "available_on": row.available_on,
    }  # fmt: skip
