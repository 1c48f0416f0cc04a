"""How often a party is settled: by default every month in UTC, until it is agreed otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import TenantId
from core.money import PPM
from infra.db.session import Database
from supply.settlement.errors import BadSettlementTerms
from supply.settlement.parties import owner_of, party_of, tenant_of
from supply.settlement.statements.cycles import Cycle, period_at

DEFAULT_CYCLE, DEFAULT_ZONE = Cycle.MONTHLY, "UTC"
PARTIES_AT_ONCE = 5_000
LONGEST_RESERVE_DAYS = 365

# Every party with an account in the books and no terms yet, and when it first earned or owed anything.
_NEW = text(
    "SELECT a.owner, a.currency, min(a.tenant_id::text) AS tenant_id, min(first.posted_at) AS first_at"
    " FROM ledger_accounts a LEFT JOIN LATERAL (SELECT j.posted_at FROM ledger_entries e"
    "   JOIN ledger_journals j ON j.id = e.journal_id WHERE e.account_id = a.id ORDER BY e.txid LIMIT 1) first ON true"
    " WHERE a.code IN (1100, 2000, 2010, 2020, 2030) AND a.owner LIKE 'party:%'"
    " AND NOT EXISTS (SELECT FROM settlement_terms t WHERE t.payee_id = substr(a.owner, 7)"
    "   AND t.currency = a.currency) GROUP BY a.owner, a.currency LIMIT :limit"
)
_OPEN = text(
    "INSERT INTO settlement_terms (payee_id, currency, tenant_id, cycle, time_zone, reserve_ppm, reserve_days,"
    " legal_name, tax_id, open_from, due_at)"
    " SELECT n.payee_id, n.currency, n.tenant_id, :cycle, :zone, 0, 0, '', '', n.open_from, n.due_at"
    " FROM unnest(CAST(:payees AS text[]), CAST(:currencies AS bpchar[]), CAST(:tenants AS uuid[]),"
    "  CAST(:froms AS timestamptz[]), CAST(:dues AS timestamptz[]))"
    "  AS n (payee_id, currency, tenant_id, open_from, due_at) ORDER BY n.payee_id, n.currency"
    " ON CONFLICT (payee_id, currency) DO NOTHING"
)
_TENANT = text(
    "SELECT tenant_id FROM ledger_accounts WHERE owner = :owner AND code IN (1100, 2000, 2010)"
    " AND tenant_id IS NOT NULL LIMIT 1"
)
_FIND = text("SELECT * FROM settlement_terms WHERE payee_id = :payee_id AND currency = :currency")
_LOCK = text(
    "SELECT * FROM settlement_terms WHERE payee_id = :payee_id AND currency = :currency FOR NO KEY UPDATE"
)
_SET = text(
    "UPDATE settlement_terms SET cycle = :cycle, time_zone = :time_zone, reserve_ppm = :reserve_ppm,"
    " reserve_days = :reserve_days, legal_name = :legal_name, tax_id = :tax_id, due_at = :due_at,"
    " tenant_id = coalesce(tenant_id, :tenant_id) WHERE payee_id = :payee_id AND currency = :currency"
)


@dataclass(frozen=True, slots=True)
class TermsView:
    """``reserve_ppm`` of what was released in the last ``reserve_days`` stays with the platform."""

    payee_id: str
    currency: str
    cycle: Cycle
    time_zone: str
    reserve_ppm: int
    reserve_days: int
    legal_name: str
    tax_id: str
    open_from: datetime
    due_at: datetime


async def settlement_terms(session: AsyncSession, payee_id: str, currency: str) -> TermsView | None:
    """What a party is settled by; None before it ever had an account."""
    row = (await session.execute(_FIND, {"payee_id": payee_id, "currency": currency})).one_or_none()
    return None if row is None else _view(row)


async def set_settlement_terms(
    session: AsyncSession,
    payee_id: str,
    *,
    currency: str,
    now: datetime,
    cycle: Cycle | None = None,
    time_zone: str | None = None,
    reserve_ppm: int | None = None,
    reserve_days: int | None = None,
    legal_name: str | None = None,
    tax_id: str | None = None,
    tenant_id: TenantId | None = None,
) -> TermsView:
    """Change what is given. A new cycle holds from the open statement on: it ends where the new cycle's period
    that holds its beginning (or now, when that is later) ends. Raises ``BadSettlementTerms``,
    ``UnknownTimeZone``.
    """
    if not 0 <= (reserve_ppm or 0) <= PPM:
        raise BadSettlementTerms("reservePpm: 0 to 1000000", field="reservePpm")
    if not 0 <= (reserve_days or 0) <= LONGEST_RESERVE_DAYS:
        raise BadSettlementTerms(f"reserveDays: 0 to {LONGEST_RESERVE_DAYS}", field="reserveDays")
    owner = tenant_id or tenant_of(payee_id)
    await _open(session, [(payee_id, currency, owner, now)])
    key = {"payee_id": payee_id, "currency": currency}
    row = (await session.execute(_LOCK, key)).one()
    values: dict[str, Any] = {
        "cycle": row.cycle if cycle is None else cycle.value,
        "time_zone": row.time_zone if time_zone is None else time_zone,
        "reserve_ppm": row.reserve_ppm if reserve_ppm is None else reserve_ppm,
        "reserve_days": row.reserve_days if reserve_days is None else reserve_days,
        "legal_name": row.legal_name if legal_name is None else legal_name,
        "tax_id": row.tax_id if tax_id is None else tax_id,
        "tenant_id": owner,
    }
    _, due_at = period_at(Cycle(values["cycle"]), values["time_zone"], max(now, row.open_from))
    changed = (values["cycle"], values["time_zone"]) != (row.cycle, row.time_zone)
    values["due_at"] = due_at if changed else row.due_at
    await session.execute(_SET, {**key, **values})
    return _view((await session.execute(_FIND, key)).one())


async def open_terms(db: Database, *, clock: Clock) -> int:
    """Sweep: parties that are new in the books get the usual terms; how many that were."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        new = (await session.execute(_NEW, {"limit": PARTIES_AT_ONCE})).all()
        parties = [
            (party_of(r.owner), r.currency, TenantId(r.tenant_id) if r.tenant_id else None, r.first_at or now)
            for r in new
        ]
        if parties:
            await _open(session, parties)
    return len(parties)


