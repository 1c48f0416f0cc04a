"""Engine, units of work and reading sessions.

Every transaction starts by telling PostgreSQL who acts; row-level security (migration 0001) reads it. A
service never commits: the caller opens ``unit_of_work`` and the block's end is the commit.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from core.actor import Actor
from infra.db.wakeup import Wakeup
from infra.observability.context import request_id

_WHO = text(
    "SELECT set_config('lianyu.kind', :kind, true), set_config('lianyu.tenant', :tenant, true),"
    " set_config('lianyu.actor', :actor, true), set_config('lianyu.request', :request, true)"
)
RECORDED = "outbox.recorded"
"""Set in ``session.info`` by ``outbox.record``: this transaction has something for the relay."""


def async_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+asyncpg://", 1)


def make_engine(
    url: str, *, pool_size: int = 10, pre_ping: bool = False, patience_s: float = 10
) -> AsyncEngine:
    """An engine for the application role, with at most twice ``pool_size`` connections; whoever finds none free waits
    for one up to ``patience_s`` and is refused then.

    Statements are prepared once per connection and reused. ``pre_ping`` asks a connection whether it lives before each
    use, one round trip more; without it, the first to use one that was cut is told so.
    """
    return create_async_engine(
        async_url(url),
        # All of them are kept: one that is opened for a peak and closed after it costs more than its work
        # (a password check, the driver's types, every statement prepared anew).
        pool_size=2 * pool_size,
        max_overflow=0,
        # The one that was used last has its statements prepared; taken in turn, few of them would.
        pool_use_lifo=True,
        pool_timeout=patience_s,
        pool_pre_ping=pre_ping,
        pool_recycle=1800,
        hide_parameters=True,  # an error names its statement, never the e-mail address in it
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"server_settings": {"application_name": "lianyu"}, "timeout": 10},
    )


class Database:
    """What the rest of the house gets: sessions that know who acts."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._wakeup = Wakeup(engine)

    @asynccontextmanager
    async def unit_of_work(self, actor: Actor) -> AsyncIterator[AsyncSession]:
        """One transaction that commits when the block ends, and rolls back when it raises."""
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            await _introduce(session, actor)
            yield session
            await session.commit()
            if session.info.get(RECORDED):
                self._wakeup.ring()

    @asynccontextmanager
    async def reading(self, actor: Actor) -> AsyncIterator[AsyncSession]:
        """A transaction for reads; whatever it wrote is rolled back."""
        async with AsyncSession(self.engine, expire_on_commit=False, autoflush=False) as session:
            await _introduce(session, actor)
            yield session

    async def close(self) -> None:
        await self._wakeup.close()
        await self.engine.dispose()


async def _introduce(session: AsyncSession, actor: Actor) -> None:
    tenant = actor.tenant_id.hex if actor.tenant_id else ""
    await session.execute(
        _WHO, {"kind": actor.kind.value, "tenant": tenant, "actor": str(actor), "request": request_id()}
    )


async def driver_connection(connection: AsyncConnection | AsyncSession) -> asyncpg.Connection[Any]:
    """The asyncpg connection under a session, inside its transaction: for COPY and hot statements."""
    if isinstance(connection, AsyncSession):
        connection = await connection.connection()
    raw = await connection.get_raw_connection()
    return cast("asyncpg.Connection[Any]", raw.driver_connection)
