"""`lianyu failed-messages` against a database: told, replayed, gone."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from core.actor import SYSTEM
from core.ids import MessageId
from infra.db.session import Database
from services.cli import build
from tests.conftest import TestDatabase

_MESSAGE = text(
    "INSERT INTO outbox (id, name, body, request_id, recorded_at, available_at, published_at, attempts)"
    " VALUES (:id, 'orders.paid', '{}', '', now(), now(), now(), 1)"
)
_FAILURE = text(
    "INSERT INTO failed_messages (message_id, handler, error, failed_at, attempts)"
    " VALUES (:id, 'supply.somebody', 'ValueError: no', now(), 8)"
)


@pytest.fixture
def lianyu(postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("APP_DATABASE_URL", postgres.url())
    return CliRunner()


async def run(lianyu: CliRunner, *arguments: str) -> Result:
    # The command runs a loop of its own.
    return await asyncio.to_thread(lambda: lianyu.invoke(build(), ["failed-messages", *arguments]))


async def test_a_failed_message_is_told_and_published_again(db: Database, lianyu: CliRunner) -> None:
    message = MessageId.new()
    assert (await run(lianyu)).exit_code == 0
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_MESSAGE, {"id": message})
        await session.execute(_FAILURE, {"id": message})

    told = await run(lianyu, "--json")
    assert told.exit_code == 1
    facts = json.loads(told.stdout)
    assert (facts["failed"], facts["replayed"], facts["rows"][0]["message"]) == (1, 0, str(message))

    other = await run(lianyu, "--replay", "--id", str(MessageId.new()), "--json")
    assert json.loads(other.stdout)["replayed"] == 0

    again = await run(lianyu, "--replay")
    assert again.exit_code == 0
    assert "1 messages published again" in again.stdout
    assert (await run(lianyu)).exit_code == 0
    async with db.reading(SYSTEM) as session:
        waiting = await session.execute(text("SELECT id FROM outbox WHERE published_at IS NULL"))
        assert waiting.scalars().all() == [message]


async def test_an_id_of_another_kind_is_refused(lianyu: CliRunner) -> None:
    refused = await run(lianyu, "--id", "brd_1")
    assert refused.exit_code == 2
