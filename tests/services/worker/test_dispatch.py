"""A message reaches every handler once, whatever one of them does, and is never lost."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from celery.exceptions import Reject
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock, FixedClock
from core.events import Event, event, to_body
from core.ids import MessageId
from infra import outbox
from infra.db.session import Database
from infra.embedded.ports import free_port
from infra.messaging import run as messaging
from infra.observability.context import bind_request_id, request_id
from infra.observability.logs import configure_logging
from services.worker import dispatch
from services.worker.dispatch import ATTEMPTS, UNREADABLE, Delivery, handle, handler_name
from services.worker.subscriptions import SUBSCRIPTIONS
from tests.fixtures.asking import gateways


@event("tests.something_happened")
@dataclass(frozen=True, slots=True)
class SomethingHappened(Event):
    what: str


calls: list[tuple[str, str]] = []


async def on_happened_fails(session: AsyncSession, event: SomethingHappened, *, clock: Clock) -> None:
    calls.append(("fails", request_id()))
    await session.execute(text("SELECT 'half of its work'"))
    await outbox.record(session, SomethingHappened("never"))
    raise RuntimeError("always")


async def on_happened_writes(session: AsyncSession, event: SomethingHappened, *, clock: Clock) -> None:
    calls.append(("writes", request_id()))
    await outbox.record(session, SomethingHappened(f"after {event.what}"))


async def on_happened_outside(db: Database, event: SomethingHappened) -> None:
    calls.append(("outside", request_id()))


@pytest.fixture
def subscribed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An event of the tests beside those of the product; pauses between attempts are short."""
    calls.clear()
    monkeypatch.setitem(
        SUBSCRIPTIONS, SomethingHappened, (on_happened_fails, on_happened_writes, on_happened_outside)
    )
    monkeypatch.setattr(dispatch, "_FIRST_PAUSE_S", 0.0001)
    yield
    bind_request_id("")


def delivery(name: str = "first", request: str = "req-12345678") -> Delivery:
    return Delivery(MessageId.new(), SomethingHappened.name, to_body(SomethingHappened(name)), request)


async def rows(db: Database, sql: str) -> list[Any]:
    async with db.reading(SYSTEM) as session:
        return [tuple(row) for row in await session.execute(text(sql))]


@pytest.mark.usefixtures("subscribed")
async def test_a_handler_that_always_fails_is_parked_and_the_others_go_on(
    db: Database, clock: FixedClock
) -> None:
    message = delivery()
    await handle(gateways(db, clock), message)

    failing, writing = handler_name(on_happened_fails), handler_name(on_happened_writes)
    parked = await rows(db, "SELECT message_id, handler, error, attempts FROM failed_messages")
    assert parked == [(message.message_id, failing, "RuntimeError: always", ATTEMPTS)]
    done = {handler for (handler,) in await rows(db, "SELECT handler FROM handled_messages")}
    assert done == {writing, handler_name(on_happened_outside)}
    # Nothing of the failing one's work is left; the other's event was recorded once.
    assert await rows(db, "SELECT body->>'what' FROM outbox") == [("after first",)]


@pytest.mark.usefixtures("subscribed")
async def test_a_message_that_comes_twice_or_at_two_workers_has_one_effect(
    db: Database, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SUBSCRIPTIONS, SomethingHappened, (on_happened_writes,))
    message = delivery()
    await asyncio.gather(*(handle(gateways(db, clock), message) for _ in range(6)))
    await handle(gateways(db, clock), message)

    assert await rows(db, "SELECT body->>'what' FROM outbox") == [("after first",)]
    assert calls == [("writes", "req-12345678")]


