"""The outbox reaches a real broker: every message at least once, marked only when the broker has it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CheckoutId, OrderId
from infra import outbox
from infra.db.session import Database
from infra.embedded.ports import free_port
from infra.embedded.valkey import EmbeddedValkey
from infra.messaging.celery_app import QUEUE, make_celery
from infra.observability.context import bind_request_id
from marketplace.orders.events import CheckoutPlaced
from services.worker.relay import BATCH, HANDLE, relay_batch


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.remove()


@pytest.fixture
def celery(broker: EmbeddedValkey) -> Iterator[Celery]:
    redis.Redis.from_url(broker.url()).flushall()
    app = make_celery(broker.url())
    yield app
    app.close()


async def recorded(db: Database, clock: FixedClock, count: int, request: str = "") -> None:
    bind_request_id(request)
    try:
        async with db.unit_of_work(SYSTEM) as session:
            for _ in range(count):
                await outbox.record(session, CheckoutPlaced(CheckoutId.new(), (OrderId.new(),), clock.now()))
    finally:
        bind_request_id("")


async def published(db: Database) -> dict[str, bool]:
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(text("SELECT id, published_at IS NOT NULL FROM outbox"))
        return {str(outbox.Message(row[0], "", {}, "").id): row[1] for row in rows}


def with_the_broker(broker: EmbeddedValkey) -> list[dict[str, Any]]:
    """The deliveries in every task that waits, in order of arrival."""
    raw = redis.Redis.from_url(broker.url()).lrange(QUEUE, 0, -1)
    found: list[dict[str, Any]] = []
    assert isinstance(raw, list)
    for each in reversed(raw):
        envelope = json.loads(each)
        assert envelope["headers"]["task"] == HANDLE
        (deliveries,), _, _ = json.loads(base64.b64decode(envelope["body"]))
        found += deliveries
    return found


async def test_every_message_is_published_once_in_order_and_marked(
    db: Database, clock: FixedClock, celery: Celery, broker: EmbeddedValkey
) -> None:
    await recorded(db, clock, 25, request="req-12345678")

    assert await relay_batch(db, celery) == 25
    assert await relay_batch(db, celery) == 0

    deliveries = with_the_broker(broker)
    ids = [each["id"] for each in deliveries]
    assert len(set(ids)) == len(ids) == 25
    assert ids == sorted(ids)
    assert {each["request_id"] for each in deliveries} == {"req-12345678"}
    assert all((await published(db)).values())


async def test_several_relays_share_the_messages(
    db: Database, clock: FixedClock, celery: Celery, broker: EmbeddedValkey
) -> None:
    await recorded(db, clock, BATCH + 50)
    moved = 0
    while sum(batch := await asyncio.gather(*(relay_batch(db, celery) for _ in range(3)))):
        moved += sum(batch)

    ids = [each["id"] for each in with_the_broker(broker)]
    assert moved == BATCH + 50 == len(ids) == len(set(ids))


async def test_what_the_broker_did_not_take_waits_and_is_not_marked(
    db: Database, clock: FixedClock, celery: Celery, broker: EmbeddedValkey
) -> None:
    await recorded(db, clock, 3)
    away = make_celery(f"redis://127.0.0.1:{free_port()}/0")
    away.conf.broker_transport_options = {"max_retries": 0, "socket_connect_timeout": 1}

    with pytest.raises(OperationalError):
        await relay_batch(db, away)
    assert not any((await published(db)).values())

    assert await relay_batch(db, celery) == 3
    assert len(with_the_broker(broker)) == 3
