"""A supplier's own server, and what arrives there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import orjson
import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.events import from_body
from infra.config import Environment, Settings
from infra.db.session import Database
from infra.suppliers.http_endpoint import HttpEndpoint
from infra.suppliers.signing import verify
from services.fulfillment.app import create_app
from services.fulfillment.requests import Services
from supply.fulfillment import handlers, webhooks
from supply.fulfillment.events import FulfillmentOrderSubmitted
from tests.services.fulfillment.conftest import Api

SETTINGS = Settings(env=Environment.TEST)
ENDPOINT = HttpEndpoint(allow_private=True)


@dataclass
class Receiver:
    """Answers each request with the next of ``answers`` (204 when there is none)."""

    url: str = ""
    answers: list[str] = field(default_factory=list)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        self.got.append((headers, await reader.readexactly(int(headers["content-length"]))))
        answer = self.answers.pop(0) if self.answers else "204 No Content"
        writer.write(f"HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    async with server:
        yield made


@pytest.fixture
async def open_api(api: Api, db: Database, clock: FixedClock) -> AsyncIterator[Api]:
    """The same supplier at an API that lets private addresses through."""
    app = create_app(Services(db, clock, SETTINGS, ENDPOINT))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t.test") as client:
        yield Api(client, api.token, api.supplier_id)


async def subscribe(api: Api, receiver: Receiver) -> tuple[str, str]:
    made = await api(
        "POST", "/webhook-endpoints", {"url": receiver.url, "events": ["fulfillment_order.submitted"]}
    )
    assert made.status_code == 201, made.text
    return made.json()["id"], made.json()["secret"]


async def tell(db: Database, clock: FixedClock) -> None:
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(
            text("SELECT name, body FROM outbox WHERE name = 'fulfillment.submitted'")
        )
        events = [from_body(row.name, row.body) for row in rows]
    for event in events:
        assert isinstance(event, FulfillmentOrderSubmitted)
        await handlers.on_submitted(db, event, clock=clock, endpoints=ENDPOINT, settings=SETTINGS)


async def sweep(db: Database, clock: FixedClock) -> int:
    return await webhooks.send_due(db, clock=clock, endpoints=ENDPOINT, settings=SETTINGS)


async def test_a_new_order_arrives_signed_once_and_whole(
    open_api: Api, receiver: Receiver, order: str, db: Database, clock: FixedClock
) -> None:
    _, secret = await subscribe(open_api, receiver)
    await tell(db, clock)
    await tell(db, clock)  # delivered twice by the broker

    ((headers, body),) = receiver.got
    verify([secret], headers, body, now=clock.now())
    message = orjson.loads(body)
    assert message["type"] == "fulfillment_order.submitted"
    told = message["data"]["fulfillment_order"]
    assert (told["id"], told["lines"][0]["quantity"]) == (order, 5)
    assert told["allowed_actions"] == ["accept", "accept_partial", "reject"]
    log = (await open_api("GET", "/webhook-deliveries")).json()["items"]
    assert [(d["id"], d["state"], d["last_status"]) for d in log] == [
        (headers["webhook-id"], "delivered", 204)
    ]


async def test_a_failure_is_tried_again_on_the_schedule_under_the_same_id(
    open_api: Api, receiver: Receiver, order: str, db: Database, clock: FixedClock
) -> None:
    receiver.answers = [
        "500 No",
        "302 Found\r\nlocation: http://127.0.0.1:1/",
        "429 Slow\r\nretry-after: 3600",
    ]
    await subscribe(open_api, receiver)
    await tell(db, clock)
    pauses = [timedelta(seconds=5), timedelta(minutes=5), timedelta(hours=1)]
    for number, pause in enumerate(pauses, start=1):
        assert len(receiver.got) == number
        clock.advance(pause - timedelta(seconds=1))
        assert await sweep(db, clock) == 0
        clock.advance(timedelta(seconds=1))
        assert await sweep(db, clock) == 1

    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    (entry,) = (await open_api("GET", "/webhook-deliveries")).json()["items"]
    assert (entry["state"], entry["attempts"]) == ("delivered", 4)


async def test_gone_means_never_again(
    open_api: Api, receiver: Receiver, order: str, db: Database, clock: FixedClock
) -> None:
    receiver.answers = ["410 Gone"]
    id, _ = await subscribe(open_api, receiver)
    await tell(db, clock)
    (endpoint,) = (await open_api("GET", "/webhook-endpoints")).json()["items"]
    assert (endpoint["status"], endpoint["disabled_reason"]) == ("disabled", "410 Gone")
    clock.advance(timedelta(days=3))
    assert await sweep(db, clock) == 0

    again = await open_api("PATCH", f"/webhook-endpoints/{id}", {"active": True})
    assert (again.json()["status"], again.json()["disabled_reason"]) == ("active", None)
    (entry,) = (await open_api("GET", "/webhook-deliveries")).json()["items"]
    assert (await open_api("POST", f"/webhook-deliveries/{entry['id']}/replay")).status_code == 200
    assert await sweep(db, clock) == 1
    assert [headers["webhook-id"] for headers, _ in receiver.got] == [entry["id"]] * 2


async def test_rotation_signs_with_both_for_a_day(
    open_api: Api, receiver: Receiver, order: str, db: Database, clock: FixedClock
) -> None:
    id, old = await subscribe(open_api, receiver)
    path = f"/webhook-endpoints/{id}/rotate-secret"
    new = (await open_api("POST", path, key="rotate")).json()["secret"]
    assert (await open_api("POST", path, key="rotate")).json()["secret"] == new != old
    await tell(db, clock)
    ((headers, body),) = receiver.got
    verify([old], headers, body, now=clock.now())
    verify([new], headers, body, now=clock.now())


async def test_the_secret_is_kept_nowhere_readable(open_api: Api, receiver: Receiver, db: Database) -> None:
    id, secret = await subscribe(open_api, receiver)
    assert "secret" not in (await open_api("GET", "/webhook-endpoints")).json()["items"][0]
    async with db.reading(SYSTEM) as session:
        stored = await session.execute(
            text(
                "SELECT string_agg(i.answer::text, '') || (SELECT string_agg(encode(secret, 'escape'), '')"
                " FROM webhook_endpoints) FROM idempotency_keys i"
            )
        )
        assert secret.removeprefix("whsec_") not in stored.scalar_one()
    assert (await open_api("DELETE", f"/webhook-endpoints/{id}")).json()["deleted"] is True
    gone = await open_api("DELETE", f"/webhook-endpoints/{id}")
    assert (gone.status_code, gone.json()["code"]) == (404, "WEBHOOK_ENDPOINT_NOT_FOUND")


async def test_inner_addresses_and_unknown_events_are_refused(
    api: Api, open_api: Api, receiver: Receiver
) -> None:
    inner = await api("POST", "/webhook-endpoints", {"url": "https://169.254.169.254/latest"})
    assert (inner.status_code, inner.json()["code"]) == (422, "WEBHOOK_URL_REFUSED")
    unknown = await open_api("POST", "/webhook-endpoints", {"url": receiver.url, "events": ["everything"]})
    assert (unknown.status_code, unknown.json()["code"]) == (422, "UNKNOWN_WEBHOOK_EVENT")
