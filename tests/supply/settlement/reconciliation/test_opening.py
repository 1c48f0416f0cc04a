"""An account that was in use before: what it held is booked once, and from then on every cent is compared.

A charge of 103.88 USD costs 3.31 (money.md R2) and is available after two days.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement.parties import platform_account
from supply.settlement.reconciliation.findings import Finding
from supply.settlement.reconciliation.opening import (
    Opening,
    OpeningTooLate,
    OpeningUnclear,
    ReconciliationStarted,
    start_from,
)
from supply.settlement.reconciliation.provider_rows import GatewayRows
from tests.supply.settlement.reconciliation.test_reconcile import cash, findings, suspense

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NET = 10_388 - 331


async def begin(platform: Any, at: datetime) -> list[Opening]:
    return await start_from(
        platform.db, GatewayRows(platform.payments), at, clock=platform.clock, booked_by="test"
    )


async def lived(platform: Any) -> datetime:
    """An old charge, one of yesterday that is not available yet, a refund of it; the moment after."""
    old = await platform.charge()
    platform.clock.advance(3 * DAY)
    yesterday = await platform.charge()
    await platform.payments.refund(charge_or_intent=old, amount_minor=388, key="past")
    assert yesterday != old
    platform.clock.advance(DAY)
    now: datetime = platform.clock.now()
    return now.replace(microsecond=0)


async def opening_balance(platform: Any) -> int:
    async with platform.db.reading(SYSTEM) as session:
        return (await ledger.balance(session, platform_account(Code.OPENING_BALANCE, "USD"))).amount_minor


async def test_what_it_held_is_booked_and_everything_since_agrees(platform: Any) -> None:
    at = await lived(platform)
    (opened,) = await begin(platform, at)
    assert (opened.available_minor, opened.pending_minor) == (NET - 388, NET)
    assert await cash(platform) == (NET, NET - 388)
    assert await opening_balance(platform) == 2 * NET - 388
    await platform.sale()

    report = await platform.reconcile()

    assert report.ok, report
    assert report.rows_from == at
    assert await suspense(platform) == 0
    platform.clock.advance(2 * DAY + HOUR)  # yesterday's charge and the sale become available
    report = await platform.reconcile()
    assert report.ok, report
    assert await cash(platform) == (0, 3 * NET - 388)
    assert (await platform.reconcile(since=at - 30 * DAY)).ok  # asked for, and still nobody's business


async def test_without_a_start_all_of_it_is_suspended_and_a_late_start_takes_it_out_again(
    platform: Any,
) -> None:
    at = await lived(platform)
    await platform.sale()
    platform.clock.advance(2 * HOUR)
    first = await platform.reconcile()
    assert [finding for finding, *_ in findings(first)] == [Finding.NO_JOURNAL] * 3
    assert await suspense(platform) == 2 * NET - 388

    await begin(platform, at)

    report = await platform.reconcile()
    assert report.ok, report
    assert await suspense(platform) == 0
    assert await opening_balance(platform) == 2 * NET - 388


async def test_what_happens_later_to_something_of_before_is_told(platform: Any) -> None:
    old = await platform.charge()
    platform.clock.advance(3 * DAY)
    at = platform.clock.now().replace(microsecond=0)
    await begin(platform, at)
    refund = await platform.payments.refund(charge_or_intent=old, amount_minor=100, key="late")
    platform.clock.advance(2 * HOUR)

    report = await platform.reconcile()

    assert findings(report) == [(Finding.NO_JOURNAL, refund.id, -100, 0)]


async def test_it_begins_once_whoever_asks_and_at_no_other_moment(platform: Any) -> None:
    at = await lived(platform)
    answers = await asyncio.gather(*(begin(platform, at) for _ in range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert await begin(platform, at) == answers[0]
    with pytest.raises(ReconciliationStarted):
        await begin(platform, at - DAY)

    assert await opening_balance(platform) == 2 * NET - 388
    async with platform.db.reading(SYSTEM) as session:
        journals = "SELECT count(*) FROM ledger_journals WHERE kind = 'opening'"
        assert (await session.execute(text(journals))).scalar_one() == 1
        assert await ledger.mismatched_balances(session) == 0
    assert (await platform.reconcile()).ok


async def test_it_cannot_begin_after_our_own_books(platform: Any) -> None:
    await platform.sale()
    platform.clock.advance(DAY)
    with pytest.raises(OpeningTooLate):
        await begin(platform, platform.clock.now())
    assert (await platform.reconcile()).ok  # refused, it left no cut-off behind


async def test_an_account_without_a_history_begins_with_nothing(platform: Any) -> None:
    assert await begin(platform, platform.clock.now()) == []
    await platform.sale()
    assert (await platform.reconcile()).ok


async def test_a_balance_that_its_rows_do_not_explain_is_refused(platform: Any) -> None:
    at = await lived(platform)

    class Forgetful(GatewayRows):
        """A provider that lists nothing of before."""

        def rows(self, since: datetime | None, until: datetime) -> Any:
            return self._payments.balance_transactions(created_from=at, created_to=until)

    with pytest.raises(OpeningUnclear):
        await start_from(
            platform.db, Forgetful(platform.payments), at, clock=platform.clock, booked_by="test"
        )
    assert await opening_balance(platform) == 0
    (opened,) = await begin(platform, at)  # asked again of one that tells
    assert opened.pending_minor == NET
