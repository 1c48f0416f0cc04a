"""A worker is killed at a chosen point: the next call, its answer, a commit, or the moment after it.

``Killed`` is no ``Exception``: nothing in the product may catch it, as nothing catches SIGKILL. The transaction it
cuts is undone by dropping its connection.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from core.actor import Actor
from infra.db.session import Database, driver_connection
from infra.payments.gateway import PaymentGateway

_PATIENCE_MS = 30_000
_END = text("SELECT pg_terminate_backend(:pid, :patience)")


class Killed(BaseException):
    """``args[0]`` says where."""


class CallInsideTransaction(AssertionError):
    """The provider was called while a transaction was open: money.md forbids it, whatever comes of it."""


class KillSwitch:
    """Counts the points a worker passes and cuts it at the one it was set to."""

    def __init__(self) -> None:
        self._left = 0
        self.open_transactions = 0

    def set(self, points: int) -> None:
        """Cut at the ``points``-th point from now; 0: never."""
        self._left = points

    def point(self, where: str) -> None:
        if self._left:
            self._left -= 1
            if not self._left:
                raise Killed(where)


class KillableDatabase(Database):
    """Units of work that can be cut right before and right after their commit. Nobody is woken: the simulation
    carries the messages."""

    def __init__(self, engine: AsyncEngine, switch: KillSwitch) -> None:
        super().__init__(engine)
        self._switch = switch

    @asynccontextmanager
    async def unit_of_work(self, actor: Actor) -> AsyncIterator[AsyncSession]:
        self._switch.open_transactions += 1
        try:
            async with super().reading(actor) as session:
                session.autoflush = True
                try:
                    yield session
                    self._switch.point("before the commit")
                    await session.commit()
                except Killed:
                    await self._drop(session)
                    raise
        finally:
            self._switch.open_transactions -= 1
        self._switch.point("after the commit")

    async def _drop(self, session: AsyncSession) -> None:
        """The connection is lost with its transaction, and the server has noticed when this returns: how long it
        would take to, with the locks and the snapshot still held, is nothing that a seed could say."""
        pid = (await driver_connection(session)).get_server_pid()
        await session.invalidate()
        async with self.engine.connect() as another:
            await another.execute(_END, {"pid": pid, "patience": _PATIENCE_MS})


class _Killable:
    def __init__(self, gateway: PaymentGateway, switch: KillSwitch) -> None:
        self._gateway, self._switch = gateway, switch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._gateway, name)
        return self._cut(name, found) if inspect.iscoroutinefunction(found) else found

    def _cut(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def killable(*args: Any, **named: Any) -> Any:
            if self._switch.open_transactions:
                raise CallInsideTransaction(name)
            self._switch.point(f"before {name}")
            answer = await call(*args, **named)
            self._switch.point(f"after {name}")
            return answer

        return killable


def killable_gateway(gateway: PaymentGateway, switch: KillSwitch) -> PaymentGateway:
    """The gateway with a point before every call and one after it, before anybody learns the answer."""
    return cast("PaymentGateway", _Killable(gateway, switch))
