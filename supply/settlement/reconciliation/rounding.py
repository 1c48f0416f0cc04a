"""R13: our own arithmetic is exact; where the provider rounded the last unit the other way, it is our loss or gain.

One unit a row, and not often: beyond a hundred a day something else is wrong, and it stays a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.kinds import Kind
from supply.settlement.parties import platform_account, provider_account
from supply.settlement.reconciliation.findings import Finding
from supply.settlement.reconciliation.matching import Group

MOST_A_DAY = 100
_PENDING_FIRST = frozenset({"charge", "payment"})
_TODAY = text(
    "SELECT count(*) FROM psp_postings WHERE provider = :provider AND kind = 'rounding' AND posted_at > :since"
)


async def absorb(session: AsyncSession, provider: str, groups: Sequence[Group], *, now: datetime) -> int:
    """Book the odd unit of rows that differ by exactly one. Returns how many were booked."""
    odd = [group for group in groups if _is_odd_unit(group)]
    if not odd:
        return 0
    since = now - timedelta(days=1)
    done = (await session.execute(_TODAY, {"provider": provider, "since": since})).scalar_one()
    journals = [_journal(provider, group) for group in odd[: max(MOST_A_DAY - done, 0)]]
    await ledger.post_together(session, journals, now=now)
    return len(journals)


def _is_odd_unit(group: Group) -> bool:
    """Of the row's own currency: a unit of the customer's is a conversion that is missing."""
    if group.finding is not Finding.AMOUNT_DIFFERS or len(group.rows) != 1:
        return False
    missing = {currency: amount for currency, amount in group.unbooked().items() if amount}
    return missing.keys() == {group.rows[0].currency} and abs(missing[group.rows[0].currency]) == 1


def _journal(provider: str, group: Group) -> Journal:
    (row,) = group.rows
    unit = group.unbooked()[row.currency]
    code = Code.PROVIDER_PENDING if row.type in _PENDING_FIRST else Code.PROVIDER_AVAILABLE
    other = Code.ROUNDING_GAIN if unit > 0 else Code.ROUNDING_LOSS
    legs = (
        debit(provider_account(code, provider, row.currency), unit),
        credit(platform_account(other, row.currency), unit),
    )
    return Journal(f"round:{row.id}", Kind.ROUNDING, legs, row.created_at, None, row.id)
