"""money.md §6: PostgreSQL killed while posting: whatever anybody was told of is there, and the books add up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.migrate import upgrade
from infra.db.session import Database, make_engine
from infra.embedded.postgres import APPLICATION, EmbeddedPostgres
from infra.embedded.process import processes_in, wait_until
from supply.ledger import queries, service
from supply.ledger.batcher import Limits, PostingBatcher
from supply.ledger.journal import Journal
from tests.factories.ledger import NOON, available, earning, moving, pending, provider
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.waiting import until

PARTIES = 12
# Durable, unlike the other tests' server: that is what is tested.
SETTINGS = {"shared_buffers": "64MB", "fsync": "on", "synchronous_commit": "on", "checkpoint_timeout": "30s"}
_NEGATIVE = text("SELECT count(*) FROM ledger_balances WHERE strict AND posted_minor < 0")
_KEYS = text("SELECT idem FROM ledger_journals")


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    directory = Path(tempfile.mkdtemp(prefix="lianyu-crash-"))
    directory.chmod(0o755)
    running = EmbeddedPostgres(directory / "postgres", settings=SETTINGS)
    running.start()
    upgrade(running.url(), "0002")
    yield running
    running.remove()
    shutil.rmtree(directory, ignore_errors=True)


def kill(server: EmbeddedPostgres) -> None:
    """The postmaster and every backend, at once, as a power cut does; nothing is flushed that was not."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    for process in processes_in(server.cluster, "postgres"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.running, timeout_s=PATIENCE_S)


def drawn(dice: random.Random, key: str) -> Journal:
    """Earnings, and moves of which some overdraw."""
    source, target = (f"p{dice.randrange(PARTIES)}" for _ in range(2))
    if dice.random() < 0.6:
        return earning(key, pending(source), dice.randrange(1, 500))
    return moving(key, pending(source), available(target), dice.randrange(1, 900))


async def check(db: Database, acknowledged: set[str]) -> set[str]:
    """Invariants 1 and 2 and that nothing acknowledged is missing; the keys that are there."""
    async with db.reading(SYSTEM) as session:
        assert await queries.unbalanced_journals(session) == 0
        assert await queries.mismatched_balances(session) == 0
        assert sum(line.debit_minor for line in await queries.trial_balance(session)) == 0
        assert (await session.execute(_NEGATIVE)).scalar_one() == 0
        found = {row.idem for row in await session.execute(_KEYS)}
    assert acknowledged <= found
    return found


async def test_postgresql_killed_during_load(server: EmbeddedPostgres, clock: FixedClock) -> None:
    db = Database(make_engine(server.url(role=APPLICATION), pool_size=8))
    posted: set[str] = set()
    refused: set[str] = set()
    stop = asyncio.Event()

    async def more(journals: int) -> None:
        """Until so many more were posted: the next crash meets the load however slow the machine is."""
        goal = len(posted) + journals

        async def reached() -> bool:
            return len(posted) >= goal

        await until(reached, "the load does not go on", every_s=0.02)

    async def submitter(number: int, batcher: PostingBatcher) -> None:
        dice = random.Random(number)
        turn = 0
        while not stop.is_set():
            journal = drawn(dice, f"k{number}-{turn}")
            turn += 1
            while not stop.is_set():
                try:
                    if number % 4:
                        outcome = await batcher.submit(journal)
                    else:
                        async with db.unit_of_work(SYSTEM) as session:
                            (outcome,) = await service.post_many(session, [journal], now=NOON)
                except Exception:
                    await asyncio.sleep(0.05)  # unknown: the same key again
                    continue
                (refused if outcome.error else posted).add(journal.key)
                break

    async def roller() -> None:
        while not stop.is_set():
            with contextlib.suppress(Exception):
                await service.roll_up(db)
            await asyncio.sleep(0.05)

    async with PostingBatcher(db, clock, limits=Limits(batch=16)) as batcher:
        tasks = [asyncio.create_task(submitter(number, batcher)) for number in range(16)]
        tasks.append(asyncio.create_task(roller()))
        for _ in range(3):
            await more(200)
            told = set(posted)
            await asyncio.to_thread(kill, server)
            await asyncio.to_thread(server.start)
            observer = Database(make_engine(server.url(role=APPLICATION), pool_size=1))
            await check(observer, told)
            await observer.close()
        await more(100)
        stop.set()
        await asyncio.gather(*tasks)
    await db.close()

    db = Database(make_engine(server.url(role=APPLICATION), pool_size=1))  # no connection of before a crash
    found = await check(db, posted)
    # Invariant 3: a key that was answered answers the same again and moves nothing.
    async with db.reading(SYSTEM) as session:
        before = await queries.balance(session, provider())
    again = await service.post_committed(db, [drawn_again(key) for key in sorted(posted)[:50]], now=NOON)
    assert all(outcome.replayed for outcome in again)
    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, provider()) == before
    assert not found & refused
    await db.close()


def drawn_again(key: str) -> Journal:
    """The journal a submitter drew for this key, from its own dice."""
    number, turn = (int(part) for part in key[1:].split("-"))
    dice = random.Random(number)
    for earlier in range(turn + 1):
        journal = drawn(dice, f"k{number}-{earlier}")
    return journal
