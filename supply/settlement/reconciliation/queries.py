"""Reads of reconciliation, for the platform: the two figures, the runs, what is open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.pagination import Page, PageRequest, page_of
from supply.settlement.ids import ReconciliationRunId
from supply.settlement.reconciliation.models import State
from supply.settlement.reconciliation.report import Health

HEALTH_DAYS = 30
_HEALTH = text(
    "SELECT coalesce(sum(abs(amount_minor)), 0)::bigint AS volume,"
    " coalesce(sum(abs(amount_minor)) FILTER (WHERE state = 'matched'), 0)::bigint AS matched,"
    " (SELECT count(*) FROM psp_txn WHERE provider = :provider AND state = 'suspended') AS suspended,"
    " least((SELECT min(created_at) FROM psp_txn WHERE provider = :provider AND state <> 'matched'),"
    "  (SELECT min(posted_at) FROM psp_postings WHERE provider = :provider AND state <> 'matched')) AS oldest"
    " FROM psp_txn WHERE provider = :provider AND created_at >= :since"
)
_PROVIDERS = text("SELECT provider FROM psp_cursors ORDER BY provider")
_RUNS = text(
    "SELECT id, provider, cause, started_at, ended_at, rows_from, rows_to, rows_read, rows_new, matched,"
    " differences, ok FROM reconciliation_runs WHERE provider = coalesce(CAST(:provider AS text), provider)"
    " AND (CAST(:after AS uuid) IS NULL OR id < :after) ORDER BY id DESC LIMIT :limit"
)
_REPORT = text("SELECT report FROM reconciliation_runs WHERE id = :id")
_OPEN = text(
    "SELECT id, provider, type, source_id, amount_minor, fee_minor, net_minor, currency, created_at, available_on,"
    " state, finding FROM psp_txn WHERE state <> 'matched'"
    " AND (CAST(:at AS timestamptz) IS NULL OR (created_at, id) > (:at, :id)) ORDER BY created_at, id LIMIT :limit"
)


@dataclass(frozen=True, slots=True)
class RunView:
    id: ReconciliationRunId
    provider: str
    cause: str
    started_at: datetime
    ended_at: datetime
    rows_from: datetime | None
    rows_to: datetime
    rows_read: int
    rows_new: int
    matched: int
    differences: int
    ok: bool


@dataclass(frozen=True, slots=True)
class OpenRow:
    """A row of the provider that no journal explains; ``suspended`` ones lie in 2300."""

    id: str
    provider: str
    type: str
    source_id: str | None
    amount_minor: int
    fee_minor: int
    net_minor: int
    currency: str
    created_at: datetime
    available_on: datetime
    state: State
    finding: str | None


async def health(session: AsyncSession, provider: str, *, now: datetime, days: int = HEALTH_DAYS) -> Health:
    """Share of volume matched and age of the oldest unmatched item. One statement."""
    where = {"provider": provider, "since": now - timedelta(days=days)}
    row = (await session.execute(_HEALTH, where)).one()
    oldest = max(int((now - row.oldest).total_seconds()), 0) if row.oldest else 0
    return Health(provider, days, row.volume, row.matched, oldest, row.suspended)


async def health_of_all(session: AsyncSession, *, now: datetime) -> list[Health]:
    """For every provider that was ever reconciled."""
    providers = list((await session.execute(_PROVIDERS)).scalars())
    return [await health(session, provider, now=now) for provider in providers]


async def runs_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, provider: str | None = None
) -> Page[RunView]:
    """Newest first."""
    actor.require("platform:admin")
    after = UUID(page.key[0]) if page.key else None
    rows = await session.execute(_RUNS, {"provider": provider, "after": after, "limit": page.first + 1})
    views = [RunView(**{**row._mapping, "id": ReconciliationRunId.of(row.id)}) for row in rows]
    return page_of(views, page, lambda view: (view.id.hex,))


async def run_report(
    session: AsyncSession, actor: Actor, run_id: ReconciliationRunId
) -> dict[str, Any] | None:
    """Everything a run found, as ``lianyu reconcile --json`` prints it."""
    actor.require("platform:admin")
    found: dict[str, Any] | None = (await session.execute(_REPORT, {"id": run_id})).scalar_one_or_none()
    return found


async def open_rows_page(session: AsyncSession, actor: Actor, page: PageRequest) -> Page[OpenRow]:
    """Oldest first."""
    actor.require("platform:admin")
    at, row_id = page.key or (None, None)
    where = {"at": datetime.fromisoformat(at) if at else None, "id": row_id, "limit": page.first + 1}
    rows = await session.execute(_OPEN, where)
    views = [OpenRow(**{**row._mapping, "state": State(row.state)}) for row in rows]
    return page_of(views, page, lambda view: (view.created_at.isoformat(), view.id))
