"""Wakes the relay after a commit.

``NOTIFY`` inside a transaction takes a database-wide lock until that commit is on disk, which queues every
commit of the platform behind the others. So the bell is rung afterwards, in a transaction that writes
nothing, at most once per few milliseconds and process. A bell lost in a crash costs one poll of the relay.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

_NOTIFY = text("NOTIFY outbox")
_COALESCE_S = 0.002


class Wakeup:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._again = False

    def ring(self) -> None:
        """Never waits and never fails: the relay polls as well."""
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._notify())

    async def _notify(self) -> None:
        while self._again:
            self._again = False
            try:
                async with self._engine.connect() as connection:
                    await connection.execution_options(isolation_level="AUTOCOMMIT")
                    await connection.execute(_NOTIFY)
            except (SQLAlchemyError, OSError):
                return
            await asyncio.sleep(_COALESCE_S)

    async def close(self) -> None:
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=1)
