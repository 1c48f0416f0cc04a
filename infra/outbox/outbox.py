"""Recording events, and reading them out in order for the relay."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.events import Event, to_body
from core.ids import MessageId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from infra.db.session import RECORDED
from infra.observability.context import request_id
from infra.outbox.models import OutboxMessage

CHANNEL = "outbox"
_TABLE = table_of(OutboxMessage)

# The relay's time is real: a frozen demo clock must not hold messages back, nor may a jump reorder them.
_CLAIM = text(
    "SELECT id, name, body, request_id FROM outbox WHERE published_at IS NULL AND available_at <= now()"
    " ORDER BY available_at, id LIMIT :batch FOR UPDATE SKIP LOCKED"
)
_PUBLISHED = text("UPDATE outbox SET published_at = now(), attempts = attempts + 1 WHERE id = ANY(:ids)")


_OLDEST = text(
    "SELECT coalesce(extract(epoch FROM now() - min(recorded_at)), 0)::float8 FROM outbox WHERE published_at IS NULL"
)


class Message(NamedTuple):
    id: MessageId
    name: str
    body: dict[str, Any]
    request_id: str


async def record(session: AsyncSession, *events: Event) -> None:
    """Write events into the caller's transaction. They leave after it commits, at least once."""
    if not events:
        return
    now = datetime.now(UTC)
    rows = [
        {
            "id": MessageId.new(), "name": e.name, "body": to_body(e), "request_id": request_id(),
            "recorded_at": now, "available_at": now, "attempts": 0,
        }
        for e in events
    ]  # fmt: skip
    await insert_rows(session, _TABLE, rows)
    session.info[RECORDED] = True


async def claim(session: AsyncSession, *, batch: int) -> Sequence[Message]:
    """The oldest unpublished messages, locked until the transaction ends; other relays skip them."""
    rows = await session.execute(_CLAIM, {"batch": batch})
    return [Message(MessageId.of(r.id), r.name, r.body, r.request_id) for r in rows]


async def mark_published(session: AsyncSession, messages: Sequence[Message]) -> None:
    await session.execute(_PUBLISHED, {"ids": [m.id for m in messages]})


async def oldest_age_s(session: AsyncSession) -> float:
    """How long the oldest message has waited for the relay; 0 when none does. Needs a SYSTEM session."""
    return float((await session.execute(_OLDEST)).scalar_one())
