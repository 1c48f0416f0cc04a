"""What must hold at any interleaving: real connections, real commits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from core.actor import SYSTEM
from core.money import Money
from infra.db.session import Database
from supply.ledger import queries, service
from supply.ledger.errors import Overdraft
from supply.ledger.journal import AccountKey, Journal
from tests.factories.ledger import NOON, available, earning, moving, pending, provider


async def post_in_its_own_transaction(db: Database, journal: Journal) -> object:
    async with db.unit_of_work(SYSTEM) as session:
        return await service.post(session, journal, now=NOON)


async def racing(count: int, attempt: Callable[[int], Awaitable[object]]) -> list[object]:
    async def guarded(number: int) -> object:
        try:
            return await attempt(number)
        except Overdraft as refused:
            return refused

    return await asyncio.gather(*(guarded(number) for number in range(count)))


async def test_128_racing_debits_of_100_against_1000_accept_exactly_10(db: Database) -> None:
    await post_in_its_own_transaction(db, earning("in", available("a"), 1000))

    results = await racing(
        128, lambda i: post_in_its_own_transaction(db, moving(f"d{i}", available("a"), pending("a"), 100))
    )

    assert sum(not isinstance(result, Overdraft) for result in results) == 10
    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, available("a")) == Money(0, "CNY")
        assert await queries.mismatched_balances(session) == 0


async def test_one_key_posted_16_times_at_once_is_one_journal(db: Database) -> None:
    ids = await racing(16, lambda _: post_in_its_own_transaction(db, earning("once", pending("a"), 50)))

    assert len(set(ids)) == 1
    async with db.reading(SYSTEM) as session:
        assert await queries.balance(session, pending("a")) == Money(50, "CNY")


async def test_openers_of_one_account_at_the_same_moment_all_succeed(db: Database) -> None:
    for turn in range(25):
        new = pending(f"new{turn}")

        async def opener(number: int, turn: int = turn, new: AccountKey = new) -> object:
            journal = earning(f"k{turn}-{number}", new, 1)
            async with db.unit_of_work(SYSTEM) as session:
                if number % 3 == 0:
                    return await service.post(session, journal, now=NOON)
                if number % 3 == 1:
                    return await service.post_together(session, [journal], now=NOON)
                return await service.hold(session, [new])

        await asyncio.gather(*(opener(number) for number in range(12)))

        async with db.reading(SYSTEM) as session:
            assert await queries.balance(session, new) == Money(8, "CNY")


async def test_single_and_batch_posters_never_deadlock(db: Database) -> None:
    parties = [f"p{i}" for i in range(6)]
    async with db.unit_of_work(SYSTEM) as session:
        await service.post_together(
            session, [earning(f"in{p}", available(p), 10_000) for p in parties], now=NOON
        )

    async def poster(number: int) -> None:
        dice = random.Random(number)
        for turn in range(6):
            journals = []
            for step in range(1 if number % 2 else 20):
                source, target = dice.sample(parties, 2)
                # Some overdraw, some meet accounts and keys that others open at the same moment.
                amount = dice.choice([1, 7, 50_000])
                target_account = pending(f"new{turn}") if step % 5 == 0 else available(target)
                journals.append(moving(f"k{number}-{turn}-{step}", available(source), target_account, amount))
            journals.append(earning(f"shared{turn}", pending("shared"), 1))
            dice.shuffle(journals)
            async with db.unit_of_work(SYSTEM) as session:
                if number % 2:
                    try:
                        await service.post(session, journals[0], now=NOON)
                    except Overdraft:
                        await session.rollback()
                else:
                    await service.post_many(session, journals, now=NOON)

    async def roller() -> None:
        for _ in range(20):
            await service.roll_up(db)

    await asyncio.gather(*(poster(number) for number in range(16)), roller())

    async with db.reading(SYSTEM) as session:
        assert await queries.mismatched_balances(session) == 0
        assert await queries.unbalanced_journals(session) == 0
        assert sum(line.debit_minor for line in await queries.trial_balance(session)) == 0
        assert await queries.balance(session, pending("shared")) == Money(6, "CNY")
        assert (await queries.balance(session, provider())).amount_minor == 60_006
