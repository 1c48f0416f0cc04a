"""Delivery is at least once; the inbox makes each handler act once."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import MessageId

_INSERT = text(
    "INSERT INTO handled_messages (message_id, handler, handled_at) VALUES (:id, :handler, now())"
    " ON CONFLICT DO NOTHING RETURNING 1"
)


async def first_time(session: AsyncSession, message_id: MessageId, handler: str) -> bool:
    """Claim a message for a handler in its own transaction. False when it was handled before.

    A second worker with the same message waits here for the first to commit or roll back.
    """
    return (await session.execute(_INSERT, {"id": message_id, "handler": handler})).first() is not None
