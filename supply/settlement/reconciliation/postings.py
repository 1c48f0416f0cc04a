"""Our side: what every journal did to the provider's accounts, read once from the ledger's entries.

Read from where the last time's transaction horizon was: below it no entry can appear any more, and what was
seen above it is met again and known.
"""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from supply.settlement.kinds import Kind

_NOT_OURS_TO_MATCH = [Kind.ROW_SUSPENDED.value, Kind.ROW_EXPLAINED.value]
"""Journals that stand for a row nobody could explain match nothing."""
_HORIZON = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
_COLLECT = text(
    "INSERT INTO psp_postings (journal_id, currency, provider, key, kind, role, ref, inward, amount_minor,"
    " available_minor, posted_at, state)"
    " SELECT j.id, e.currency, c.provider, j.idem, j.kind, CASE j.kind WHEN 'provider_fee' THEN 'fee'"
    "  WHEN 'conversion' THEN 'conversion' ELSE 'amount' END, coalesce(j.provider_ref, j.idem),"
    "  sum(e.amount_minor) > 0, sum(e.amount_minor), coalesce(sum(e.amount_minor) FILTER (WHERE a.code = 1010), 0),"
    "  j.posted_at, 'open'"
    " FROM psp_cursors c JOIN ledger_accounts a ON a.owner = 'psp:' || c.provider AND a.code IN (1000, 1010)"
    " JOIN ledger_entries e ON e.account_id = a.id AND e.txid >= c.postings_to"
    " JOIN ledger_journals j ON j.id = e.journal_id"
    " WHERE c.provider = :provider AND NOT j.kind = ANY(:without)"
    " GROUP BY c.provider, j.id, e.currency, j.idem, j.kind, j.provider_ref, j.posted_at"
    " HAVING sum(e.amount_minor) <> 0"
    " ON CONFLICT (journal_id, currency) DO NOTHING RETURNING 1"
)
_READ_TO = text(
    "UPDATE psp_cursors SET postings_to = CAST(CAST(:horizon AS text) AS xid8) WHERE provider = :provider"
)
# A fee and a conversion name the provider's row; they belong to what the row is about.
_RESOLVE = text(
    "UPDATE psp_postings p SET ref = t.ref, inward = t.inward FROM psp_txn t"
    " WHERE p.provider = :provider AND p.state <> 'matched' AND t.provider = p.provider AND t.id = p.ref"
    " AND (t.ref, t.inward) IS DISTINCT FROM (p.ref, p.inward)"
)


async def collect_postings(session: AsyncSession, provider: str) -> int:
    """Needs the provider's cursor locked. Returns how many postings are new."""
    horizon = (await session.execute(_HORIZON)).scalar_one()
    values = {"provider": provider, "without": _NOT_OURS_TO_MATCH}
    new = len((await session.execute(_COLLECT, values)).all())
    await session.execute(_READ_TO, {"provider": provider, "horizon": horizon})
    return new


async def resolve_postings(session: AsyncSession, provider: str) -> None:
    """Bring postings that name a row of the provider to the group of what that row is about."""
    await session.execute(_RESOLVE, {"provider": provider})
