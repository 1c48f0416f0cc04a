"""Outbox → broker. Woken by NOTIFY, polls once a second besides; several may run, SKIP LOCKED parts them.

`python -m services.worker.relay`. A message is marked published in the transaction that claimed it, after the
broker took it: a crash in between publishes it again, and the handlers' inbox makes that harmless.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import structlog
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from core.actor import SYSTEM
from infra import outbox
from infra.config import Settings
from infra.db.session import Database
from infra.messaging.celery_app import make_celery
from services.wiring import make_database, read_settings

HANDLE = "lianyu.handle"
BATCH = 200
_PER_TASK = 10
_POLL_S = 1.0
_PAUSE_AFTER_FAILURE_S = 0.5
log = structlog.get_logger("relay")


class Relay:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._db: Database = make_database(settings)
        self._celery: Celery = make_celery(settings.broker_url)
        self._bell = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Until told to stop. A lost database or broker is waited for; nothing is skipped."""
        listener = asyncio.create_task(self._listen())
        while not self._stopping.is_set():
            try:
                moved = await relay_batch(self._db, self._celery)
            except (SQLAlchemyError, OSError, asyncpg.PostgresError, OperationalError) as error:
                log.warning("waiting for database or broker", error=type(error).__name__)
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)
                continue
            if moved < BATCH:
                await self._wait()
        listener.cancel()
        await self._db.close()

    def stop(self) -> None:
        self._stopping.set()
        self._bell.set()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._bell.wait(), _POLL_S)
        self._bell.clear()

    async def _listen(self) -> None:
        """A connection of its own that rings the bell; opened again whenever it is lost."""
        while True:
            try:
                connection = await asyncpg.connect(self._settings.app_database_url)
                lost = asyncio.Event()
                connection.add_termination_listener(_setter(lost))
                await connection.add_listener(outbox.CHANNEL, lambda *_: self._bell.set())
                self._bell.set()
                await lost.wait()
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(_PAUSE_AFTER_FAILURE_S)


def _setter(event: asyncio.Event) -> Callable[[Any], None]:
    return lambda _: event.set()


async def relay_batch(db: Database, celery: Celery) -> int:
    """Move the oldest messages to the broker. Returns how many."""
    async with db.unit_of_work(SYSTEM) as session:
        messages = await outbox.claim(session, batch=BATCH)
        if messages:
            await asyncio.to_thread(_publish, celery, messages)
            await outbox.mark_published(session, messages)
    return len(messages)


def _publish(celery: Celery, messages: Sequence[outbox.Message]) -> None:
    rows: list[dict[str, Any]] = [
        {"id": str(m.id), "name": m.name, "body": m.body, "request_id": m.request_id} for m in messages
    ]
    with celery.producer_pool.acquire(block=True) as producer:
        for start in range(0, len(rows), _PER_TASK):
            celery.send_task(HANDLE, args=[rows[start : start + _PER_TASK]], producer=producer, retry=False)


async def _main() -> None:
    relay = Relay(read_settings())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relay.stop)
    await relay.run()


if __name__ == "__main__":
    asyncio.run(_main())
