"""Reconciliation: read what the provider says, book what only it knows, match, suspend, check, and say so.

Three callers, one verb: the daily sweep, the provider's notice that a payout was reconciled, and somebody who asks.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from infra.db.session import Database
from infra.payments.errors import ProviderUnavailable
from infra.payments.gateway import Balance, PaymentGateway
from supply.settlement.ids import ReconciliationRunId
from supply.settlement.provider_funds import funds_available
from supply.settlement.reconciliation import booking, came_back, matching, rounding, unexplained
from supply.settlement.reconciliation.aged import aged
from supply.settlement.reconciliation.balances import (
    BATCHES_FOR,
    automatic_payout_difference,
    check_balances,
    check_batches,
)
from supply.settlement.reconciliation.intake import Read, read_until_still
from supply.settlement.reconciliation.postings import resolve_postings
from supply.settlement.reconciliation.provider_rows import GatewayRows, ProviderRows
from supply.settlement.reconciliation.queries import health
from supply.settlement.reconciliation.report import Difference, Report

EVERY = timedelta(days=1)
ON_DEMAND = "demand"
_LOCK = text("SELECT 1 FROM psp_cursors WHERE provider = :provider FOR UPDATE")
_RECENT = text(
    "SELECT EXISTS (SELECT FROM reconciliation_runs WHERE provider = :provider AND started_at > :after"
    " AND cause = 'schedule')"
)
_RECORD = text(
    "INSERT INTO reconciliation_runs (id, provider, cause, started_at, ended_at, rows_from, rows_to, rows_read,"
    " rows_new, matched, differences, ok, report) VALUES (:id, :provider, :cause, :started_at, :ended_at,"
    " :rows_from, :rows_to, :rows_read, :rows_new, :matched, :differences, :ok, CAST(:report AS jsonb))"
)
log = structlog.get_logger("reconciliation")


async def reconcile(
    db: Database,
    provider: ProviderRows,
    *,
    clock: Clock,
    cause: str = ON_DEMAND,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Report:
    """One run. ``since`` and ``until`` read that window again; without them it goes on where the last one ended.

    Safe at any time, any number at once: rows are kept once each, journals have fixed keys, and matching holds the
    provider's cursor. Raises ``ProviderUnavailable``; what was read by then is kept.
    """
    started = clock.now()
    read, balance = await read_until_still(db, provider, now=started, since=since, until=until)
    payouts = [
        found
        async for payout, rows in provider.automatic_payouts(started - BATCHES_FOR)
        if (
            found := automatic_payout_difference(
                payout.id,
                payout.currency,
                payout.amount_minor,
                [row.net_minor for row in rows],
                payout.created_at,
            )
        )
    ]
    await booking.book_fees(db, provider.name, now=started)
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_LOCK, {"provider": provider.name})
        await booking.book_own_charges(session, provider.name, now=started)
        await unexplained.make_available(session, provider.name, now=started)
    while await funds_available(db, clock=clock):
        pass
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_LOCK, {"provider": provider.name})
        report = await _compare(
            session, provider, read, balance, clock=clock, cause=cause, started=started, payouts=payouts
        )
        await _record(session, report, clock.now())
    if not report.ok and cause != ON_DEMAND:  # whoever asks reads the report
        log.error(
            "the provider's book and ours differ",
            provider=provider.name,
            differences=len(report.counted),
            aged=len(report.aged),
            balances=[check.currency for check in report.balances if check.finding],
        )
    return report


async def _compare(
    session: AsyncSession,
    provider: ProviderRows,
    read: Read,
    balance: Balance | None,
    *,
    clock: Clock,
    cause: str,
    started: datetime,
    payouts: list[Difference],
) -> Report:
    name = provider.name
    await provider.collect_ours(session)
    await resolve_postings(session, name)
    if await booking.book_conversions(session, name, now=started):
        await provider.collect_ours(session)
        await resolve_postings(session, name)
    matched = await matching.match(session, name, now=started)
    matched += await came_back.set_aside(session, name, now=started)
    await unexplained.explain(session, name, matched, now=started)
    groups = await matching.disagreeing(session, name)
    if await rounding.absorb(session, name, groups, now=started):
        await provider.collect_ours(session)
        await resolve_postings(session, name)
        matched += await matching.match(session, name, now=started)
        groups = await matching.disagreeing(session, name)
    if await unexplained.suspend(session, name, groups, now=started):
        groups = await matching.disagreeing(session, name)
    await matching.note(session, name, groups)
    differences = [found for group in groups for found in group.differences(started)]
    differences += await check_batches(session, name, now=started) + payouts
    return Report(
        id=ReconciliationRunId.new(),
        provider=name,
        cause=cause,
        started_at=started,
        rows_from=read.since,
        rows_to=read.until,
        rows_read=read.rows,
        rows_new=read.new,
        matched=len(matched),
        differences=differences,
        balances=await check_balances(session, name, balance, now=started),
        aged=await aged(session, name, now=started),
        health=await health(session, name, now=started),
    )


async def _record(session: AsyncSession, report: Report, now: datetime) -> None:
    values = {
        "id": report.id, "provider": report.provider, "cause": report.cause, "started_at": report.started_at,
        "ended_at": now, "rows_from": report.rows_from, "rows_to": report.rows_to,
        "rows_read": report.rows_read, "rows_new": report.rows_new, "matched": report.matched,
        "differences": len(report.counted), "ok": report.ok,
        "report": orjson.dumps(report.as_json()).decode(),
    }  # fmt: skip
    await session.execute(_RECORD, values)


async def sweep_reconciliation(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: once a day by the clock. 1 when it ran."""
    rows, now = GatewayRows(payments), clock.now()
    async with db.reading(SYSTEM) as session:
        where = {"provider": rows.name, "after": now - EVERY}
        if (await session.execute(_RECENT, where)).scalar_one():
            return 0
    try:
        await reconcile(db, rows, clock=clock, cause="schedule")
    except ProviderUnavailable:
        return 0
    return 1
