"""Messages that a handler gave up on: looked at, and given a second chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import MessageId
from infra.db.session import RECORDED

_FAILED = text("""
SELECT f.message_id, o.name, f.handler, f.error, f.attempts, f.failed_at
FROM failed_messages f LEFT JOIN outbox o ON o.id = f.message_id
ORDER BY f.failed_at, f.message_id, f.handler LIMIT :limit
""")
# The row goes with the second chance: a handler that fails again writes a new one.
_REPLAY = text("""
WITH chosen AS (
    SELECT message_id, handler FROM failed_messages
    WHERE (CAST(:ids AS uuid[]) IS NULL OR message_id = ANY (CAST(:ids AS uuid[])))
      AND EXISTS (SELECT FROM outbox o WHERE o.id = message_id)
    FOR UPDATE
), forgiven AS (
    DELETE FROM failed_messages f USING chosen c WHERE f.message_id = c.message_id AND f.handler = c.handler
), sent AS (
    UPDATE outbox SET published_at = NULL, handled_at = NULL, available_at = now(), attempts = 0
    WHERE id IN (SELECT message_id FROM chosen)
)
SELECT count(DISTINCT message_id) FROM chosen
""")


@dataclass(frozen=True, slots=True)
class Failure:
    """A handler that gave a message up. ``event``: empty when the message itself is gone."""

    message_id: MessageId
    event: str
    handler: str
    error: str
    attempts: int
    failed_at: datetime


async def failures(session: AsyncSession, *, limit: int = 1_000) -> list[Failure]:
    """What was given up, oldest first. Needs a SYSTEM session."""
    rows = await session.execute(_FAILED, {"limit": limit})
    return [
        Failure(MessageId.of(r.message_id), r.name or "", r.handler, r.error, r.attempts, r.failed_at)
        for r in rows
    ]


async def replay(session: AsyncSession, message_ids: Sequence[MessageId] | None = None) -> int:
    """Publish given-up messages again, all or those named; returns how many.

    Handlers that did theirs skip the message by the inbox. Needs a SYSTEM session.
    """
    chosen = None if message_ids is None else list(message_ids)
    count = int((await session.execute(_REPLAY, {"ids": chosen})).scalar_one())
    session.info[RECORDED] = True
    return count
