"""Check (e) of money.md §5: money that should have moved on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from supply.ledger.chart import Code
from supply.settlement.reconciliation.report import AgedItem

LIMITS = {
    Code.IN_PAYOUT: timedelta(days=1),
    Code.REFUND_PENDING: timedelta(days=3),
    Code.PROVIDER_PENDING: timedelta(hours=1),
    Code.SUSPENSE: timedelta(0),
}
"""2020 one day, 2100 three days, 1000 past its ``available_on`` (an hour for the sweep), 2300 must be zero."""
FEE_UNKNOWN_FOR = timedelta(days=1)
_IN_PAYOUT = text(
    "SELECT 'party:' || payee_id AS owner, currency, sum(amount_minor)::bigint AS minor, min(created_at) AS since"
    " FROM payouts WHERE status IN ('reserved', 'sending') AND provider = :provider AND created_at < :before"
    " GROUP BY payee_id, currency"
)
_REFUNDS = text(
    "SELECT a.owner, a.currency, b.posted_minor AS minor, min(j.posted_at) AS since FROM ledger_accounts a"
    " JOIN ledger_balances b ON b.account_id = a.id AND b.posted_minor > 0"
    " JOIN ledger_entries e ON e.account_id = a.id JOIN ledger_journals j ON j.id = e.journal_id"
    # Owed before and given back since is another matter: from where it was last nothing.
    " WHERE a.code = 2100 AND NOT EXISTS (SELECT FROM ledger_entries z WHERE z.account_id = a.id"
    "  AND z.balance_after = 0 AND z.account_version >= e.account_version)"
    " GROUP BY a.owner, a.currency, b.posted_minor HAVING min(j.posted_at) < :before"
)
_PENDING = text(
    "SELECT charge_id AS owner, coalesce(settled_currency, currency) AS currency, coalesce(net_minor, 0) AS minor,"
    " coalesce(available_on, captured_at) AS since FROM provider_charges WHERE provider = :provider AND NOT available"
    " AND coalesce(available_on < :before, captured_at < :unknown)"
)
_SUSPENSE = text(
    "SELECT n.owner, n.currency, n.balance_minor AS minor,"
    " coalesce((SELECT min(t.created_at) FROM psp_txn t WHERE t.provider = :provider"
    "  AND t.suspended_in IS NOT NULL AND t.currency = n.currency), :before) AS since"
    " FROM ledger_balances_now n WHERE n.code = 2300 AND n.owner = 'psp:' || :provider AND n.balance_minor <> 0"
)


async def aged(session: AsyncSession, provider: str, *, now: datetime) -> list[AgedItem]:
    """Everything beyond its limit, by account and then oldest first."""
    found = []
    for code, statement in (
        (Code.IN_PAYOUT, _IN_PAYOUT),
        (Code.REFUND_PENDING, _REFUNDS),
        (Code.PROVIDER_PENDING, _PENDING),
        (Code.SUSPENSE, _SUSPENSE),
    ):
        limit = LIMITS[code]
        where: dict[str, Any] = {"before": now - limit}
        if code is not Code.REFUND_PENDING:
            where["provider"] = provider
        if code is Code.PROVIDER_PENDING:
            where["unknown"] = now - FEE_UNKNOWN_FOR
        rows = (await session.execute(statement, where)).all()
        found += [
            AgedItem(int(code), row.owner, row.currency, row.minor, row.since, int(limit.total_seconds()))
            for row in sorted(rows, key=lambda row: row.since)
        ]
    return found
