"""Group commit: what each submitter is told, when, and what is in the books then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import asyncpg
import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.money import Money
from infra.db.session import Database, make_engine
from supply.ledger import queries
from supply.ledger.batcher import BatcherBusy, BatcherClosed, Limits, PostingBatcher
from supply.ledger.errors import JournalKeyReused, Overdraft, Unbalanced
from supply.ledger.journal import AccountKey, Journal, Leg
from supply.ledger.service import Outcome
from tests.conftest import TestDatabase
from tests.factories.ledger import NOON, available, earning, moving, pending, provider
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.waiting import until_waiting


@pytest.fixture
async def batcher(db: Database, clock: FixedClock) -> AsyncIterator[PostingBatcher]:
    async with PostingBatcher(db, clock) as batcher:
        yield batcher


async def balance(db: Database, account: AccountKey) -> Money:
    async with db.reading(SYSTEM) as session:
        return await queries.balance(session, account)


async def test_many_submitters_share_few_commits(db: Database, clock: FixedClock, owner_url: str) -> None:
    observer = await asyncpg.connect(owner_url)
    limits = Limits(batch=500, flushes=1, linger_s=1.0)
    async with PostingBatcher(db, clock, limits=limits) as batcher:
        outcomes = await asyncio.gather(
            *(batcher.submit(earning(f"k{i}", pending(f"p{i % 9}"), 10)) for i in range(500))
        )

    assert all(outcome.journal_id and not outcome.replayed for outcome in outcomes)
    assert await balance(db, provider()) == Money(5000, "CNY")
    commits = await observer.fetchval("SELECT count(DISTINCT txid) FROM ledger_entries")
    assert commits == 1
    await observer.close()


async def test_everyone_is_told_his_own_outcome(db: Database, batcher: PostingBatcher) -> None:
    await batcher.submit(earning("in", pending("a"), 100))

    outcomes = await asyncio.gather(
        batcher.submit(moving("ok", pending("a"), available("a"), 60)),
        batcher.submit(moving("too-much", pending("a"), available("a"), 60)),
        batcher.submit(earning("in", pending("a"), 100)),
        batcher.submit(earning("in", pending("a"), 101)),
        batcher.submit(Journal("crooked", "x", (Leg(provider(), 5), Leg(pending("a"), -4)), NOON)),
    )

    assert [type(o.error) if o.error else o.replayed for o in outcomes] == [
        False, Overdraft, True, JournalKeyReused, Unbalanced,
    ]  # fmt: skip
    assert await balance(db, pending("a")) == Money(40, "CNY")


async def test_one_key_submitted_16_times_at_once_is_one_journal(
    db: Database, batcher: PostingBatcher
) -> None:
    outcomes = await asyncio.gather(*(batcher.submit(earning("once", pending("a"), 50)) for _ in range(16)))

    assert len({outcome.journal_id for outcome in outcomes}) == 1
    assert sum(not outcome.replayed for outcome in outcomes) == 1
    assert await balance(db, pending("a")) == Money(50, "CNY")


async def test_128_racing_debits_of_100_against_1000_through_it_accept_exactly_10(
    db: Database, batcher: PostingBatcher
) -> None:
    await batcher.submit(earning("in", pending("a"), 1000))
    outcomes = await asyncio.gather(
        *(batcher.submit(moving(f"d{i}", pending("a"), available("a"), 100)) for i in range(128))
    )

    assert sum(outcome.journal_id is not None for outcome in outcomes) == 10
    assert all(isinstance(o.error, Overdraft) for o in outcomes if o.journal_id is None)


async def test_nobody_is_told_before_the_commit(
    db: Database, batcher: PostingBatcher, owner_url: str
) -> None:
    observer = await asyncpg.connect(owner_url)

    async def submitted(number: int) -> bool:
        await batcher.submit(earning(f"k{number}", pending(f"p{number}"), 1))
        async with reading:
            found = await observer.fetchval(
                "SELECT count(*) FROM ledger_journals WHERE idem = $1", f"k{number}"
            )
        return bool(found == 1)

    reading = asyncio.Lock()
    assert all(await asyncio.gather(*(submitted(number) for number in range(64))))
    await observer.close()


async def test_a_journal_the_database_chokes_on_fails_alone(db: Database, batcher: PostingBatcher) -> None:
    # Two journals that each fit, on an account that overflows 64 bits after the first.
    big = AccountKey(pending("a").code, "party:big", "CNY")
    outcomes = await asyncio.gather(
        batcher.submit(earning("a", pending("a"), 1)),
        batcher.submit(earning("huge-1", big, 2**62)),
        batcher.submit(earning("huge-2", big, 2**62)),
        batcher.submit(earning("beyond", pending("a"), 2**63)),
        batcher.submit(earning("b", pending("b"), 1)),
        return_exceptions=True,
    )

    assert [isinstance(outcome, Outcome) for outcome in outcomes] == [True, True, False, False, True]
    assert await balance(db, big) == Money(2**62, "CNY")
    assert await balance(db, pending("a")) == Money(1, "CNY")


async def test_an_unreachable_database_is_everyones_error_and_nobody_waits(
    postgres: TestDatabase, clock: FixedClock
) -> None:
    nowhere = Database(make_engine(postgres.url().rpartition("/")[0] + "/no_such_database", pool_size=1))
    async with PostingBatcher(nowhere, clock) as batcher:
        async with asyncio.timeout(PATIENCE_S):
            errors = await asyncio.gather(
                *(batcher.submit(earning(f"k{i}", pending("a"), 1)) for i in range(50)),
                return_exceptions=True,
            )
    assert all(isinstance(error, Exception) for error in errors)
    await nowhere.close()


async def test_connections_cut_in_the_middle_lose_nobodys_journal(
    db: Database, clock: FixedClock, postgres: TestDatabase
) -> None:
    admin = await asyncpg.connect(postgres.url("postgres"))
    done = asyncio.Event()

    async def cutter() -> None:
        """Some are cut while the submitters submit, and not so many that they never come to an end."""
        cut = 0
        while cut < 30:
            cut += await admin.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'lianyu_app'"
                " AND datname = current_database() AND state = 'active'"
            )
            await asyncio.sleep(0.03)
        done.set()

    async def submitter(number: int, batcher: PostingBatcher) -> list[str]:
        told: list[str] = []
        for turn in count():
            if turn >= 20 and done.is_set():
                break
            key = f"k{number}-{turn}"
            while key not in told:
                try:
                    outcome = await batcher.submit(earning(key, pending(f"p{number}"), 1))
                except Exception:
                    await asyncio.sleep(0.01)  # unknown: the same key again
                    continue
                assert outcome.error is None
                told.append(key)
        return told

    # Connections of its own: one that is cut after its last use would meet the next test.
    mine = Database(make_engine(postgres.url()))
    async with PostingBatcher(mine, clock, limits=Limits(batch=8)) as cut_off:
        each, _ = await asyncio.gather(
            asyncio.gather(*(submitter(number, cut_off) for number in range(16))), cutter()
        )
    told = [key for keys in each for key in keys]
    await mine.close()

    found = {r["idem"] for r in await admin.fetch("SELECT idem FROM ledger_journals")}
    await admin.close()
    assert len(told) == len(found) >= 320
    assert set(told) == found
    async with db.reading(SYSTEM) as session:
        assert await queries.mismatched_balances(session) == 0
        assert await queries.balance(session, provider()) == Money(len(told), "CNY")


async def test_a_full_queue_tells_that_it_is_full(
    db: Database, clock: FixedClock, postgres: TestDatabase
) -> None:
    blocker = await asyncpg.connect(postgres.url("postgres"))
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("LOCK TABLE ledger_journals IN EXCLUSIVE MODE")
    limits = Limits(queue=4, patience_s=0.2, batch=2, flushes=1)
    async with PostingBatcher(db, clock, limits=limits) as batcher:
        journals = [earning(f"k{i}", pending("a"), 1) for i in range(6)]
        waiting = [asyncio.create_task(batcher.submit(each)) for each in journals[:2]]
        await until_waiting(db, 1)  # two are at the database: nobody else has to wait for a place
        waiting += [asyncio.create_task(batcher.submit(each)) for each in journals[2:]]
        await asyncio.sleep(0)
        assert batcher.waiting == 4
        with pytest.raises(BatcherBusy):
            await batcher.submit(earning("one-too-many", pending("a"), 1))
        await transaction.rollback()
        outcomes = await asyncio.gather(*waiting)
    await blocker.close()

    assert all(outcome.journal_id for outcome in outcomes)
    assert await balance(db, pending("a")) == Money(6, "CNY")


async def test_whoever_leaves_while_he_waits_takes_his_journal_with_him(
    db: Database, clock: FixedClock, postgres: TestDatabase
) -> None:
    blocker = await asyncpg.connect(postgres.url("postgres"))
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("LOCK TABLE ledger_journals IN EXCLUSIVE MODE")
    async with PostingBatcher(db, clock, limits=Limits(batch=1, flushes=1)) as batcher:
        first, second, third = (
            asyncio.create_task(batcher.submit(earning(key, pending("a"), 1)))
            for key in ("first", "gone", "third")
        )
        await until_waiting(db, 1)
        second.cancel()
        await asyncio.sleep(0)
        await transaction.rollback()
        assert (await first).journal_id
        assert (await third).journal_id
    await blocker.close()

    assert second.cancelled()
    assert await balance(db, pending("a")) == Money(2, "CNY")


async def test_closing_posts_what_was_accepted_and_takes_no_more(db: Database, clock: FixedClock) -> None:
    batcher = PostingBatcher(db, clock, limits=Limits(batch=3, flushes=1))
    waiting = [asyncio.create_task(batcher.submit(earning(f"k{i}", pending("a"), 1))) for i in range(20)]
    await asyncio.sleep(0)
    await batcher.close()

    assert all(outcome.journal_id for outcome in await asyncio.gather(*waiting))
    assert await balance(db, pending("a")) == Money(20, "CNY")
    with pytest.raises(BatcherClosed):
        await batcher.submit(earning("late", pending("a"), 1))


async def test_a_lone_submitter_waits_for_nobody(batcher: PostingBatcher) -> None:
    async with asyncio.timeout(PATIENCE_S):
        for i in range(3):
            assert (await batcher.submit(earning(f"k{i}", pending("a"), 1))).journal_id
