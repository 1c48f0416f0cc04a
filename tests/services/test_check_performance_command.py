"""`lianyu check-performance`: what it says of sums that are right, and of sums that were changed."""

from __future__ import annotations

import asyncio
import json

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId
from infra.db.session import Database
from services.cli import build
from tests.conftest import TestDatabase
from tests.factories import promotion as make
from tests.factories.brands import brand_actor


@pytest.fixture
def lianyu(postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("APP_DATABASE_URL", postgres.url())
    return CliRunner()


async def test_differences_are_told_and_written_again(
    lianyu: CliRunner, db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(
            session, brand_actor(BrandId.new()), brand_actor(BrandId.new()), clock, make.TEN_PERCENT
        )
        link = await make.link(session, market, clock)
        await make.click(session, link, clock.now())

    async def told(*options: str) -> tuple[int, str]:
        answer = await asyncio.to_thread(lianyu.invoke, build(), ["check-performance", *options])
        return answer.exit_code, answer.output

    code, output = await told()
    assert (code, "Every day of every link agrees" in output) == (0, True)
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(text("UPDATE link_performance SET unique_clicks = 5"))
    code, output = await told("--json")
    assert (code, json.loads(output)["rows"]) == (
        1, [{"link_id": str(link.id), "day": "2026-03-02", "currency": "XXX"}],
    )  # fmt: skip
    assert (await told("--until", "2026-03-01"))[0] == 0
    assert (await told("--rebuild"))[0] == 0
    assert (await told())[0] == 0
