"""A worker is killed at a chosen point: the next call, its answer, a commit, or the moment after it.

``Killed`` is no ``Exception``: nothing in the product may catch it, as nothing catches SIGKILL. The transaction it
cuts is undone by dropping its connection. At the same points PostgreSQL itself can die, or another worker go on.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from core.actor import Actor
from infra.db.session import Database, driver_connection
from infra.payments.gateway import PaymentGateway
from infra.payments.sharing import SharingRail

_PATIENCE_MS = 30_000
_END = text("SELECT pg_terminate_backend(:pid, :patience)")


class Killed(BaseException):
    """``args[0]`` says where."""


class CallInsideTransaction(AssertionError):
    """The provider was called while a transaction was open: money.md forbids it, whatever comes of it."""


@dataclass(slots=True)
class Course:
    """One worker's way: the points it has left, what happens at the last one, and who is asked before each."""

    left: int = 0
    at_the_last: Callable[[str], Awaitable[None]] | None = None
    """Instead of killing the worker."""
    open_transactions: int = 0
    pause: Callable[[], Awaitable[None]] | None = None


class KillSwitch:
    """Counts the points a worker passes and cuts it at the one it was set to. Each of several workers has its own
    count, if it runs inside ``course``."""

    def __init__(self) -> None:
        self._own = Course()
        self._others: ContextVar[Course] = ContextVar("course", default=self._own)

    @property
    def now(self) -> Course:
        return self._others.get()

    @contextmanager
    def course(self, pause: Callable[[], Awaitable[None]]) -> Iterator[Course]:
        """A worker beside others: ``pause`` returns when it is its turn again."""
        course = Course(pause=pause)
        token = self._others.set(course)
        try:
            yield course
        finally:
            self._others.reset(token)

    def set(self, points: int, instead: Callable[[str], Awaitable[None]] | None = None) -> None:
        """Cut at the ``points``-th point from now, or do something else there; 0: never."""
        self.now.left, self.now.at_the_last = points, instead

    async def point(self, where: str) -> None:
        await self.give_way()
        course = self.now
        if not course.left:
            return
        course.left -= 1
        if course.left:
            return
        if course.at_the_last is None:
            raise Killed(where)
        await course.at_the_last(where)

    async def give_way(self) -> None:
        if self.now.pause is not None:
            await self.now.pause()


class KillableDatabase(Database):
    """Units of work that can be cut right before and right after their commit. Nobody is woken: the simulation
    carries the messages.

    Whoever has let go of locks gives way before it does anything else: those that waited for them go on first.
    """

    def __init__(self, engine: AsyncEngine, switch: KillSwitch) -> None:
        super().__init__(engine)
        self._switch = switch

    @asynccontextmanager
    async def unit_of_work(self, actor: Actor) -> AsyncIterator[AsyncSession]:
        self._switch.now.open_transactions += 1
        try:
            async with super().reading(actor) as session:
                session.autoflush = True
                try:
                    yield session
                    await self._switch.point("before the commit")
                    await session.commit()
                except Killed:
                    await self._drop(session)
                    raise
        except (Exception, Killed):
            await self._switch.give_way()
            raise
        finally:
            self._switch.now.open_transactions -= 1
        await self._switch.point("after the commit")

    @asynccontextmanager
    async def reading(self, actor: Actor) -> AsyncIterator[AsyncSession]:
        async with super().reading(actor) as session:
            yield session
        await self._switch.give_way()

    async def _drop(self, session: AsyncSession) -> None:
        """The connection is lost with its transaction, and the server has noticed when this returns: how long it
        would take to, with the locks and the snapshot still held, is nothing that a seed could say."""
        pid = (await driver_connection(session)).get_server_pid()
        await session.invalidate()
        async with self.engine.connect() as another:
            await another.execute(_END, {"pid": pid, "patience": _PATIENCE_MS})


class _Killable:
    def __init__(self, gateway: PaymentGateway | SharingRail, switch: KillSwitch) -> None:
        self._gateway, self._switch = gateway, switch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._gateway, name)
        return self._cut(name, found) if inspect.iscoroutinefunction(found) else found

    def _cut(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def killable(*args: Any, **named: Any) -> Any:
            if self._switch.now.open_transactions:
                raise CallInsideTransaction(name)
            await self._switch.point(f"before {name}")
            answer = await call(*args, **named)
            await self._switch.point(f"after {name}")
            return answer

        return killable


def killable_rail(rail: SharingRail, switch: KillSwitch) -> SharingRail:
    """The same for the rail that shares payments itself."""
    return cast("SharingRail", _Killable(rail, switch))


def killable_gateway(gateway: PaymentGateway, switch: KillSwitch) -> PaymentGateway:
    """The gateway with a point before every call and one after it, before anybody learns the answer."""
    return cast("PaymentGateway", _Killable(gateway, switch))
