"""Random lives, one after the other, each in a transaction that is rolled back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database, make_engine
from tests.factories.settlement import PAID_AT


class RandomLife(Protocol):
    """What can happen to money, step by step, and what must hold after each."""

    async def begin(self) -> None: ...
    async def step(self) -> None: ...
    async def check(self) -> None: ...


def live_at_random(
    db: Database,
    life_of: Callable[[AsyncSession, FixedClock, random.Random], RandomLife],
    *,
    lives: int,
    steps: int,
) -> None:
    """``lives`` lives of ``steps`` steps, checked after every one; the same ones every time."""
    loop = asyncio.new_event_loop()
    engine = make_engine(db.engine.url.render_as_string(hide_password=False), pool_size=1)
    fresh = Database(engine)

    async def live(seed: int) -> None:
        async with fresh.reading(SYSTEM) as session:
            life = life_of(session, FixedClock(PAID_AT), random.Random(seed))
            await life.begin()
            await life.check()
            for _ in range(steps):
                await life.step()
                await life.check()

    @settings(max_examples=lives, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(st.integers(0, 10**9))
    def run(seed: int) -> None:
        loop.run_until_complete(live(seed))

    run()
    loop.run_until_complete(fresh.close())
    loop.close()
