"""The place a replay has reached, kept in the transaction of the work that reached it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CursorResult, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.errors import Conflict

SOURCE = "olist"
_ROW = "SELECT digest, stage, position, clock_at, elapsed_ms FROM replay_progress WHERE source = :source"
_FIND, _FIND_SETTLED = text(_ROW), text(f"{_ROW} FOR UPDATE")
_BEGIN = text(
    "INSERT INTO replay_progress (source, digest, stage, position, clock_at, elapsed_ms)"
    " VALUES (:source, :digest, :stage, :position, :clock_at, :elapsed_ms) ON CONFLICT DO NOTHING"
)
_MOVE = text(
    "UPDATE replay_progress SET stage = :stage, position = :position, clock_at = :clock_at, elapsed_ms = :elapsed_ms"
    " WHERE source = :source AND digest = :digest AND (stage, position) = (:stage_before, :position_before)"
)
_PUT_FILE = text("INSERT INTO replay_files (source, file, rows) VALUES (:source, :file, :rows)")


class Stage(StrEnum):
    """In the order they are done."""

    CATALOGUE = "catalogue"
    SELLERS = "sellers"
    ORDERS = "orders"
    DONE = "done"


class OtherReplayHere(Conflict):
    """The database holds a replay of other files (or another limit), or somebody else goes on with it."""

    code = "OTHER_REPLAY_HERE"


@dataclass(frozen=True, slots=True)
class Place:
    """``position`` counts what of ``stage`` is done: sellers, or happenings of the timeline."""

    digest: str
    stage: Stage
    position: int
    clock_at: datetime | None
    elapsed_ms: int


async def find_place(session: AsyncSession, *, settled: bool = False) -> Place | None:
    """``settled``: the last commit of a run that was killed may still be under way, and is waited for."""
    row = (await session.execute(_FIND_SETTLED if settled else _FIND, {"source": SOURCE})).first()
    if row is None:
        return None
    return Place(row.digest, Stage(row.stage), row.position, row.clock_at, row.elapsed_ms)


async def begin(session: AsyncSession, place: Place) -> None:
    """Raises ``OtherReplayHere`` when somebody else has begun."""
    await _only_one(session, _BEGIN, _values(place))


async def move(session: AsyncSession, before: Place, after: Place) -> None:
    """Raises ``OtherReplayHere`` when somebody else has moved on from there. Whoever asks first holds the place until
    the end of its transaction: ask before the work."""
    where = {"stage_before": before.stage.value, "position_before": before.position}
    await _only_one(session, _MOVE, _values(after) | where)


async def _only_one(session: AsyncSession, statement: TextClause, values: dict[str, Any]) -> None:
    done = await session.execute(statement, values)
    assert isinstance(done, CursorResult)
    if done.rowcount != 1:
        raise OtherReplayHere("another replay is under way in this database; let it finish, or end it first")


def _values(place: Place) -> dict[str, Any]:
    return {
        "source": SOURCE, "digest": place.digest, "stage": place.stage.value, "position": place.position,
        "clock_at": place.clock_at, "elapsed_ms": place.elapsed_ms,
    }  # fmt: skip


async def keep_row_counts(session: AsyncSession, rows: Mapping[str, int]) -> None:
    counted = [{"source": SOURCE, "file": file, "rows": count} for file, count in sorted(rows.items())]
    await session.execute(_PUT_FILE, counted)
