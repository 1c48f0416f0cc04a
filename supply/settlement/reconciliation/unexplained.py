"""R12: a provider's row that nobody can explain is booked in suspense, and taken out again when somebody can."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, Leg, credit, debit
from supply.settlement.kinds import Kind
from supply.settlement.parties import provider_account
from supply.settlement.reconciliation.findings import Finding
from supply.settlement.reconciliation.matching import Group

_SUSPENDED = text(
    "UPDATE psp_txn t SET state = 'suspended', suspended_in = n.account, suspended_minor = n.amount"
    " FROM unnest(CAST(:ids AS text[]), CAST(:accounts AS integer[]), CAST(:amounts AS bigint[]))"
    " AS n (id, account, amount) WHERE t.provider = :provider AND t.id = n.id"
)
_AVAILABLE = text(
    "UPDATE psp_txn SET suspended_in = 1010 WHERE provider = :provider AND suspended_in = 1000"
    " AND available_on <= :now RETURNING id, provider, currency, suspended_minor, available_on"
)
_EXPLAINED = text(
    "UPDATE psp_txn t SET suspended_in = NULL, suspended_minor = 0 FROM psp_txn was"
    " WHERE t.provider = :provider AND t.id = ANY(:ids) AND t.suspended_in IS NOT NULL"
    " AND was.provider = t.provider AND was.id = t.id"
    " RETURNING t.id, t.provider, t.currency, was.suspended_in, was.suspended_minor"
)


async def suspend(session: AsyncSession, provider: str, groups: Sequence[Group], *, now: datetime) -> int:
    """Rows without a journal that are not on the way any more, and those of unknown types at once.

    What was booked of a row by itself (its fee) is left out. Returns how many rows.
    """
    journals, ids, accounts, amounts = [], [], [], []
    for group in groups:
        if group.finding not in (Finding.NO_JOURNAL, Finding.UNKNOWN_TYPE) or group.waits(now):
            continue
        booked = {c: sum(p.amount_minor for p in group.postings if p.currency == c) for c in group.unbooked()}
        for row in group.rows:
            if group.open_rows.get(row.id) != 0:
                continue  # in suspense already
            amount = row.net_minor - booked.pop(row.currency, 0)
            code = Code.PROVIDER_AVAILABLE if row.available_on <= now else Code.PROVIDER_PENDING
            journals.append(
                Journal(
                    f"susp:{row.id}", Kind.ROW_SUSPENDED, _legs(provider, row.currency, code, amount),
                    row.created_at, None, row.id, group.finding.value,
                )
            )  # fmt: skip
            ids.append(row.id)
            accounts.append(int(code))
            amounts.append(amount)
    if not ids:
        return 0
    await _post(session, journals, now=now)
    values: dict[str, Any] = {"provider": provider, "ids": ids, "accounts": accounts, "amounts": amounts}
    await session.execute(_SUSPENDED, values)
    return len(ids)


async def make_available(session: AsyncSession, provider: str, *, now: datetime) -> None:
    """What lies in suspense becomes available as the rest does (R3)."""
    journals = []
    for row in await session.execute(_AVAILABLE, {"provider": provider, "now": now}):
        legs = (
            debit(provider_account(Code.PROVIDER_AVAILABLE, provider, row.currency), row.suspended_minor),
            credit(provider_account(Code.PROVIDER_PENDING, provider, row.currency), row.suspended_minor),
        )
        key = f"susp:{row.id}:avail"
        journals.append(Journal(key, Kind.ROW_SUSPENDED, legs, row.available_on, None, row.id))
    await _post(session, journals, now=now)


async def explain(session: AsyncSession, provider: str, rows: Sequence[str], *, now: datetime) -> int:
    """The mirror of ``suspend`` for rows that have matched after all."""
    cleared = (await session.execute(_EXPLAINED, {"provider": provider, "ids": list(rows)})).all()
    journals = [
        Journal(
            f"susp:{row.id}:clear", Kind.ROW_EXPLAINED,
            _legs(provider, row.currency, Code(row.suspended_in), -row.suspended_minor), now, None, row.id,
        )
        for row in cleared
    ]  # fmt: skip
    await _post(session, journals, now=now)
    return len(journals)


async def _post(session: AsyncSession, journals: Sequence[Journal], *, now: datetime) -> None:
    """A row whose fee ate all of its amount moved nothing, and a journal of nothing would be refused."""
    await ledger.post_together(session, [j for j in journals if j.legs[0].amount_minor], now=now)


def _legs(provider: str, currency: str, code: Code, amount_minor: int) -> tuple[Leg, ...]:
    unknown = AccountKey(Code.SUSPENSE, f"psp:{provider}", currency)
    return (debit(provider_account(code, provider, currency), amount_minor), credit(unknown, amount_minor))
