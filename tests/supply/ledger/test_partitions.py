"""Entries lie in partitions by month of the journal's id; the books hold on each of them, whoever writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from core.actor import SYSTEM
from core.money import Money
from infra.db.session import Database
from supply.ledger import queries, service
from supply.ledger.journal import Journal
from tests.conftest import TestDatabase
from tests.factories.ledger import NOON, earning, horizon_passed, pending, provider

_PARTITIONS = """
SELECT c.oid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'ledger_entries'::regclass ORDER BY 1
"""
_REST = "ledger_partitions.ledger_entries_rest"
_POST = """
SELECT post_journal((left(ledger_first_id($1)::text, 24) || left(md5($2), 12))::uuid, $2, 'capture', now(), now(),
    NULL, NULL, NULL, '{1000,2000}', '{psp:stripe,party:a}', '{CNY,CNY}', '{NULL,NULL}', ARRAY[$3::bigint, -$3::bigint])
"""


def month_name(at: datetime) -> str:
    return f"ledger_partitions.ledger_entries_p{at:%Y%m}"


def months_ahead(count: int) -> datetime:
    now = datetime.now(UTC)
    year, month = divmod(now.year * 12 + now.month - 1 + count, 12)
    return datetime(year, month + 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
async def one_month() -> None:
    """No test begins in the last half minute of a month and ends in the next: partitions are of real months."""
    left = (months_ahead(1).replace(hour=0) - datetime.now(UTC)).total_seconds()
    if left < 30:
        await asyncio.sleep(left + 1)


@pytest.fixture
async def owner(db: Database, postgres: TestDatabase) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.url("lianyu"))
    yield connection
    await connection.close()


async def partitions(owner: asyncpg.Connection) -> list[str]:
    return [name for (name,) in await owner.fetch(_PARTITIONS)]


async def sum_of(owner: asyncpg.Connection, table: str) -> int:
    return int(await owner.fetchval(f"SELECT count(*) FROM {table}"))


async def books_hold(db: Database) -> None:
    async with db.reading(SYSTEM) as session:
        assert await queries.mismatched_balances(session) == 0
        assert await queries.unbalanced_journals(session) == 0


async def test_an_entry_lies_in_the_month_of_its_journal(db: Database, owner: asyncpg.Connection) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await service.post(session, earning("k", pending("a"), 700), now=NOON)

    assert await sum_of(owner, month_name(datetime.now(UTC))) == 2
    assert await sum_of(owner, _REST) == 0


async def test_the_sweep_makes_the_months_ahead_once(db: Database, owner: asyncpg.Connection) -> None:
    await service.make_partitions(db)
    before = await partitions(owner)

    assert await service.make_partitions(db) == 0
    assert await partitions(owner) == before
    assert {month_name(months_ahead(n)) for n in range(4)} <= set(before)


async def test_what_no_month_took_moves_to_its_month_when_that_is_made(
    db: Database, owner: asyncpg.Connection
) -> None:
    far = months_ahead(5)
    await owner.execute(f"DROP TABLE IF EXISTS {month_name(far)}")
    for key in ("early-1", "early-2"):
        await owner.fetchval(_POST, far, key, 50)
    assert await sum_of(owner, _REST) == 4

    async with db.unit_of_work(SYSTEM) as session:
        made = await (await session.connection()).exec_driver_sql("SELECT make_ledger_partitions(5)")
        assert made.scalar_one() > 0

    assert await sum_of(owner, _REST) == 0
    assert await sum_of(owner, month_name(far)) == 4
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="history"):
        await owner.execute(f"DELETE FROM {_REST}")
    await books_hold(db)


async def test_the_application_cannot_reach_any_partition(
    db: Database, owner: asyncpg.Connection, postgres: TestDatabase
) -> None:
    await service.make_partitions(db)  # by the application itself
    application = await asyncpg.connect(postgres.url())
    names = await partitions(owner)
    assert len(names) >= 5
    for name in names:
        for statement in (
            f"SELECT count(*) FROM {name}",
            f"INSERT INTO {name} SELECT * FROM ledger_entries",
            f"UPDATE {name} SET leg = 1",
            f"DELETE FROM {name}",
            f"TRUNCATE {name}",
            f"ALTER TABLE {name} DISABLE TRIGGER ALL",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await application.execute(statement)
        rights = "SELECT has_table_privilege('lianyu_app', $1, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')"
        assert await owner.fetchval(rights, name) is False
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute("SELECT detach_ledger_partition('2020-01-01')")
    await application.close()


async def test_the_books_hold_on_each_partition_even_for_the_owner(
    db: Database, owner: asyncpg.Connection
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await service.post(session, earning("k", pending("a"), 700), now=NOON)
    for name in await partitions(owner):
        lower = await owner.fetchval(
            "SELECT (regexp_match(pg_get_expr(relpartbound, oid), 'FROM \\(''([0-9a-f-]+)'))[1] FROM pg_class"
            " WHERE oid = $1::regclass",
            name,
        )
        with pytest.raises(asyncpg.CheckViolationError, match="off by 5"):
            await owner.execute(
                f"INSERT INTO {name} (journal_id, leg, account_id, currency, amount_minor, txid)"
                f" SELECT coalesce($1::text, '{'0' * 32}')::uuid, 9, id, 'CNY', 5, pg_current_xact_id()"
                " FROM ledger_accounts LIMIT 1",
                lower,
            )
        for statement in (
            f"UPDATE {name} SET leg = leg",
            f"DELETE FROM {name}",
            f"TRUNCATE {name}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="history"):
                await owner.execute(statement)


async def test_a_detached_month_leaves_every_balance_as_it_was(
    db: Database, owner: asyncpg.Connection
) -> None:
    old = datetime(2025, 1, 10, tzinfo=UTC)
    name = month_name(old)
    await owner.execute(
        f"CREATE TABLE {name} PARTITION OF ledger_entries FOR VALUES"
        " FROM ('01941f29-7c00-0000-0000-000000000000') TO ('0194bece-a000-0000-0000-000000000000')"
    )  # 2025-01-01 and 2025-02-01, 00:00 UTC, as milliseconds in hexadecimal
    await owner.execute(f"CALL ledger_guard('{name}')")
    try:
        for key, amount in (("old-1", 500), ("old-2", 250)):
            await owner.fetchval(_POST, old, key, amount)
        assert await sum_of(owner, name) == 4
        async with db.unit_of_work(SYSTEM) as session:
            await service.post(session, earning("new", pending("a"), 40), now=NOON)

        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="not rolled up"):
            await owner.fetchval("SELECT detach_ledger_partition('2025-01-01')")
        await horizon_passed(db)
        await service.roll_up(db)
        assert await owner.fetchval("SELECT detach_ledger_partition('2025-01-01')") == 4

        assert name not in await partitions(owner)
        assert await sum_of(owner, name) == 4  # still there, by itself
        async with db.reading(SYSTEM) as session:
            assert await queries.balance(session, pending("a")) == Money(790, "CNY")
            assert await queries.balance(session, provider()) == Money(790, "CNY")
            assert [line.key for line in await queries.entries_of_journal(session, "old-1")] == []
            whole = await queries.activity(
                session, pending("a"), since=queries.BEGINNING, until=await queries.cutoff(session)
            )
            assert (whole.opening_minor, whole.closing_minor, whole.entries) == (750, 790, 1)
        await books_hold(db)
        # The key stays taken: nothing of an archived month can be posted again.
        async with db.unit_of_work(SYSTEM) as session:
            legs = earning("old-1", pending("a"), 500).legs
            await service.post(session, Journal("old-1", "capture", legs, NOON), now=NOON)
            assert await queries.balance(session, pending("a")) == Money(790, "CNY")
    finally:
        await owner.execute(f"DROP TABLE {name}")


async def test_a_month_that_may_still_grow_is_not_detached(db: Database, owner: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError, match="may still come"):
        await owner.fetchval("SELECT detach_ledger_partition($1)", datetime.now(UTC).date())


async def test_the_first_id_of_a_moment_is_that_of_a_uuid7_made_then(
    db: Database, owner: asyncpg.Connection
) -> None:
    # RFC 9562, appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F was made on 2022-02-22 at 19:22:22.000 UTC.
    made = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    found = await owner.fetchval("SELECT ledger_first_id($1)::text", made)
    assert found == "017f22e2-79b0-0000-0000-000000000000"
