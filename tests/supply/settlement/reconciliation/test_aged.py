"""Money that should have moved on, counted from when it last came to lie there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement.parties import provider_account
from supply.settlement.reconciliation.aged import aged

OWED = AccountKey(Code.REFUND_PENDING, "customer:ch_1", "CNY")
AVAILABLE = provider_account(Code.PROVIDER_AVAILABLE, "stripe", "CNY")


def january(day: int) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC)


@pytest.mark.parametrize(("today", "since"), [(13, None), (15, 11)])
async def test_what_is_owed_anew_is_counted_from_then(
    session: AsyncSession, today: int, since: int | None
) -> None:
    # Owed on the 1st and given back on the 2nd; owed anew on the 11th, and a little more on the 12th.
    for day, amount in ((1, 500), (2, -500), (11, 500), (12, 30)):
        legs = (debit(AVAILABLE, amount), credit(OWED, amount))
        await ledger.post(session, Journal(f"{day}", "capture", legs, january(day)), now=january(day))

    found = await aged(session, "stripe", now=january(today))

    wanted = [] if since is None else [(OWED.owner, 530, january(since))]
    assert [(each.owner, each.amount_minor, each.since) for each in found] == wanted
