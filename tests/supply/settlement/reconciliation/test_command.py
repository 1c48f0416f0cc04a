"""`lianyu reconcile` against a provider and a database: what it prints, and what it exits with."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from typer.testing import CliRunner

from core.actor import SYSTEM
from marketplace.orders.events import ProviderNotified
from marketplace.orders.payout_notices import RECONCILED, on_payout_notified
from services.cli import build
from supply.settlement.reconciliation import queries
from tests.conftest import TestDatabase
from tests.fixtures.http import serving

_suite = sys.modules["tests.paysim.conftest"]


@pytest.fixture
def lianyu(fresh: Any, postgres: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.setenv("APP_DATABASE_URL", postgres.url())
    monkeypatch.setenv("STRIPE_API_BASE", fresh.url)
    monkeypatch.setenv("STRIPE_API_KEY", _suite.SECRET_KEY)
    monkeypatch.setenv("LIANYU_CLOCK_FILE", str(fresh.data_dir / "clock"))
    return CliRunner()


async def test_it_exits_with_nothing_when_every_cent_agrees_and_with_one_when_not(
    platform: Any, lianyu: CliRunner
) -> None:
    await platform.sale()
    told = await asyncio.to_thread(lianyu.invoke, build(), ["reconcile"])
    assert told.exit_code == 0, told.output
    assert "1 rows read, 1 new, 1 matched now" in told.output
    assert "103.88" not in told.output  # nothing differs, so no amounts but the balance
    assert "100.57 USD" in told.output
    assert "Every cent agrees." in told.output

    stranger = await platform.charge(5_000)
    platform.clock.advance(timedelta(hours=2))
    told = await asyncio.to_thread(lianyu.invoke, build(), ["reconcile", "--json"])
    assert told.exit_code == 1
    report = json.loads(told.stdout)
    assert [(d["finding"], d["reference"]) for d in report["differences"]] == [("no_journal", stranger)]
    assert report["health"]["oldest_unmatched_s"] == 7_200
    # 103.88 of 153.88 are matched: 675,071 millionths.
    assert report["health"]["matched_ppm"] == 10_388 * 1_000_000 // 15_388

    told = await asyncio.to_thread(lianyu.invoke, build(), ["reconcile"])
    assert told.exit_code == 1
    assert "in suspense" in told.output
    assert "2300" in told.output


async def test_an_account_with_a_history_is_begun_with_from_a_day(platform: Any, lianyu: CliRunner) -> None:
    await platform.charge()
    platform.clock.advance(timedelta(days=3))
    await platform.sale()
    today = platform.clock.now().date()

    told = await asyncio.to_thread(lianyu.invoke, build(), ["reconcile", "--start-from", f"{today}"])

    assert told.exit_code == 0, told.output
    assert "with 100.57 USD available and 0.00 USD pending (account 3000)" in " ".join(told.output.split())
    yesterday = today - timedelta(days=1)
    told = await asyncio.to_thread(lianyu.invoke, build(), ["reconcile", "--start-from", f"{yesterday}"])
    assert told.exit_code == 2
    assert "RECONCILIATION_STARTED" in told.stderr


async def test_the_providers_notice_starts_a_run_and_the_gauges_tell_it(
    platform: Any, lianyu: CliRunner
) -> None:
    await platform.sale()
    notice = ProviderNotified(event_id="evt_1", type=RECONCILED, object_id="po_1")
    await on_payout_notified(platform.db, notice, payments=platform.payments, clock=platform.clock)
    async with platform.db.reading(SYSTEM) as session:
        (health,) = await queries.health_of_all(session, now=platform.clock.now())
    assert (health.matched_ppm, health.oldest_unmatched_s) == (1_000_000, 0)
    async with serving(platform.db, platform.clock) as served:
        told = (await served.api.get("/metrics")).text
    assert 'lianyu_reconciliation_matched_ratio{provider="stripe"} 1.0' in told
    assert 'lianyu_reconciliation_oldest_unmatched_seconds{provider="stripe"} 0.0' in told
