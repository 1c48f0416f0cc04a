from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from core.actor import SYSTEM, Actor, ActorKind
from core.ids import BrandId, OrderId
from core.money import Money
from core.pagination import PageRequest
from infra.db.session import Database, async_url
from supply.ledger import queries, service
from supply.ledger.chart import Code
from supply.ledger.errors import JournalKeyReused, Overdraft, Unbalanced
from supply.ledger.journal import AccountKey, Journal, Leg
from tests.factories.ledger import (
    NOON,
    available,
    earning,
    horizon_passed,
    moving,
    pending,
    provider,
)


def sqlstate(error: pytest.ExceptionInfo[DBAPIError]) -> str:
    return str(error.value.orig.sqlstate)  # type: ignore[union-attr]


async def test_a_journal_moves_both_sides(session: AsyncSession) -> None:
    await service.post(session, earning("k", pending("a"), 700), now=NOON)

    assert await queries.balance(session, pending("a")) == Money(700, "CNY")
    assert await queries.balance(session, provider()) == Money(700, "CNY")


async def test_the_same_key_and_body_is_the_same_journal(session: AsyncSession) -> None:
    first = await service.post(session, earning("k", pending("a"), 700), now=NOON)
    again = await service.post(session, earning("k", pending("a"), 700), now=NOON)

    assert again == first
    assert await queries.balance(session, pending("a")) == Money(700, "CNY")


async def test_the_same_key_with_another_amount_is_refused(session: AsyncSession) -> None:
    await service.post(session, earning("k", pending("a"), 700), now=NOON)
    with pytest.raises(JournalKeyReused):
        await service.post(session, earning("k", pending("a"), 701), now=NOON)


async def test_the_order_of_legs_and_the_time_are_no_part_of_the_body(session: AsyncSession) -> None:
    journal = earning("k", pending("a"), 700)
    first = await service.post(session, journal, now=NOON)
    turned = Journal("k", "capture", journal.legs[::-1], NOON.replace(hour=13), provider_ref="re_1")

    assert await service.post(session, turned, now=NOON) == first


async def test_a_strict_account_never_goes_below_zero(session: AsyncSession) -> None:
    await service.post(session, earning("k", pending("a"), 700), now=NOON)
    with pytest.raises(Overdraft) as refused:
        await service.post(session, moving("m", pending("a"), available("a"), 701), now=NOON)

    assert (refused.value.owner, refused.value.account_code) == ("party:a", 2000)
    assert (refused.value.available_minor, refused.value.wanted_minor) == (700, 701)


async def test_an_unbalanced_journal_is_refused(session: AsyncSession) -> None:
    legs = (Leg(provider(), 700), Leg(pending("a"), -699))
    with pytest.raises(Unbalanced):
        await service.post(session, Journal("k", "capture", legs, NOON), now=NOON)


async def test_every_currency_balances_by_itself(session: AsyncSession) -> None:
    legs = (Leg(provider("CNY"), 700), Leg(pending("a", currency="USD"), -700))
    with pytest.raises(Unbalanced):
        await service.post(session, Journal("k", "capture", legs, NOON), now=NOON)


async def test_a_journal_without_legs_is_refused(session: AsyncSession) -> None:
    with pytest.raises(Unbalanced):
        await service.post(session, Journal("k", "capture", (), NOON), now=NOON)


async def test_legs_on_one_account_are_one_leg(session: AsyncSession) -> None:
    legs = (Leg(provider(), 700), Leg(pending("a"), -300), Leg(pending("a"), -400))
    await service.post(session, Journal("k", "capture", legs, NOON), now=NOON)

    entries = await queries.entries_of_journal(session, "k")
    assert [(e.code, e.amount_minor, e.balance_after) for e in entries] == [
        (1000, 700, None),
        (2000, -700, 700),
    ]


async def test_one_bad_journal_in_a_batch_of_200_is_refused_alone(db: Database) -> None:
    journals = [earning(f"e{i}", pending(f"p{i % 7}"), 10) for i in range(200)]
    journals[99] = moving("bad", pending("p1"), available("p1"), 100_000)
    async with db.unit_of_work(SYSTEM) as session:
        outcomes = await service.post_many(session, journals, now=NOON)

    assert [o.key for o in outcomes if o.journal_id is None] == ["bad"]
    assert isinstance(outcomes[99].error, Overdraft)
    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, provider()) == Money(1990, "CNY")
        assert await queries.mismatched_balances(session) == 0