async def _open(session: AsyncSession, parties: Sequence[tuple[str, str, TenantId | None, datetime]]) -> None:
    periods = [period_at(DEFAULT_CYCLE, DEFAULT_ZONE, at) for _, _, _, at in parties]
    await session.execute(
        _OPEN,
        {
            "cycle": DEFAULT_CYCLE.value,
            "zone": DEFAULT_ZONE,
            "payees": [payee for payee, _, _, _ in parties],
            "currencies": [currency for _, currency, _, _ in parties],
            "tenants": [tenant for _, _, tenant, _ in parties],
            "froms": [start for start, _ in periods],
            "dues": [end for _, end in periods],
        },
    )


async def lock_terms(session: AsyncSession, payee_id: str, currency: str, *, at: datetime) -> Any:
    """A party's terms under their lock, made when missing: whoever closes its statements holds them."""
    owner = tenant_of(payee_id)
    if owner is None:
        found = (await session.execute(_TENANT, {"owner": owner_of(payee_id)})).scalar_one_or_none()
        owner = TenantId.of(found) if found else None
    await _open(session, [(payee_id, currency, owner, at)])
    return (await session.execute(_LOCK, {"payee_id": payee_id, "currency": currency})).one()


def _view(row: Any) -> TermsView:
    return TermsView(
        row.payee_id, row.currency, Cycle(row.cycle), row.time_zone, row.reserve_ppm, row.reserve_days,
        row.legal_name, row.tax_id, row.open_from, row.due_at,
    )  # fmt: skip
