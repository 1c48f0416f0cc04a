"""What left the provider and came back unbooked: a refund from its own desk that failed. Told once, set aside then.

Out and back cancel. Converted rows went at the rate of their own moments; the difference is the exchange result (5040).
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.kinds import Kind
from supply.settlement.parties import platform_account, provider_account

# While one of them is not available yet the two do not cancel on our accounts either.
_SET_ASIDE = text(
    "UPDATE psp_txn t SET state = 'matched', finding = NULL, matched_at = :now FROM ("
    "  SELECT ref FROM psp_txn o WHERE provider = :provider AND state <> 'matched' GROUP BY ref"
    "  HAVING bool_and(state = 'suspended' AND suspended_in = 1010) AND bool_or(inward) AND bool_or(NOT inward)"
    "  AND count(DISTINCT currency) = 1 AND (sum(net_minor) = 0 OR bool_and(exchange_rate IS NOT NULL))) both_ways"
    " WHERE t.provider = :provider AND t.ref = both_ways.ref AND t.state = 'suspended'"
    " AND NOT EXISTS (SELECT FROM psp_postings p WHERE p.provider = :provider AND p.ref = t.ref)"
    " RETURNING t.id, t.ref, t.currency, t.net_minor"
)


async def set_aside(session: AsyncSession, provider: str, *, now: datetime) -> list[str]:
    """The rows matched by this; they still lie in suspense (``unexplained.explain``)."""
    rows = (await session.execute(_SET_ASIDE, {"provider": provider, "now": now})).all()
    results = Counter[tuple[str, str]]()
    for row in rows:
        results[row.ref, row.currency] += row.net_minor
    journals = [
        _exchange_result(provider, ref, currency, result, now)
        for (ref, currency), result in sorted(results.items())
        if result
    ]
    await ledger.post_together(session, journals, now=now)
    return [row.id for row in rows]


def _exchange_result(provider: str, ref: str, currency: str, result_minor: int, now: datetime) -> Journal:
    """A gain above zero. Of the kind that stands for rows: it is matched with none."""
    legs = (
        debit(provider_account(Code.PROVIDER_AVAILABLE, provider, currency), result_minor),
        credit(platform_account(Code.CURRENCY_DIFFERENCE, currency), result_minor),
    )
    return Journal(f"susp:{ref}:back", Kind.ROW_EXPLAINED, legs, now, None, ref)
