"""Orders credited while the click that won them lay in the edge's spool: what it shows is found once it is home.

A cream of ¥100.00 with 13 % tax inside earns 10 % of ¥88.50: 885; a new customer 20 %: 1,770.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from core.clock import FixedClock
from infra.db.session import Database
from infra.embedded.postgres import APPLICATION, OWNER
from marketplace.promotion.agreements.clauses import SourceTerms
from marketplace.promotion.agreements.terms import Rule, Terms
from tests.conftest import TestDatabase
from tests.factories.fraud import DAY, HOUR, Scene, scene

EARNED = 885


@asynccontextmanager
async def refusing_clicks(postgres: TestDatabase, at: Scene) -> AsyncIterator[None]:
    """The database takes no clicks: the edge's go to its spool. Afterwards they come home."""
    owner = await asyncpg.connect(postgres.url(OWNER))
    (before,) = await at.rows("SELECT count(*) FROM touches")
    try:
        await owner.execute(f"REVOKE INSERT ON touches FROM {APPLICATION}")
        at.away = True
        try:
            yield
            at.away = False
            assert await at.rows("SELECT count(*) FROM touches") == [before]
        finally:
            await owner.execute(f"GRANT INSERT ON touches TO {APPLICATION}")
    finally:
        await owner.close()
    await at.clicks_home()  # all of them: each may lie in a file of its own
    assert await at.rows("SELECT count(*) FROM touches") != [before]


@pytest.fixture
async def at(
    db: Database, clock: FixedClock, postgres: TestDatabase, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    async with scene(db, clock, postgres.url(APPLICATION), tmp_path, terms=request.param) as made:
        yield made


@pytest.mark.parametrize(
    "at", [Terms.flat(100_000, sources=SourceTerms(paid_allowed=False))], indirect=True, ids=["no ads"]
)
async def test_a_bought_click_is_found_when_it_comes_home(at: Scene, postgres: TestDatabase) -> None:
    async with refusing_clicks(postgres, at):
        bought = await at.visit(at.suspect, query="?gclid=Cj0KCQ")
        organic = await at.visit(at.honest)
        at.clock.advance(HOUR)
        orders = [await at.buy(bought), await at.buy(organic)]
        await at.sweep("late_clicks")
        assert await at.lines(*orders) == [("PENDING", EARNED, 0)] * 2
        assert await at.signals() == []

    for _ in range(2):
        await at.sweep("late_clicks")
        assert await at.signals() == [("BANNED_SOURCE", "hold", "OPEN")]
        assert await at.lines(*orders) == [("PENDING", EARNED, 1), ("PENDING", EARNED, 0)]
    assert await at.rows("SELECT order_id FROM credited_sales WHERE click_awaited") == []


@pytest.mark.parametrize(
    "at", [Terms((Rule(100_000, rate_new_ppm=200_000),))], indirect=True, ids=["new 20 %"]
)
async def test_one_browser_of_three_new_customers_is_found_when_its_clicks_come_home(
    at: Scene, postgres: TestDatabase
) -> None:
    async with refusing_clicks(postgres, at):
        first = await at.visit(at.suspect)
        visits = [first, *[await at.visit(at.suspect, cookie=first.cookie) for _ in range(2)]]
        at.clock.advance(HOUR)
        orders = [await at.buy(visit) for visit in visits]
        others = [await at.buy(await at.visit(at.honest)) for _ in range(3)]
        assert await at.lines(*orders, *others) == [("PENDING", 2 * EARNED, 0)] * 6

    for _ in range(2):
        await at.sweep("late_clicks")
        assert await at.signals() == [("DEVICE_REUSE", "deny_new_rate", "OPEN")]
        assert await at.lines(*orders) == [("PENDING", EARNED, 1)] * 3
        assert await at.lines(*others) == [("PENDING", 2 * EARNED, 0)] * 3


@pytest.mark.parametrize("at", [None], indirect=True, ids=["usual"])
async def test_a_click_that_never_comes_home_is_waited_for_no_longer_than_it_matters(
    at: Scene, postgres: TestDatabase
) -> None:
    async with refusing_clicks(postgres, at):
        await at.buy(await at.visit(at.suspect))
        at.clock.advance(90 * DAY)
        await at.sweep("late_clicks")
        assert len(await at.rows("SELECT order_id FROM credited_sales WHERE click_awaited")) == 1
        at.clock.advance(timedelta(minutes=2))
        await at.sweep("late_clicks")
        assert await at.rows("SELECT order_id FROM credited_sales WHERE click_awaited") == []
