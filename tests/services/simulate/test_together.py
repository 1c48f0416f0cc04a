"""Workers at once: one runs at a time, waits where the database makes it wait, and the dice say who goes on."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from random import Random

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.actor import SYSTEM
from core.ids import CheckoutId
from infra import outbox
from infra.db.session import Database, make_engine
from marketplace.orders.events import CheckoutExpired
from services.simulate.kill import KillableDatabase, KillSwitch
from services.simulate.together import together
from tests.fixtures.patience import PATIENCE_S

AT = datetime(2026, 3, 2, tzinfo=UTC)
MESSAGES = 30
_WAIT = text("SELECT pg_advisory_xact_lock(:name)")


@pytest.fixture
async def switch() -> KillSwitch:
    return KillSwitch()


@pytest.fixture
async def workers(db: Database, switch: KillSwitch) -> AsyncIterator[KillableDatabase]:
    made = KillableDatabase(
        make_engine(db.engine.url.render_as_string(hide_password=False), pool_size=3), switch
    )
    yield made
    await made.close()


@pytest.mark.parametrize("seed", range(6))
async def test_relays_at_once_carry_every_message_once(
    db: Database, workers: KillableDatabase, switch: KillSwitch, seed: int
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await outbox.record(session, *(CheckoutExpired(CheckoutId.new(), None, AT) for _ in range(MESSAGES)))
    carried: Counter[str] = Counter()

    async def relay() -> str:
        count = 0
        async with workers.unit_of_work(SYSTEM) as session:
            messages = await outbox.claim(session, batch=MESSAGES // 3)
            await outbox.mark_published(session, messages)
            carried.update(str(each.id) for each in messages)
            count = len(messages)
        return str(count)

    done = await together([relay] * 3, switch=switch, calm=db, dice=Random(seed))

    assert done == ["10", "10", "10"]
    assert len(carried) == MESSAGES == carried.total()


async def test_who_meets_anothers_lock_goes_on_when_it_is_free_and_the_seed_says_who_is_first(
    db: Database, workers: KillableDatabase, switch: KillSwitch
) -> None:
    async def story(seed: int) -> list[str]:
        told: list[str] = []

        def worker(name: str) -> Callable[[], Awaitable[str]]:
            async def work() -> str:
                async with workers.unit_of_work(SYSTEM) as session:
                    await session.execute(_WAIT, {"name": 1})
                    told.append(f"{name} has it")
                told.append(f"{name} let go")
                return name

            return work

        assert await together(
            [worker("a"), worker("b"), worker("c")], switch=switch, calm=db, dice=Random(seed)
        ) == ["a", "b", "c"]
        return told

    stories = {seed: await story(seed) for seed in range(8)}

    for told in stories.values():
        # Nobody has it before the one who had it let go, or stands between its commit and its next line.
        order = [line.partition(" ")[0] for line in told if line.endswith("has it")]
        assert sorted(order) == ["a", "b", "c"]
        assert all(told.index(f"{name} has it") < told.index(f"{name} let go") for name in order)
    assert stories == {seed: await story(seed) for seed in range(8)}
    assert len({tuple(told) for told in stories.values()}) > 3, "the seed decides"


async def test_two_that_wait_for_each_other_are_found_by_the_database(
    db: Database, workers: KillableDatabase, switch: KillSwitch
) -> None:
    def worker(first: int, second: int) -> Callable[[], Awaitable[str]]:
        async def work() -> str:
            async with workers.unit_of_work(SYSTEM) as session:
                await session.execute(_WAIT, {"name": first})
                await switch.give_way()
                await session.execute(_WAIT, {"name": second})
            return "done"

        return work

    with pytest.raises(DBAPIError, match="deadlock detected"):
        # Drawn so that both have their first lock before one asks for its second.
        await together([worker(1, 2), worker(2, 1)], switch=switch, calm=db, dice=_InTurn())


async def test_nobody_is_left_waiting_for_a_turn_when_the_dice_fall_off_the_table(
    db: Database, workers: KillableDatabase, switch: KillSwitch
) -> None:
    ended: list[str] = []

    async def worker() -> str:
        try:
            async with workers.unit_of_work(SYSTEM) as session:
                await session.execute(_WAIT, {"name": 7})
                raise ValueError("gives way once more before anybody hears of it")
        finally:
            ended.append("ended")

    class Off(_InTurn):
        def choice(self, seq):  # type: ignore[no-untyped-def]
            found = super().choice(seq)
            if self.turn == 3:
                raise LookupError("off the table")
            return found

    with pytest.raises(LookupError):
        await asyncio.wait_for(together([worker] * 3, switch=switch, calm=db, dice=Off()), PATIENCE_S)

    assert ended == ["ended"] * 3


class _InTurn(Random):
    """Everybody in turn, as far as they are ready."""

    def choice(self, seq):  # type: ignore[no-untyped-def]
        self.turn = getattr(self, "turn", -1) + 1
        return seq[self.turn % len(seq)]
