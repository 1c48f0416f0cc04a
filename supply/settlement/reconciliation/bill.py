"""A rail that shares payments itself: its daily bill against what it told us, by our own numbers.

There is no balance of ours to compare: the money never was. What can differ is whether a receiver was paid, and how
much. The bill of a day comes when the day (UTC+8) is over; a result told late belongs to the bill of the day it
happened, so each day is compared with the day before it at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone

import orjson
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import Clock
from infra.db.session import Database
from infra.payments.errors import ProviderRefused, ProviderUnavailable
from infra.payments.sharing import BillRow, SharingRail
from supply.settlement.ids import ReconciliationRunId
from supply.settlement.rails.queries import ToldMovement, told_movements
from supply.settlement.reconciliation.findings import Finding

BILL_ZONE = timezone(timedelta(hours=8))
TOLD_LATE = timedelta(days=3)
"""How long after it happened we may have been told of a result."""
PAID = "SUCCESS"
_RECORD = text(
    "INSERT INTO reconciliation_runs (id, provider, cause, started_at, ended_at, rows_from, rows_to, rows_read,"
    " rows_new, matched, differences, ok, report) VALUES (:id, :provider, 'bill', :started_at, :ended_at,"
    " :rows_from, :rows_to, :rows, :rows, :matched, :differences, :ok, CAST(:report AS jsonb))"
)
_DONE = text(
    "SELECT EXISTS (SELECT FROM reconciliation_runs WHERE provider = :provider AND cause = 'bill'"
    " AND rows_to = :rows_to)"
)


@dataclass(frozen=True, slots=True)
class BillDifference:
    """``number`` is our request, ``account`` the receiver. Amounts are what was paid to it: 0 when nothing was."""

    finding: Finding
    payment_id: str
    number: str
    account: str
    billed_minor: int
    recorded_minor: int


@dataclass(frozen=True, slots=True)
class BillReport:
    rail: str
    day: date
    rows: int
    matched: int
    differences: Sequence[BillDifference]

    @property
    def ok(self) -> bool:
        return not self.differences


def compare_bill(
    rows: Sequence[BillRow], before: Sequence[BillRow], told: Sequence[ToldMovement], until: datetime
) -> tuple[int, list[BillDifference]]:
    """How many receivers of the day's bill agree, and what does not. ``told`` reaches beyond ``until``, the end of
    the day, for results we heard of late; only what ended by then must be in one of the two bills."""
    recorded = {(each.number, each.account): each for each in told}
    billed: dict[tuple[str, str], list[BillRow]] = {}
    for row in rows:
        if row.kind == "SHARE" and row.receiver is not None:
            billed.setdefault((row.number, row.receiver.account), []).append(row)
    differences, matched = [], 0
    for key, listed in billed.items():
        finding, paid = _finding(listed, recorded.get(key))
        if finding is None:
            matched += 1
            continue
        ours = recorded.get(key)
        differences.append(
            BillDifference(
                finding, listed[0].payment_id, *key, paid, ours.amount_minor if ours and ours.paid else 0
            )
        )
    earlier = {(row.number, row.receiver.account) for row in before if row.receiver is not None}
    for key, each in recorded.items():
        if each.paid and each.ended_at < until and key not in billed and key not in earlier:
            differences.append(BillDifference(Finding.NO_ROW, each.payment_id, *key, 0, each.amount_minor))
    return matched, differences


def _finding(listed: Sequence[BillRow], ours: ToldMovement | None) -> tuple[Finding | None, int]:
    paid = [row.amount_minor for row in listed if row.result == PAID]
    recorded = ours.amount_minor if ours is not None and ours.paid else 0
    if len(paid) > 1:
        return Finding.DOUBLED, sum(paid)
    if sum(paid) == recorded:
        return None, sum(paid)
    if not recorded:
        return Finding.NO_JOURNAL, sum(paid)
    return (Finding.AMOUNT_DIFFERS if paid else Finding.NO_ROW), sum(paid)


async def reconcile_bill(db: Database, rail: SharingRail, day: date, *, clock: Clock) -> BillReport:
    """Compare one day and record the run. Raises ``ProviderRefused`` (BILL_NOT_READY) while the day lasts."""
    started, name = clock.now(), rail.capabilities().name
    rows = await rail.bill(day)
    before = await _bill_or_none(rail, day - timedelta(days=1))
    since, until = _bounds(day)
    async with db.unit_of_work(SYSTEM) as session:
        told = await told_movements(session, rail=name, since=since, until=until + TOLD_LATE)
        matched, differences = compare_bill(rows, before, told, until)
        report = BillReport(name, day, len(rows), matched, differences)
        values = {
            "id": ReconciliationRunId.new(), "provider": name, "started_at": started, "ended_at": clock.now(),
            "rows_from": since, "rows_to": until, "rows": len(rows), "matched": matched,
            "differences": len(differences), "ok": report.ok,
            "report": orjson.dumps({"day": day, "differences": differences}).decode(),
        }  # fmt: skip
        await session.execute(_RECORD, values)
    return report


async def sweep_bills(db: Database, *, rails: Mapping[str, SharingRail], clock: Clock) -> int:
    """Sweep: yesterday's bill of every rail, once it is there. Returns how many were compared."""
    yesterday = clock.now().astimezone(BILL_ZONE).date() - timedelta(days=1)
    _, until = _bounds(yesterday)
    done = 0
    for name, rail in rails.items():
        async with db.reading(SYSTEM) as session:
            if (await session.execute(_DONE, {"provider": name, "rows_to": until})).scalar_one():
                continue
        try:
            await reconcile_bill(db, rail, yesterday, clock=clock)
        except (ProviderRefused, ProviderUnavailable):
            continue
        done += 1
    return done


async def _bill_or_none(rail: SharingRail, day: date) -> list[BillRow]:
    try:
        return await rail.bill(day)
    except ProviderRefused:
        return []


def _bounds(day: date) -> tuple[datetime, datetime]:
    since = datetime.combine(day, time(), BILL_ZONE).astimezone(UTC)
    return since, since + timedelta(days=1)
