"""Sweeps of the outbox itself: what the broker lost goes out again, what is long done is forgotten."""

from __future__ import annotations

from core.actor import SYSTEM
from core.events import registered
from infra import outbox
from infra.db.session import Database
from services.worker.subscriptions import SUBSCRIPTIONS

PATIENCE_S = 120.0


async def republish_lost(db: Database, *, patience_s: float = PATIENCE_S) -> int:
    """Returns how many messages were looked at; those done are never looked at again."""
    handlers = {name: len(SUBSCRIPTIONS.get(kind, ())) for name, kind in registered().items()}
    async with db.unit_of_work(SYSTEM) as session:
        return sum(await outbox.republish(session, handlers, patience_s=patience_s))


async def forget_done(db: Database) -> int:
    async with db.unit_of_work(SYSTEM) as session:
        return await outbox.forget(session)
