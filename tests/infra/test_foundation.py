from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.events import Event, event
from infra import outbox
from infra.db.idempotency import IdempotencyKeyMissing, IdempotencyKeyReused, once
from infra.db.session import Database
from tests.conftest import FixedClock


@event("test.happened")
@dataclass(frozen=True, slots=True)
class Happened(Event):
    number: int


async def count(db: Database, table: str) -> int:
    async with db.reading(SYSTEM) as session:
        return int((await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


async def test_an_event_of_a_rolled_back_transaction_never_leaves(db: Database) -> None:
    async def fail_after_recording() -> None:
        async with db.unit_of_work(SYSTEM) as session:
            await outbox.record(session, Happened(number=1))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_recording()

    assert await count(db, "outbox") == 0


async def test_two_relays_never_claim_the_same_message(db: Database) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await outbox.record(session, *(Happened(number=i) for i in range(10)))

    async with db.unit_of_work(SYSTEM) as one, db.unit_of_work(SYSTEM) as two:
        first = await outbox.claim(one, batch=6)
        second = await outbox.claim(two, batch=6)

    assert len(first) == 6
    assert len(second) == 4
    assert not {m.id for m in first} & {m.id for m in second}


async def test_a_message_is_handled_once_by_each_handler(db: Database) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await outbox.record(session, Happened(number=1))
    async with db.unit_of_work(SYSTEM) as session:
        (message,) = await outbox.claim(session, batch=1)

    async def handle(handler: str) -> bool:
        async with db.unit_of_work(SYSTEM) as session:
            return await outbox.first_time(session, message.id, handler)

    assert sorted(await asyncio.gather(*(handle("a") for _ in range(5)))) == [False] * 4 + [True]
    assert await handle("b")


async def test_the_same_key_gives_the_same_answer_and_another_body_is_refused(
    db: Database, clock: FixedClock
) -> None:
    runs = 0

    async def call(body: dict[str, int], key: str = "k") -> tuple[dict[str, object], bool]:
        async with db.unit_of_work(SYSTEM) as session:

            async def run() -> dict[str, object]:
                nonlocal runs
                runs += 1
                return {"run": runs}

            return await once(session, SYSTEM, operation="test", key=key, body=body, now=clock.now(), run=run)

    answers = await asyncio.gather(*(call({"a": 1}) for _ in range(12)))

    assert runs == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 11
    assert {str(answer) for answer, _ in answers} == {"{'run': 1}"}
    with pytest.raises(IdempotencyKeyReused):
        await call({"a": 2})
    with pytest.raises(IdempotencyKeyMissing):
        await call({"a": 1}, key="")
