"""Wait until the platform has nothing left to do at this instant: then the virtual clock may go on.

Quiet is: paysim owes no webhook, the outbox is empty, no task waits at the broker or is being worked on. The
sweeps are asked for as the beat process asks for them, only at once instead of at their next turn.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import asyncpg
import httpx
import redis.asyncio as redis
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core.actor import SYSTEM
from core.clock import SharedClock
from infra.config import Settings
from infra.db.session import Database
from infra.messaging.celery_app import QUEUE, make_celery
from services.worker.schedule import SWEEPS

SWEEP_TASK = "lianyu.sweep"
_LOOK_AGAIN_S = 0.05
_TAKING = "brpop"
"""How a worker takes a task from the broker; until it has noted the task as its own, only it knows of it."""
_WAITING = text(
    "SELECT (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS waiting, (SELECT count(*) FROM outbox) AS ever"
)


class NeverQuiet(Exception):
    """Work goes on and on, or something waits for ever."""


@dataclass(frozen=True, slots=True)
class Load:
    """``passed`` are the messages and the webhooks there have been: work that moved on between two looks."""

    webhooks: int
    messages: int
    tasks: int
    passed: tuple[int, int] = (0, 0)

    @property
    def none(self) -> bool:
        return not (self.webhooks or self.messages or self.tasks)


class Platform:
    """A look into the machine room: how busy it is, and a hand on the clock."""

    def __init__(self, settings: Settings, http: httpx.AsyncClient, *, admin_key: str) -> None:
        assert settings.clock_file is not None
        self.clock = SharedClock(settings.clock_file)
        self._settings, self._http, self._admin_key = settings, http, admin_key
        self._celery = make_celery(settings.broker_url)
        self._broker = redis.from_url(settings.broker_url)  # type: ignore[no-untyped-call,unused-ignore]

    async def close(self) -> None:
        await self._broker.aclose()

    async def settle(self, db: Database) -> None:
        """Sweep what is due by the clock and wait for quiet. Raises ``NeverQuiet``."""
        await asyncio.to_thread(self._sweep)
        await self.quiet(db)

    def _sweep(self) -> None:
        with self._celery.producer_pool.acquire(block=True) as producer:
            for name in SWEEPS:
                self._celery.send_task(SWEEP_TASK, args=[name], producer=producer, retry=True)

    async def quiet(self, db: Database, *, patience_s: float = 180.0) -> None:
        """Wait for what is under way. Raises ``NeverQuiet``.

        Places are looked at one after the other, and work that passes from one to the next can be missed in both. So
        two looks in a row must find nothing there, and nothing that came between them.
        """
        deadline, before, load = time.monotonic() + patience_s, None, None
        while True:
            try:
                load = await self._load(db)
            except (RedisError, SQLAlchemyError, httpx.HTTPError, OSError, asyncpg.PostgresError) as error:
                load = None  # something is being restarted
                why: object = f"{type(error).__name__}: {error}"
            else:
                why = load
            if load is not None and load.none and load == before:
                return
            before = load
            if time.monotonic() > deadline:
                raise NeverQuiet(f"not quiet after {patience_s:.0f} s: {why}")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _load(self, db: Database) -> Load:
        """What is cheap to ask comes first; the rest is only asked when that is nothing."""
        if tasks := await self._tasks():
            return Load(0, 0, tasks)
        async with db.reading(SYSTEM) as session:
            messages = (await session.execute(_WAITING)).one()
        if messages.waiting:
            return Load(0, messages.waiting, 0)
        due, delivered = await self._webhooks()
        return Load(due, 0, 0, (messages.ever, delivered))

    async def _tasks(self) -> int:
        """Waiting, being worked on, or on the way from the one to the other."""
        async with self._broker.pipeline(transaction=True) as at_once:
            at_once.llen(QUEUE)
            at_once.hlen("unacked")
            at_once.client_list()
            waiting, working, clients = await at_once.execute()
        taking = [each for each in clients if each["cmd"] == _TAKING and "b" not in each["flags"]]
        return int(waiting) + int(working) + len(taking)

    async def _webhooks(self) -> tuple[int, int]:
        """Due, and delivered ever."""
        if not self._settings.stripe_api_base or not self._admin_key:
            return 0, 0
        state = await self._http.get(
            f"{self._settings.stripe_api_base}/_paysim/state",
            headers={"authorization": f"Bearer {self._admin_key}"},
        )
        state.raise_for_status()
        deliveries = state.json()["deliveries"]
        return int(deliveries.get("due", 0)), int(deliveries.get("delivered", 0))
