"""What the broker lost goes out again, and only that."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from core.actor import SYSTEM
from core.events import Event, event
from core.ids import MessageId
from infra import outbox
from infra.db.session import Database

HANDLERS = {"test.carried": 2, "test.of_nobody": 0}


@event("test.carried")
@dataclass(frozen=True, slots=True)
class Carried(Event):
    number: int


@event("test.of_nobody")
@dataclass(frozen=True, slots=True)
class OfNobody(Event):
    number: int


async def published(db: Database, *events: Event) -> list[outbox.Message]:
    async with db.unit_of_work(SYSTEM) as session:
        await outbox.record(session, *events)
    async with db.unit_of_work(SYSTEM) as session:
        messages = list(await outbox.claim(session, batch=100))
        await outbox.mark_published(session, messages)
    return messages


async def handled(db: Database, message: outbox.Message, handler: str) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        assert await outbox.first_time(session, message.id, handler)


async def given_up(db: Database, message: outbox.Message, handler: str) -> None:
    failed = text(
        "INSERT INTO failed_messages (message_id, handler, error, failed_at, attempts)"
        " VALUES (:id, :handler, 'no', now(), 8)"
    )
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(failed, {"id": message.id, "handler": handler})


async def failures(db: Database) -> list[tuple[str, str, str, int]]:
    async with db.reading(SYSTEM) as session:
        return [(str(f.message_id), f.event, f.handler, f.attempts) for f in await outbox.failures(session)]


async def look(db: Database, *, patience_s: float = 0) -> tuple[int, int]:
    async with db.unit_of_work(SYSTEM) as session:
        return await outbox.republish(session, HANDLERS, patience_s=patience_s)


async def claimable(db: Database) -> list[str]:
    async with db.reading(SYSTEM) as session:
        return [str(message.id) for message in await outbox.claim(session, batch=100)]


async def test_a_message_one_handler_has_not_had_goes_out_again(db: Database) -> None:
    lost, done = await published(db, Carried(number=1), Carried(number=2))
    await handled(db, lost, "one")
    await handled(db, done, "one")
    await handled(db, done, "two")

    assert await look(db) == (1, 1)
    assert await claimable(db) == [str(lost.id)]
    assert await look(db) == (0, 0)


async def test_a_handler_that_gave_up_is_done_with_it(db: Database) -> None:
    (message,) = await published(db, Carried(number=1))
    await handled(db, message, "one")
    await given_up(db, message, "two")

    assert await look(db) == (1, 0)
    assert await claimable(db) == []


async def test_nothing_is_repeated_before_its_time(db: Database) -> None:
    await published(db, Carried(number=1))

    assert await look(db, patience_s=3600) == (0, 0)
    assert await claimable(db) == []


async def test_messages_of_nobody_and_of_a_newer_release_are_not_repeated(db: Database) -> None:
    await published(db, OfNobody(number=1))
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(text("UPDATE outbox SET name = 'newer.event' WHERE name = 'test.carried'"))

    assert await look(db) == (1, 0)


async def test_what_was_given_up_is_told_and_gets_a_second_chance(db: Database) -> None:
    first, second = await published(db, Carried(number=1), Carried(number=2))
    for message in (first, second):
        await handled(db, message, "one")
        await given_up(db, message, "two")
    assert await look(db) == (2, 0)
    assert await failures(db) == [(str(m.id), "test.carried", "two", 8) for m in (first, second)]

    async with db.unit_of_work(SYSTEM) as session:
        assert await outbox.replay(session, [first.id]) == 1
        assert await outbox.replay(session, [first.id, MessageId.new()]) == 0

    assert await claimable(db) == [str(first.id)]
    assert await failures(db) == [(str(second.id), "test.carried", "two", 8)]
    async with db.unit_of_work(SYSTEM) as session:
        assert await outbox.replay(session) == 1
    assert await claimable(db) == [str(first.id), str(second.id)]


async def test_what_was_given_up_is_not_forgotten(db: Database) -> None:
    (message,) = await published(db, Carried(number=1))
    await handled(db, message, "one")
    await given_up(db, message, "two")
    assert await look(db) == (1, 0)
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(text("UPDATE outbox SET handled_at = now() - interval '90 days'"))

    async with db.unit_of_work(SYSTEM) as session:
        assert await outbox.forget(session) == 0
        assert await outbox.replay(session) == 1


async def test_what_is_long_done_is_forgotten_with_its_inbox_rows(db: Database) -> None:
    old, fresh = await published(db, Carried(number=1), Carried(number=2))
    for message in (old, fresh):
        await handled(db, message, "one")
        await handled(db, message, "two")
    assert await look(db) == (2, 0)
    async with db.unit_of_work(SYSTEM) as session:
        aged = text("UPDATE outbox SET handled_at = now() - interval '8 days' WHERE id = :id")
        await session.execute(aged, {"id": old.id})

    async with db.unit_of_work(SYSTEM) as session:
        assert await outbox.forget(session) == 1

    async with db.reading(SYSTEM) as session:
        left = (
            (await session.execute(text("SELECT DISTINCT message_id FROM handled_messages"))).scalars().all()
        )
    assert [outbox.Message(fresh.id, "", {}, "").id] == list(left)
