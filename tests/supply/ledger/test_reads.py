"""Pages of accounts and entries; an account between two cut-offs."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.ids import BrandId, OrderId
from core.pagination import BadPage, PageRequest
from infra.db.session import Database
from supply.ledger import queries, service
from supply.ledger.activity import CutoffAhead
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal
from supply.ledger.queries import BEGINNING, Activity, EntryFilter
from tests.factories.ledger import (
    NOON,
    available,
    earning,
    horizon_passed,
    moving,
    pending,
    provider,
)


async def post(db: Database, *journals: Journal) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await service.post_together(session, journals, now=NOON)


async def horizon(db: Database) -> str:
    """A cut-off above everything posted so far."""
    await horizon_passed(db)
    async with db.reading(SYSTEM) as session:
        return await queries.cutoff(session)


async def between(db: Database, account: AccountKey, since: str, until: str) -> Activity:
    async with db.reading(SYSTEM) as session:
        return await queries.activity(session, account, since=since, until=until)


@pytest.mark.parametrize("rolled", [False, True])
async def test_what_one_period_closes_with_the_next_one_opens_with(db: Database, rolled: bool) -> None:
    await post(db, earning("a", pending("a"), 700))
    first = await horizon(db)
    if rolled:
        await service.roll_up(db)
    await post(db, earning("b", pending("a"), 50), moving("c", pending("a"), available("a"), 600))
    second = await horizon(db)
    await post(db, earning("later", pending("a"), 9))
    if rolled:
        await horizon_passed(db)
        await service.roll_up(db)

    # pending("a") is a credit account: 700 came; then 50 came and 600 went.
    assert await between(db, pending("a"), BEGINNING, first) == Activity(0, 0, 700, 700, 1)
    assert await between(db, pending("a"), first, second) == Activity(700, 600, 50, 150, 2)
    # The provider's account is a debit account, deferred.
    assert await between(db, provider(), BEGINNING, first) == Activity(0, 700, 0, 700, 1)
    assert await between(db, provider(), first, second) == Activity(700, 50, 0, 750, 1)
    assert await between(db, provider(), second, second) == Activity(750, 0, 0, 750, 0)


async def test_nobodys_account_has_no_activity(db: Database) -> None:
    async with db.reading(SYSTEM) as session:
        until = await queries.cutoff(session)
        assert await queries.activity(session, pending("x"), since=BEGINNING, until=until) == Activity(
            0, 0, 0, 0, 0
        )


async def test_a_cut_off_beyond_the_horizon_is_refused(db: Database) -> None:
    await post(db, earning("a", pending("a"), 700))
    async with db.unit_of_work(SYSTEM) as early:
        await service.post(early, earning("open", pending("a"), 1), now=NOON)
        # The horizon is at most this one, whatever other transactions of the server come and go.
        own = (await early.execute(text("SELECT pg_current_xact_id()::text"))).scalar_one()
        async with db.reading(SYSTEM) as session:
            beyond = str(int(own) + 1)
            with pytest.raises(CutoffAhead):
                await queries.activity(session, pending("a"), since=BEGINNING, until=beyond)
            with pytest.raises(CutoffAhead):
                await queries.activity_page(
                    session, pending("a"), PageRequest(5), since=BEGINNING, until=beyond
                )


async def test_a_closed_period_never_changes_while_others_post_and_roll_up(db: Database) -> None:
    await post(db, *(earning(f"in{i}", pending("a"), 10) for i in range(5)))
    until = await horizon(db)
    expected = Activity(0, 50, 0, 50, 5)
    done = asyncio.Event()

    async def poster(number: int) -> None:
        for turn in range(15):
            await post(db, earning(f"late{number}-{turn}", pending(f"p{number}"), 3))

    async def roller() -> None:
        while not done.is_set():
            await service.roll_up(db)

    async def reader() -> int:
        seen = 0
        while not done.is_set():
            assert await between(db, provider(), BEGINNING, until) == expected
            async with db.reading(SYSTEM) as session:
                now = await queries.cutoff(session)
                later = await queries.activity(session, provider(), since=until, until=now)
            assert later.opening_minor == 50
            assert later.closing_minor == 50 + later.debits_minor
            seen += 1
        return seen

    rolling, reading = asyncio.create_task(roller()), asyncio.create_task(reader())
    await asyncio.gather(*(poster(number) for number in range(4)))
    done.set()
    await rolling
    assert await reading > 0
    assert await between(db, provider(), until, await horizon(db)) == Activity(50, 180, 0, 230, 60)


async def test_pages_of_a_period_meet_without_gap_in_order(db: Database) -> None:
    for i in range(5):
        await post(db, earning(f"k{i}", pending("a"), 100 + i))
    until = await horizon(db)
    seen: list[int] = []
    cursor: str | None = None
    async with db.reading(SYSTEM) as session:
        while True:
            page = await queries.activity_page(
                session, pending("a"), PageRequest(2, cursor), since=BEGINNING, until=until
            )
            seen += [line.amount_minor for line in page.items]
            if not page.has_next:
                break
            cursor = page.cursors[-1]

    assert seen == [-100, -101, -102, -103, -104]


async def test_entries_are_found_by_account_kind_order_and_period(session: AsyncSession) -> None:
    order = OrderId.new()
    await service.post(session, earning("c1", pending("a"), 700, order_id=order), now=NOON)
    await service.post(
        session, moving("r1", pending("a"), available("a"), 300), now=NOON + timedelta(hours=1)
    )
    await service.post(session, earning("c2", pending("a"), 40), now=NOON + timedelta(hours=2))
    await service.post(session, earning("other", pending("b"), 5, order_id=order), now=NOON)

    async def keys(**only: object) -> list[tuple[str, int]]:
        page = await queries.entries_page(
            session,
            "party:a",
            PageRequest(10),
            only=EntryFilter(**only),  # type: ignore[arg-type]
        )
        return sorted((line.key, line.code) for line in page.items)

    assert await keys() == [("c1", 2000), ("c2", 2000), ("r1", 2000), ("r1", 2010)]
    assert await keys(codes=[Code.AVAILABLE]) == [("r1", 2010)]
    assert await keys(kinds=["release"]) == [("r1", 2000), ("r1", 2010)]
    assert await keys(order_id=order) == [("c1", 2000)]
    assert await keys(order_id=order, kinds=["release"]) == []
    assert await keys(posted_from=NOON + timedelta(hours=2)) == [("c2", 2000)]
    assert await keys(posted_from=NOON, posted_to=NOON + timedelta(hours=2), codes=[Code.PENDING]) == [
        ("c1", 2000), ("r1", 2000),
    ]  # fmt: skip
    assert await keys(currency="USD") == []


async def test_filtered_pages_meet_without_gap(session: AsyncSession) -> None:
    order = OrderId.new()
    for i in range(7):
        journal = earning(f"k{i}", pending("a"), 10 + i, order_id=order if i % 2 else None)
        await service.post(session, journal, now=NOON)

    for only in (EntryFilter(kinds=["capture"], codes=[Code.PENDING]), EntryFilter(order_id=order)):
        whole = await queries.entries_page(session, "party:a", PageRequest(50), only=only)
        seen, cursor = [], None
        while True:
            page = await queries.entries_page(session, "party:a", PageRequest(2, cursor), only=only)
            seen += list(page.items)
            if not page.has_next:
                break
            cursor = page.cursors[-1]
        assert seen == list(whole.items)
        assert len(seen) >= 3


async def test_an_entry_tells_both_times_the_reference_and_its_whole_journal(session: AsyncSession) -> None:
    happened = NOON - timedelta(days=3)
    journal = Journal("c", "capture", earning("c", pending("a"), 700).legs, happened, provider_ref="ch_1")
    journal_id = await service.post(session, journal, now=NOON)

    lines = await queries.journal_entries(session, journal_id)

    assert [(line.code, line.amount_minor) for line in lines] == [(1000, 700), (2000, -700)]
    assert {(line.effective_at, line.posted_at, line.provider_ref) for line in lines} == {
        (happened, NOON, "ch_1")
    }
    assert {line.journal_id for line in lines} == {journal_id}


async def test_a_tenant_meets_only_its_own_leg_of_a_journal(db: Database) -> None:
    one, other = BrandId.new(), BrandId.new()
    mine = AccountKey(Code.PENDING, f"party:{one}", "CNY", one)
    async with db.unit_of_work(SYSTEM) as session:
        journal_id = await service.post(session, earning("k", mine, 700), now=NOON)

    async with db.reading(Actor(ActorKind.BRAND, one)) as session:
        assert [line.owner for line in await queries.journal_entries(session, journal_id)] == [f"party:{one}"]
        accounts = await queries.accounts_page(session, PageRequest(10))
        assert [(a.code, a.owner, a.balance_minor) for a in accounts.items] == [(2000, f"party:{one}", 700)]
    async with db.reading(Actor(ActorKind.BRAND, other)) as session:
        assert await queries.journal_entries(session, journal_id) == []
        assert (await queries.accounts_page(session, PageRequest(10))).items == []


async def test_pages_of_accounts_meet_without_gap(session: AsyncSession) -> None:
    for party in "abc":
        await service.post(session, earning(f"k{party}", pending(party), 100), now=NOON)
    await service.post(session, moving("m", pending("a"), available("a"), 30), now=NOON)
    seen, cursor = [], None
    while True:
        page = await queries.accounts_page(session, PageRequest(2, cursor), currency="CNY")
        seen += [(account.code, account.owner, account.balance_minor) for account in page.items]
        if not page.has_next:
            break
        cursor = page.cursors[-1]

    assert seen == [
        (1000, "psp:stripe", 300), (2000, "party:a", 70), (2000, "party:b", 100), (2000, "party:c", 100),
        (2010, "party:a", 30),
    ]  # fmt: skip
    of_a = await queries.accounts_page(session, PageRequest(9), owner="party:a", codes=[Code.AVAILABLE])
    assert [(account.code, account.balance_minor) for account in of_a.items] == [(2010, 30)]


async def test_a_cursor_of_another_list_is_refused(session: AsyncSession) -> None:
    await service.post(session, earning("a", pending("a"), 1), now=NOON)
    await service.post(session, earning("b", pending("b"), 1), now=NOON)
    page = await queries.accounts_page(session, PageRequest(1))
    with pytest.raises(BadPage):
        await queries.entries_page(session, "party:a", PageRequest(1, page.cursors[0]))


async def test_the_tail_is_what_is_not_rolled_up(db: Database) -> None:
    await post(db, *(earning(f"k{i}", pending("a"), 10) for i in range(3)))
    async with db.reading(SYSTEM) as session:
        assert await queries.tail(session) == queries.Tail(entries=3, accounts=1, longest=3)
    await horizon_passed(db)
    await service.roll_up(db)
    async with db.reading(SYSTEM) as session:
        assert await queries.tail(session) == queries.Tail(entries=0, accounts=0, longest=0)
