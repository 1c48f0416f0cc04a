"""Mutations that move money or stock run once per key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from graph.context import Context
from infra.db.idempotency import once


async def run_once(
    context: Context,
    *,
    operation: str,
    key: str,
    body: Any,
    run: Callable[[AsyncSession], Awaitable[dict[str, Any]]],
    as_actor: Actor | None = None,
) -> dict[str, Any]:
    """One unit of work (as ``as_actor``, by default the caller) whose answer is kept under the caller's key.

    Raises ``IdempotencyKeyReused``, ``IdempotencyKeyMissing`` and whatever ``run`` raises; then nothing is kept.
    """
    async with context.db.unit_of_work(as_actor or context.actor) as session:
        answer, _ = await once(
            session,
            context.actor,
            operation=operation,
            key=key,
            body=body,
            now=context.clock.now(),
            run=lambda: run(session),
        )
    return answer
