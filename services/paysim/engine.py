"""One thread owns the database; waiting jobs share one durable commit.

Every job runs to its end alone, so handlers read like single-user code. Jobs that arrive while a commit
is being written wait together for the next one (group commit): an answer leaves only after the disk has
its effects, which is what makes ``kill -9`` lose nothing that was acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from core.clock import Clock
from services.paysim.config import PaysimConfig
from services.paysim.transaction import Caller, Tx

T = TypeVar("T")
Job = Callable[[Tx], Any]

MAX_BATCH = 256
IDEMPOTENCY_TTL_S = 24 * 3600
PRUNE_EVERY_S = 600


class Engine:
    """``on_due`` maps a kind of scheduled work to the function that does it when paysim's clock says so."""

    def __init__(
        self, config: PaysimConfig, clock: Clock, *, on_due: Mapping[str, Callable[[Tx, str], None]]
    ) -> None:
        self._config, self._clock, self._on_due = config, clock, on_due
        self._jobs: queue.SimpleQueue[tuple[Job, Future[Any]] | None] = queue.SimpleQueue()
        self._connection = _open(config.data_dir / "paysim.sqlite3")
        self._pruned_at = 0
        self._after_commit: Callable[[], None] = lambda: None
        self.tx = Tx(self._connection, config)
        self._thread = threading.Thread(target=self._work, name="paysim-engine", daemon=True)

    def start(self, *, on_deliveries: Callable[[], None]) -> None:
        """``on_deliveries`` is called on the loop's thread after commits that queued webhooks."""
        loop = asyncio.get_running_loop()
        self._after_commit = lambda: _call_on(loop, on_deliveries)
        self._thread.start()

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join(timeout=10)
        self._connection.close()

    async def run(self, job: Callable[[Tx], T]) -> T:
        """What ``job`` returned, once it is on disk. An exception of the job undoes the job alone."""
        done: Future[T] = Future()
        self._jobs.put((job, done))
        return await asyncio.wrap_future(done)

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch = [first]
            while len(batch) < MAX_BATCH:
                try:
                    following = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    self._jobs.put(None)
                    break
                batch.append(following)
            self._commit(batch)

    def _commit(self, batch: list[tuple[Job, Future[Any]]]) -> None:
        try:
            self.tx.begin(self._clock.now())
            self._catch_up()
            outcomes = [self._attempt(job) for job, _ in batch]
            queued = self.tx.commit()
        except BaseException as error:
            self.tx.abandon()
            for _, done in batch:
                done.set_exception(error)
            return
        for (_, done), (result, failure) in zip(batch, outcomes, strict=True):
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(result)
        if queued:
            self._after_commit()

    def _attempt(self, job: Job) -> tuple[Any, BaseException | None]:
        self.tx.caller = Caller()
        try:
            with self.tx.savepoint():
                return job(self.tx), None
        except Exception as error:
            return None, error

    def _catch_up(self) -> None:
        """Work that became due by paysim's clock, oldest first, before anything else sees the state."""
        tx = self.tx
        tx.caller = Caller()
        while tx.next_due is not None and tx.next_due <= tx.now:
            for kind, id in tx.take_due():
                self._on_due[kind](tx, id)
        self._on_due["after"](tx, "")
        if tx.now - self._pruned_at >= PRUNE_EVERY_S:
            self._pruned_at = tx.now
            tx.db.execute("DELETE FROM idempotency WHERE created <= ?", (tx.now - IDEMPOTENCY_TTL_S,))


def _call_on(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closing: the next start finds the queue
        loop.call_soon_threadsafe(work)


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA cache_size = -65536")
    connection.executescript((Path(__file__).parent / "schema.sql").read_text())
    return connection
