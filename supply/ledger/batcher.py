"""Group commit inside one process: journals of many coroutines, posted together, one commit for all of them.

While a flush is at the database the next one gathers; under load a flush is as large as what came meanwhile, and
a lone submitter waits for nobody. A submitter hears of its journal only after the commit, so a process that dies
has told nobody of anything that is not in the books; whoever was not answered submits again under the same key.

For posters that do nothing else in their transaction: webhook intake, jobs. Whoever also writes rows of its own
posts in its own unit of work (``service.post``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from asyncpg import InterfaceError, PostgresConnectionError
from sqlalchemy.exc import DBAPIError

from core.clock import Clock
from core.errors import Conflict
from infra.db.session import Database
from supply.ledger import service
from supply.ledger.journal import Journal
from supply.ledger.service import Outcome


class BatcherBusy(Conflict):
    """The queue stayed full for as long as a submitter waits. Nothing was posted: come again later."""

    code = "LEDGER_BUSY"


class BatcherClosed(Conflict):
    """It takes no more journals. Nothing was posted."""

    code = "LEDGER_CLOSED"


@dataclass(frozen=True, slots=True)
class Limits:
    """At most ``queue`` journals wait, for at most ``patience_s`` to get in; a flush takes at most ``batch`` of
    them, gathers for at most ``linger_s``, and ``flushes`` of them are at the database at once."""

    queue: int = 4096
    patience_s: float = 5.0
    batch: int = 128
    linger_s: float = 0.0
    flushes: int = 2


@dataclass(slots=True)
class _Waiting:
    journal: Journal
    answer: asyncio.Future[Outcome]


class PostingBatcher:
    """Belongs to one event loop. ``close`` (or leaving ``async with``) posts what was accepted and ends."""

    def __init__(self, db: Database, clock: Clock, *, limits: Limits | None = None) -> None:
        self._db, self._clock = db, clock
        self._limits = limits or Limits()
        self._places = asyncio.Semaphore(self._limits.queue)
        self._queue: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._full = asyncio.Event()
        self._closed = False
        self._flushers: list[asyncio.Task[None]] = []

    @property
    def waiting(self) -> int:
        """How many journals wait for a flush."""
        return len(self._queue)

    async def submit(self, journal: Journal) -> Outcome:
        """What became of the journal, once that is committed: posted, replayed, or the error it was refused with.

        Raises ``BatcherBusy`` and ``BatcherClosed``, and whatever keeps the database from answering; then it is
        unknown whether it was posted, and submitting it again is safe. So it is after a cancellation.
        """
        await self._enter()
        waiting = _Waiting(journal, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        if len(self._queue) >= self._limits.batch:
            self._full.set()
        return await waiting.answer

    async def close(self) -> None:
        """Post what was accepted, then end. Whoever still waits for a place is told ``BatcherClosed``."""
        self._closed = True
        self._arrived.set()
        self._full.set()
        await asyncio.gather(*self._flushers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _enter(self) -> None:
        if not self._closed and self._places.locked():
            try:
                async with asyncio.timeout(self._limits.patience_s):
                    await self._places.acquire()
            except TimeoutError as full:
                raise BatcherBusy(f"{self._limits.queue} journals wait to be posted") from full
        elif not self._closed:
            await self._places.acquire()
        if self._closed:
            raise BatcherClosed("the batcher was closed")
        while len(self._flushers) < self._limits.flushes:
            self._flushers.append(asyncio.create_task(self._flush_until_closed()))

    async def _flush_until_closed(self) -> None:
        while True:
            await self._gather()
            batch = self._take()
            if batch:
                await self._flush(batch)
            elif self._closed and not self._queue:
                return

    async def _gather(self) -> None:
        """Until there is something to flush, and then no longer than ``linger_s`` for more."""
        if not self._queue and not self._closed:
            self._arrived.clear()
            await self._arrived.wait()
        if self._limits.linger_s and len(self._queue) < self._limits.batch and not self._closed:
            self._full.clear()
            try:
                async with asyncio.timeout(self._limits.linger_s):
                    await self._full.wait()
            except TimeoutError:
                return

    def _take(self) -> list[_Waiting]:
        """The oldest of the queue, without those whose submitter has gone."""
        batch: list[_Waiting] = []
        while self._queue and len(batch) < self._limits.batch:
            waiting = self._queue.popleft()
            self._places.release()
            if not waiting.answer.done():
                batch.append(waiting)
        return batch

    async def _flush(self, batch: Sequence[_Waiting]) -> None:
        try:
            outcomes = await self._post([waiting.journal for waiting in batch])
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.answer.cancel()
            raise
        except Exception:
            # Perhaps one of them is to blame, perhaps the commit was lost on its way back: alone, each is either
            # posted, found to be posted, or the one to blame.
            await self._flush_singly(batch)
        else:
            for waiting, outcome in zip(batch, outcomes, strict=True):
                _answer(waiting, outcome)

    async def _flush_singly(self, batch: Sequence[_Waiting]) -> None:
        unreachable: Exception | None = None
        for waiting in batch:
            try:
                if unreachable is None:
                    (outcome,) = await self._post([waiting.journal])
                    _answer(waiting, outcome)
                else:
                    _fail(waiting, unreachable)
            except asyncio.CancelledError:
                waiting.answer.cancel()
                raise
            except Exception as error:
                _fail(waiting, error)
                unreachable = error if _lost_the_database(error) else None

    async def _post(self, journals: Sequence[Journal]) -> list[Outcome]:
        return await service.post_committed(self._db, journals, now=self._clock.now())


def _answer(waiting: _Waiting, outcome: Outcome) -> None:
    if not waiting.answer.done():
        waiting.answer.set_result(outcome)


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


def _lost_the_database(error: Exception) -> bool:
    """Rather than the journal being at fault; also while the pool opens a connection."""
    return isinstance(error, OSError | InterfaceError | PostgresConnectionError | DBAPIError)
