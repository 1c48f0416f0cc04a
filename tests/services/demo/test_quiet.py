"""Quiet is nothing to do anywhere, also not in the hands of a worker that has just taken it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import redis.asyncio as redis

from infra.config import Settings
from infra.db.session import Database
from infra.messaging.celery_app import QUEUE
from services.demo.quiet import NeverQuiet, Platform


@pytest.fixture
async def platform(broker: str, tmp_path: Path) -> AsyncIterator[Platform]:
    settings = Settings(broker_url=broker, clock_file=tmp_path / "clock")
    async with httpx.AsyncClient() as http:
        platform = Platform(settings, http, admin_key="")
        yield platform
        await platform.close()


async def test_a_task_that_a_worker_has_taken_and_not_yet_noted_is_not_nothing(
    platform: Platform, broker: str, db: Database
) -> None:
    async with redis.from_url(broker, single_connection_client=True) as worker:  # type: ignore[no-untyped-call,unused-ignore]
        await platform.quiet(db)
        await worker.lpush(QUEUE, "task")
        with pytest.raises(NeverQuiet, match="tasks=1"):
            await platform.quiet(db, patience_s=0)
        assert await worker.brpop([QUEUE]) == (QUEUE.encode(), b"task")
        with pytest.raises(NeverQuiet, match="tasks=1"):
            await platform.quiet(db, patience_s=0)

        idle = asyncio.create_task(worker.brpop([QUEUE]))  # done with it, it waits for the next
        await platform.quiet(db)
        await worker.connection.disconnect()  # type: ignore[union-attr,unused-ignore]
        idle.cancel()
        await asyncio.gather(idle, return_exceptions=True)