async def test_a_batch_is_judged_in_its_order(db: Database) -> None:
    journals = [
        moving("too-early", pending("a"), available("a"), 500),
        earning("in", pending("a"), 600),
        moving("all", pending("a"), available("a"), 600),
        moving("too-late", pending("a"), available("a"), 1),
        Journal("crooked", "x", (Leg(provider(), 5), Leg(pending("a"), -4)), NOON),
        earning("in", pending("a"), 600),
        earning("in", pending("a"), 601),
    ]
    async with db.unit_of_work(SYSTEM) as session:
        outcomes = await service.post_many(session, journals, now=NOON)

    assert [type(o.error) if o.error else o.replayed for o in outcomes] == [
        Overdraft, False, False, Overdraft, Unbalanced, True, JournalKeyReused,
    ]  # fmt: skip
    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, available("a")) == Money(600, "CNY")
        assert await queries.balance(session, pending("a")) == Money(0, "CNY")
        entries = (await queries.entries_page(session, "party:a", PageRequest(10))).items
        assert [(e.key, e.code, e.balance_after) for e in entries] == [
            ("all", 2010, 600), ("all", 2000, 0), ("in", 2000, 600),
        ]  # fmt: skip


async def test_the_first_of_a_key_that_can_be_carried_counts(db: Database) -> None:
    journals = [
        moving("k", pending("a"), available("a"), 100),  # nothing there yet
        earning("in", pending("a"), 100),
        moving("k", pending("a"), available("a"), 100),
        moving("then", available("a"), pending("b"), 100),  # lives on the one before
        moving("k", pending("a"), available("a"), 100),
    ]
    async with db.unit_of_work(SYSTEM) as session:
        outcomes = await service.post_many(session, journals, now=NOON)

    assert [type(o.error) if o.error else o.replayed for o in outcomes] == [
        Overdraft, False, False, False, True,
    ]  # fmt: skip
    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, pending("b")) == Money(100, "CNY")
        assert await queries.mismatched_balances(session) == 0


async def test_journals_that_belong_together_fail_together(db: Database) -> None:
    journals = [earning("in", pending("a"), 10), moving("out", pending("a"), available("a"), 11)]
    with pytest.raises(Overdraft):
        async with db.unit_of_work(SYSTEM) as session:
            await service.post_together(session, journals, now=NOON)

    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, pending("a")) == Money(0, "CNY")


async def test_a_rolled_up_account_reads_as_before(db: Database) -> None:
    for i in range(3):
        async with db.unit_of_work(SYSTEM) as session:
            await service.post(session, earning(f"k{i}", pending("a"), 100), now=NOON)
    await horizon_passed(db)
    assert await service.roll_up(db) == 1
    async with db.unit_of_work(SYSTEM) as session:
        await service.post(session, earning("k4", pending("a"), 100), now=NOON)

    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, provider()) == Money(400, "CNY")
        rolled = await session.execute(text("SELECT posted_minor FROM ledger_balances WHERE NOT strict"))
        assert rolled.scalar_one() == 300
        assert await queries.mismatched_balances(session) == 0


async def test_an_entry_of_an_open_transaction_is_not_lost_by_the_rollup(db: Database) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await service.hold(session, [provider()])  # opens the account both post to
    async with db.unit_of_work(SYSTEM) as early:
        await service.post(early, earning("early", pending("a"), 100), now=NOON)
        async with db.unit_of_work(SYSTEM) as late:
            await service.post(late, earning("late", pending("b"), 50), now=NOON)
        await service.roll_up(db)
    await service.roll_up(db)

    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, provider()) == Money(150, "CNY")
        assert await queries.mismatched_balances(session) == 0


async def test_the_trial_balance_sums_to_zero(session: AsyncSession) -> None:
    await service.post(session, earning("k", pending("a"), 700), now=NOON)
    await service.post(session, moving("m", pending("a"), available("a"), 200), now=NOON)

    lines = {line.code: line.debit_minor for line in await queries.trial_balance(session)}
    assert lines == {Code.PROVIDER_PENDING: 700, Code.PENDING: -500, Code.AVAILABLE: -200}
    assert await queries.unbalanced_journals(session) == 0


async def test_the_database_knows_the_same_chart(session: AsyncSession) -> None:
    rows = await session.execute(text("SELECT code, side, strict FROM ledger_chart"))
    assert {row.code: (row.side, row.strict) for row in rows} == {
        int(code): (code.side, code.strict) for code in Code
    }


async def test_legs_of_a_raw_posting_must_come_in_the_order_of_accounts(session: AsyncSession) -> None:
    with pytest.raises(DBAPIError, match="order of accounts") as refused:
        await session.execute(
            text(
                "SELECT post_journal(gen_random_uuid(), 'k', 'x', now(), now(), NULL, NULL, NULL, '{2000,1000}',"
                " '{party:a,psp:stripe}', '{CNY,CNY}', '{NULL,NULL}', '{-5,5}')"
            )
        )
    assert sqlstate(refused) == "23514"


