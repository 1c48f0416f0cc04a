"""How far a sweep has looked, and that only one looks at a time."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_TURN = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:sweep, 23))")
_LOOKED = text("SELECT looked_until FROM fraud_progress WHERE sweep = :sweep")
_LOOK = text(
    "INSERT INTO fraud_progress (sweep, looked_until) VALUES (:sweep, :until)"
    " ON CONFLICT (sweep) DO UPDATE SET looked_until = excluded.looked_until"
)


async def take_turn(session: AsyncSession, sweep: str) -> bool:
    """False while another transaction looks. Whoever comes second finds it done."""
    return bool(await session.scalar(_TURN, {"sweep": sweep}))


async def looked_until(session: AsyncSession, sweep: str) -> datetime | None:
    found: datetime | None = await session.scalar(_LOOKED, {"sweep": sweep})
    return found


async def look(session: AsyncSession, sweep: str, until: datetime) -> None:
    await session.execute(_LOOK, {"sweep": sweep, "until": until})