async def test_a_message_nobody_here_knows_is_parked_and_not_lost(db: Database, clock: FixedClock) -> None:
    newer = Delivery(MessageId.new(), "orders.teleported", {"order_id": "?"})
    other_shape = Delivery(MessageId.new(), "orders.placed", {"checkout_id": "not an id"})
    for message in (newer, other_shape):
        await handle(gateways(db, clock), message)

    parked = await rows(db, "SELECT message_id, handler, attempts FROM failed_messages ORDER BY message_id")
    assert parked == [(newer.message_id, UNREADABLE, 1), (other_shape.message_id, UNREADABLE, 1)]


@pytest.mark.usefixtures("subscribed")
async def test_the_request_id_of_the_call_is_in_the_handler_and_in_what_it_records(
    db: Database, clock: FixedClock
) -> None:
    for request in ("req-first-one", "req-second-one"):
        await handle(gateways(db, clock), delivery(request, request))

    assert {name for name, id in calls if id == "req-first-one"} == {"fails", "writes", "outside"}
    assert {name for name, id in calls if id == "req-second-one"} == {"fails", "writes", "outside"}
    recorded = await rows(db, "SELECT request_id, body->>'what' FROM outbox ORDER BY id")
    assert recorded == [("req-first-one", "after req-first-one"), ("req-second-one", "after req-second-one")]


def test_a_task_has_the_context_of_its_own_caller() -> None:
    async def told() -> str:
        return request_id()

    try:
        seen = []
        for request in ("req-first-one", "req-second-one"):
            bind_request_id(request)
            seen.append(messaging.run(told()))
        assert seen == ["req-first-one", "req-second-one"]
    finally:
        bind_request_id("")
        messaging.close()


@pytest.fixture
def logging_restored() -> Iterator[None]:
    """What ``configure_logging`` sets up is the process's; the suite's own is put back."""
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.configure(**before)


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.usefixtures("logging_restored")
def test_no_secret_and_no_person_reaches_the_log(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(style=style)
    log = structlog.get_logger("test")
    bind_request_id("req-12345678")
    token, person = "lyb_live_" + "S3cr3t" * 6, "anna.private@example.com"
    try:
        email = person  # a local variable, as a rich traceback would show it
        try:
            raise RuntimeError(
                f'duplicate key value violates "users_email"\nDETAIL:  Key (email)=({email}) already exists.'
            )
        except RuntimeError as error:
            log.error("unexpected", exc_info=error)
            logging.getLogger("celery.worker").error("task raised", exc_info=error)
        log.info("asked", token=token, body={"email": person, "deep": [{"phone": "13800138000"}]})
        log.warning(f"the header was Bearer {token}")
        logging.getLogger("uvicorn.error").error("bad header %s", token)
    finally:
        bind_request_id("")
    written = "".join(capsys.readouterr())

    assert "unexpected" in written
    assert "RuntimeError" in written
    assert "task raised" in written
    assert written.count("req-12345678") == 3
    for private in (token, person, "13800138000"):
        assert private not in written
    if style == "json":
        lines = [json.loads(line) for line in written.splitlines() if line.startswith("{")]
        assert lines[0]["request_id"] == "req-12345678"


async def test_an_error_of_the_database_names_no_value(db: Database) -> None:
    with pytest.raises(Exception, match="no_such_table") as refused:
        async with db.reading(SYSTEM) as session:
            await session.execute(
                text("SELECT * FROM no_such_table WHERE email = :email"), {"email": "anna@example.com"}
            )
    assert "anna@example.com" not in str(refused.value)


@pytest.mark.usefixtures("logging_restored")
def test_a_batch_the_database_cannot_take_goes_back_to_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    # A task that merely fails is acknowledged, and its messages, long marked as published, would be gone.
    monkeypatch.setenv("APP_DATABASE_URL", f"postgresql://lianyu_app:x@127.0.0.1:{free_port()}/away")
    worker = importlib.import_module("services.worker.app")
    try:
        waiting = {"id": str(MessageId.new()), "name": "orders.placed", "body": {}, "request_id": ""}
        with pytest.raises(Reject) as returned:
            worker.handle_messages.run([waiting])
        assert vars(returned.value)["requeue"] is True
    finally:
        messaging.close()