@pytest.mark.parametrize(
    "owner", ["party:a|b", "party:Ä", "party:名", "party:a,b}", 'party:"a\\b"', "party: a "]
)
async def test_owners_are_told_apart_whatever_is_in_their_names(session: AsyncSession, owner: str) -> None:
    plain, odd = AccountKey(Code.PENDING, "party:a", "CNY"), AccountKey(Code.PENDING, owner, "CNY")
    outcomes = await service.post_many(session, [earning("p", plain, 1), earning("o", odd, 2)], now=NOON)
    await service.post(session, moving("m", odd, plain, 1), now=NOON)

    assert all(outcome.journal_id for outcome in outcomes)
    assert await service.hold(session, [plain, odd]) == {plain: 2, odd: 1}
    assert (await queries.balance(session, odd)).amount_minor == 1


async def test_holding_tells_what_accounts_hold(session: AsyncSession) -> None:
    await service.post(session, earning("k", pending("a"), 700), now=NOON)

    assert await service.hold(session, [pending("a"), pending("new"), provider()]) == {
        pending("a"): 700, pending("new"): 0, provider(): 700,
    }  # fmt: skip


async def test_entries_of_an_order_are_found_by_it(session: AsyncSession) -> None:
    order = OrderId.new()
    await service.post(session, earning("k", pending("a"), 700, order_id=order), now=NOON)
    await service.post(session, earning("other", pending("a"), 5), now=NOON)

    assert [e.key for e in await queries.entries_of_order(session, order)] == ["k", "k"]


async def test_pages_of_entries_meet_without_gap(session: AsyncSession) -> None:
    for i in range(5):
        await service.post(session, earning(f"k{i}", pending("a"), 100), now=NOON)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await queries.entries_page(session, "party:a", PageRequest(2, cursor), currency="CNY")
        seen += [line.key for line in page.items]
        if not page.has_next:
            break
        cursor = page.cursors[-1]

    assert sorted(seen) == ["k0", "k1", "k2", "k3", "k4"]


async def test_a_tenant_sees_its_own_accounts_and_entries_only(db: Database) -> None:
    one, other = BrandId.new(), BrandId.new()
    async with db.unit_of_work(SYSTEM) as session:
        for brand in (one, other):
            account = AccountKey(Code.PENDING, f"party:{brand}", "CNY", brand)
            await service.post(session, earning(f"k{brand}", account, 700), now=NOON)

    async with db.reading(Actor(ActorKind.BRAND, one)) as session:
        owners = await queries.balances_of(session, [f"party:{one}", f"party:{other}", "psp:stripe"])
        assert [(b.owner, b.balance_minor) for b in owners] == [(f"party:{one}", 700)]
        assert [e.owner for e in await queries.entries_of_journal(session, f"k{one}")] == [f"party:{one}"]
        assert await queries.entries_of_journal(session, f"k{other}") == []
        assert (await session.execute(text("SELECT count(*) FROM ledger_journals"))).scalar_one() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger_entries SET amount_minor = 1",
        "DELETE FROM ledger_entries",
        "DELETE FROM ledger_journals",
        "INSERT INTO ledger_balances SELECT * FROM ledger_balances",
        "UPDATE ledger_balances SET posted_minor = 1",
        "TRUNCATE ledger_journals",
    ],
)
async def test_the_application_cannot_write_history(session: AsyncSession, statement: str) -> None:
    with pytest.raises(DBAPIError) as refused:
        await session.execute(text(statement))
    assert sqlstate(refused) == "42501"


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("UPDATE ledger_entries SET leg = leg", "42501"),
        ("DELETE FROM ledger_journals", "42501"),
        ("TRUNCATE ledger_entries", "42501"),
        (
            "INSERT INTO ledger_entries (journal_id, leg, account_id, currency, amount_minor, txid)"
            " VALUES (gen_random_uuid(), 1, gen_random_uuid(), 'CNY', 5, pg_current_xact_id())",
            "23514",
        ),
    ],
)
async def test_not_even_the_owner_can_write_history(
    owner_url: str, statement: str, state: str, db: Database
) -> None:
    engine = create_async_engine(async_url(owner_url))
    with pytest.raises(DBAPIError) as refused:
        async with engine.begin() as connection:
            await connection.execute(text(statement))
    await engine.dispose()
    assert sqlstate(refused) == state


async def test_the_chart_of_the_code_is_the_chart_of_the_database(session: AsyncSession) -> None:
    rows = await session.execute(text("SELECT code, side, strict FROM ledger_chart"))
    assert {(r.code, r.side, r.strict) for r in rows} == {(int(c), c.side, c.strict) for c in Code}
