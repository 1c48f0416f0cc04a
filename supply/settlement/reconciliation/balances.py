"""Checks (b), (c) and (d) of money.md §5: do the provider's rows, its balance and our accounts agree as a whole.

Open items are no reason for the sums to differ: each is known with its amount, so it is counted on our side as the
provider counts it. What is left over then is a fault nobody listed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from infra.payments.gateway import Balance
from supply.settlement.reconciliation.findings import Finding
from supply.settlement.reconciliation.report import BalanceCheck, Difference

BATCHES_FOR = timedelta(days=35)
_BOOKS = text(
    "SELECT currency, code, balance_minor FROM ledger_balances_now"
    " WHERE owner = 'psp:' || :provider AND code IN (1000, 1010)"
)
_ROWS = text(
    "SELECT currency, sum(net_minor)::bigint AS net FROM psp_txn WHERE provider = :provider GROUP BY currency"
)
# What is not matched: rows we have no journal for (beyond what lies in suspense), journals they have no row for.
_OPEN = text(
    "WITH refs AS (SELECT ref, inward FROM psp_txn WHERE provider = :provider AND state <> 'matched'"
    " UNION SELECT ref, inward FROM psp_postings WHERE provider = :provider AND state <> 'matched'),"
    " items AS (SELECT currency, net_minor AS minor, available_on <= :now AS available FROM psp_txn"
    "   JOIN refs USING (ref, inward) WHERE provider = :provider"
    "  UNION ALL SELECT currency, -suspended_minor, suspended_in = 1010 FROM psp_txn"
    "   WHERE provider = :provider AND suspended_in IS NOT NULL"
    "  UNION ALL SELECT currency, -available_minor, true FROM psp_postings JOIN refs USING (ref, inward)"
    "   WHERE provider = :provider"
    "  UNION ALL SELECT currency, available_minor - amount_minor, false FROM psp_postings JOIN refs"
    "   USING (ref, inward) WHERE provider = :provider)"
    " SELECT currency, coalesce(sum(minor) FILTER (WHERE available), 0)::bigint AS available,"
    " coalesce(sum(minor) FILTER (WHERE NOT available), 0)::bigint AS pending FROM items GROUP BY currency"
)
_BATCHES = text(
    "SELECT b.cycle, p.currency, min(b.created_at) AS since, sum(p.amount_minor)::bigint AS paid,"
    " -sum(coalesce(t.amount_minor, -p.amount_minor))::bigint AS transferred, array_agg(t.id) AS rows"
    " FROM payout_batches b JOIN payouts p ON p.batch_id = b.id AND p.status = 'paid' AND p.provider = :provider"
    " LEFT JOIN psp_txn t ON t.provider = p.provider AND t.source_id = p.transfer_id AND NOT t.inward"
    "  AND t.currency = p.currency"
    " WHERE b.created_at >= :since GROUP BY b.cycle, p.currency"
    " HAVING sum(p.amount_minor) <> -sum(coalesce(t.amount_minor, -p.amount_minor))"
)


async def check_balances(
    session: AsyncSession, provider: str, balance: Balance | None, *, now: datetime
) -> list[BalanceCheck]:
    """One check for each currency met. ``balance`` None: only our two sides are compared."""
    books: dict[str, dict[int, int]] = defaultdict(dict)
    for row in await session.execute(_BOOKS, {"provider": provider}):
        books[row.currency][row.code] = row.balance_minor
    rows = {row.currency: row.net for row in await session.execute(_ROWS, {"provider": provider})}
    open_items = {
        row.currency: (row.pending, row.available)
        for row in await session.execute(_OPEN, {"provider": provider, "now": now})
    }
    told = set(balance.pending) | set(balance.available) if balance else set()
    checks = []
    for currency in sorted(books.keys() | rows.keys() | told):
        pending, available = open_items.get(currency, (0, 0))
        checks.append(
            _check(
                currency,
                books[currency].get(1000, 0) + pending,
                books[currency].get(1010, 0) + available,
                rows.get(currency, 0),
                balance,
            )
        )
    return checks


def _check(
    currency: str, pending: int, available: int, rows_minor: int, balance: Balance | None
) -> BalanceCheck:
    finding = None
    theirs = (
        None if balance is None else (balance.pending.get(currency, 0), balance.available.get(currency, 0))
    )
    if pending + available != rows_minor:
        finding = Finding.BOOKS_DIFFER
    elif theirs is not None and sum(theirs) != rows_minor:
        finding = Finding.PROVIDER_LIST_DIFFERS
    elif theirs is not None and theirs != (pending, available):
        finding = Finding.AVAILABILITY_DIFFERS
    their_pending, their_available = theirs or (None, None)
    return BalanceCheck(currency, pending, available, rows_minor, their_pending, their_available, finding)


async def check_batches(session: AsyncSession, provider: str, *, now: datetime) -> list[Difference]:
    """(d): our payouts are manual, so the transfers of each batch must sum to what the batch paid.

    A payout whose row is missing altogether is found as a journal without a row.
    """
    rows = await session.execute(_BATCHES, {"provider": provider, "since": now - BATCHES_FOR})
    return [
        Difference(
            Finding.BATCH_DIFFERS, f"batch {row.cycle}", "transfer", row.currency, row.transferred, row.paid,
            row.since, tuple(each for each in row.rows if each),
        )
        for row in rows
    ]  # fmt: skip


def automatic_payout_difference(
    payout_id: str, currency: str, amount_minor: int, nets: Sequence[int], since: datetime
) -> Difference | None:
    """(d): the rows the provider lists for a payout of its own schedule sum to it."""
    if sum(nets) == amount_minor:
        return None
    return Difference(
        Finding.AUTOMATIC_PAYOUT_DIFFERS, payout_id, "payout", currency, sum(nets), amount_minor, since
    )
