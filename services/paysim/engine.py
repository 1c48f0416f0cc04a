"""One database, one writer; waiting jobs share one durable commit.

Every job runs to its end alone on the event loop, so handlers read like single-user code. Only the commit
leaves the loop: while the disk writes, new jobs gather and go together next (group commit). An answer is
given only after its effects are on disk, which is what makes ``kill -9`` lose nothing that was acknowledged.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from core.clock import Clock
from services.paysim import events
from services.paysim.config import PaysimConfig
from services.paysim.transaction import Caller, Tx

T = TypeVar("T")
Job = Callable[[Tx], Any]
Waiting = tuple[Job, "asyncio.Future[Any]"]
Outcome = tuple[Any, Exception | None]

MAX_BATCH = 64
IDEMPOTENCY_TTL_S = 24 * 3600
EVENT_TTL_S = 30 * 86_400
"""Events can be fetched for 30 days, as at Stripe."""
PRUNE_EVERY_S = 600


class Engine:
    """``on_due`` maps a kind of scheduled work to the function that does it when paysim's clock says so;
    its entry ``after`` runs at the end of every commit's scheduled work."""

    def __init__(
        self, config: PaysimConfig, clock: Clock, *, on_due: Mapping[str, Callable[[Tx, str], None]]
    ) -> None:
        self._clock, self._on_due, self._durable = clock, on_due, config.durable
        self._connection = _open(config.data_dir / "paysim.sqlite3", durable=config.durable)
        self._waiting: deque[Waiting] = deque()
        self._working = asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="paysim-disk")
        self._pruned_at = 0
        self.tx = Tx(self._connection, config)

    async def work(self, *, on_deliveries: Callable[[], None]) -> None:
        """Runs until cancelled. ``on_deliveries`` is called after commits that queued webhooks."""
        while True:
            await self._working.wait()
            self._working.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
                # Shielded: a commit that has begun is seen through, even when the process is told to stop.
                if await asyncio.shield(self._settle(batch)):
                    on_deliveries()

    def close(self) -> None:
        self._disk.shutdown()
        self._connection.close()

    async def run(self, job: Callable[[Tx], T]) -> T:
        """What ``job`` returned, once it is on disk. An exception of the job undoes the job alone."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, done))
        self._working.set()
        return await done

    async def _settle(self, batch: list[Waiting]) -> bool:
        """Runs and commits a batch, then tells everybody; whether webhooks were queued."""
        before = self._connection.total_changes
        try:
            self.tx.begin(self._clock.now())
            self._catch_up()
            outcomes = [self._attempt(job) for job, _ in batch]
            if self._connection.total_changes == before or not self._durable:
                queued = self.tx.commit()
            else:
                queued = await asyncio.get_running_loop().run_in_executor(self._disk, self.tx.commit)
        except Exception as error:
            self.tx.abandon()
            outcomes, queued = [(None, error)] * len(batch), False
        for (_, done), (result, failure) in zip(batch, outcomes, strict=True):
            if done.done():
                continue  # the caller went away; the effects stay
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(result)
        return queued

    def _attempt(self, job: Job) -> Outcome:
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
            events.forget(tx, before=tx.now - EVENT_TTL_S)


def _open(path: Path, *, durable: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
    connection.execute("PRAGMA cache_size = -65536")
    # Savepoints keep their undo pages in a temporary file otherwise: a write per step for nothing.
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA wal_autocheckpoint = 4000")
    connection.executescript((Path(__file__).parent / "schema.sql").read_text())
    return connection
