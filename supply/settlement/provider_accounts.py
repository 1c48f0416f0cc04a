"""Whose accounts at the provider we pay: a notice about any other account is not for us."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_OURS = text("SELECT EXISTS (SELECT FROM payees WHERE account_id = :account_id)")


async def is_ours(session: AsyncSession, account_id: str) -> bool:
    """Needs a SYSTEM session."""
    return bool((await session.execute(_OURS, {"account_id": account_id})).scalar_one())
