"""The place a replay has reached, kept in the transaction of the work that reached it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.errors import Conflict

SOURCE = "olist"
_FIND = text(
    "SELECT digest, stage, position, clock_at, elapsed_ms FROM replay_progress WHERE source = :source"
)
_PUT = text(
    "INSERT INTO replay_progress (source, digest, stage, position, clock_at, elapsed_ms)"
    " VALUES (:source, :digest, :stage, :position, :clock_at, :elapsed_ms)"
    " ON CONFLICT (source) DO UPDATE SET stage = excluded.stage, position = excluded.position,"
    " clock_at = excluded.clock_at, elapsed_ms = excluded.elapsed_ms"
)
_PUT_FILE = text("INSERT INTO replay_files (source, file, rows) VALUES (:source, :file, :rows)")


class Stage(StrEnum):
    """In the order they are done."""

    CATALOGUE = "catalogue"
    SELLERS = "sellers"
    ORDERS = "orders"
    DONE = "done"


class OtherReplayHere(Conflict):
    """The database holds a replay of other files (or another limit)."""

    code = "OTHER_REPLAY_HERE"


@dataclass(slots=True)
class Place:
    """``position`` counts what of ``stage`` is done: sellers, or happenings of the timeline."""

    digest: str
    stage: Stage
    position: int
    clock_at: datetime | None
    elapsed_ms: int


async def find_place(session: AsyncSession) -> Place | None:
    row = (await session.execute(_FIND, {"source": SOURCE})).first()
    if row is None:
        return None
    return Place(row.digest, Stage(row.stage), row.position, row.clock_at, row.elapsed_ms)


async def keep_place(session: AsyncSession, place: Place) -> None:
    values = {
        "source": SOURCE, "digest": place.digest, "stage": place.stage.value, "position": place.position,
        "clock_at": place.clock_at, "elapsed_ms": place.elapsed_ms,
    }  # fmt: skip
    await session.execute(_PUT, values)


async def keep_row_counts(session: AsyncSession, rows: Mapping[str, int]) -> None:
    counted = [{"source": SOURCE, "file": file, "rows": count} for file, count in sorted(rows.items())]
    await session.execute(_PUT_FILE, counted)
