"""Every click on disk before its redirect leaves: in the database, many per commit, or in the spool.

Clicks that arrive while one batch commits make the next batch, so that load makes batches larger, not slower.
When the database does not answer, the batch and all that follow go to the spool; a prober reconnects and
replays. A batch that had committed although its answer was lost is replayed too: the touch id makes it once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import structlog

from marketplace.promotion.touches.clicks import Click, insert_clicks
from services.edge.metrics import Metrics
from services.edge.spool import Claimed, Spool

Connect = Callable[[], Awaitable["asyncpg.Connection[Any]"]]
AWAY = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a database that is away, starting or shutting down raises; the last when it goes in the midst of a message."""

PATIENCE_S = 1.0
_BAD_ROW = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
_LARGEST_BATCH = 2000
_log = structlog.get_logger("lianyu.edge")


class ClickLog:
    """``patience_s`` is how long one batch may wait for the database before it goes to the spool."""

    def __init__(
        self,
        connect: Connect,
        spool: Spool,
        metrics: Metrics,
        *,
        patience_s: float = PATIENCE_S,
        retry_s: float = 0.25,
    ) -> None:
        self._connect, self._spool, self._metrics = connect, spool, metrics
        self._patience_s, self._retry_s = patience_s, retry_s
        self._connection: asyncpg.Connection[Any] | None = None
        self._waiting: list[tuple[Click, asyncio.Future[None]]] = []
        self._pending: set[asyncio.Future[None]] = set()
        self._spooling = asyncio.Lock()
        self._work = asyncio.Event()
        self._lost = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def database_up(self) -> bool:
        return self._connection is not None

    async def start(self) -> None:
        try:
            await self._reconnect()
        except AWAY as error:
            _log.warning("database away, clicks go to the spool", error=repr(error))
        self._lost.set()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._probe())]

    async def record(self, click: Click) -> None:
        """Returns when the click is durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((click, done))
        self._pending.add(done)
        done.add_done_callback(self._pending.discard)
        self._work.set()
        await done

    async def close(self) -> None:
        """Stores what still waits, then lets go of the database."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=5)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._spool.rotate()
        await self._disconnect()

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:_LARGEST_BATCH], self._waiting[_LARGEST_BATCH:]
                try:
                    await self._store([click for click, _ in batch])
                except Exception as error:
                    # Neither database nor disk: the visitor is told. Whatever it was, the next batch is tried:
                    # a writer that died would leave every visitor waiting.
                    _log.error("clicks lost", clicks=len(batch), error=repr(error))
                    for _, done in batch:
                        if not done.done():
                            done.set_exception(ClickNotStored())
                    continue
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)

    async def _store(self, clicks: Sequence[Click]) -> None:
        connection = self._connection
        if connection is not None:
            try:
                async with asyncio.timeout(self._patience_s):
                    await insert_clicks(connection, clicks)
                self._metrics.stored.inc(len(clicks))
                return
            except Exception as error:
                # Whatever it is, the clicks are kept: the replay finds out what is wrong with which.
                _log.warning("database away, clicks go to the spool", error=repr(error))
                await self._disconnect()
        async with self._spooling:
            await asyncio.to_thread(self._spool.append, clicks)
        self._metrics.spooled.inc(len(clicks))
        self._lost.set()

    async def _probe(self) -> None:
        """While the database is away: try again. Once it is back: bring the spool home."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            while True:
                try:
                    if self._connection is None:
                        await self._reconnect()
                    await self._replay()
                    break
                except AWAY:
                    await asyncio.sleep(self._retry_s)
                except Exception as error:
                    # A prober that died would leave the spool where it is until the next start.
                    _log.error("the spool cannot be brought home", error=repr(error))
                    await asyncio.sleep(self._retry_s)

    async def _reconnect(self) -> None:
        self._connection = await self._connect()
        self._metrics.database_up.set(1)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._metrics.database_up.set(0)
        if connection is not None:
            connection.terminate()

    async def _replay(self) -> None:
        """Bring every file home over a connection of its own; live clicks go on meanwhile."""
        async with self._spooling:
            self._spool.rotate()
        paths = await asyncio.to_thread(self._spool.waiting)
        if not paths:
            return
        connection = await self._connect()
        try:
            for path in paths:
                claimed = await asyncio.to_thread(Claimed.claim, path)
                if claimed is not None:
                    await self._replay_file(connection, claimed)
        finally:
            connection.terminate()

    async def _replay_file(self, connection: asyncpg.Connection[Any], claimed: Claimed) -> None:
        done = False
        try:
            clicks = await asyncio.to_thread(claimed.clicks)
            for start in range(0, len(clicks), _LARGEST_BATCH):
                await self._replay_batch(connection, clicks[start : start + _LARGEST_BATCH])
            done = True
        finally:
            claimed.release(done=done)

    async def _replay_batch(self, connection: asyncpg.Connection[Any], clicks: Sequence[Click]) -> None:
        try:
            new = await insert_clicks(connection, clicks)
        except _BAD_ROW:
            if len(clicks) == 1:
                _log.error("the database refuses a click", touch=str(clicks[0].id))
                return
            half = len(clicks) // 2
            await self._replay_batch(connection, clicks[:half])
            await self._replay_batch(connection, clicks[half:])
            return
        self._metrics.replayed.inc(new)


class ClickNotStored(Exception):
    """Nothing took the click: no redirect may claim it was counted."""
