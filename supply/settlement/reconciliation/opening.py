"""Where reconciliation begins at a provider's account that had a life before our books.

No journal of ours will ever explain what happened there before. The platform names a cut-off: rows created earlier are
not read, what the account held by them is booked once as its opening balance (3000, the platform's own), and everything
from then on is compared. A run that has read and suspended older rows already does no harm: they are taken out again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.errors import Conflict
from infra.db.session import Database
from infra.payments.gateway import Balance
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit, merged
from supply.settlement.kinds import Kind
from supply.settlement.parties import platform_account, provider_account
from supply.settlement.reconciliation import unexplained
from supply.settlement.reconciliation.intake import read_until_still
from supply.settlement.reconciliation.provider_rows import ProviderRows

PENDING_AT_MOST = timedelta(days=90)
"""Rows this old may still be pending at the provider; only when that does not add up, all of its history is read."""
_CLAIM = text(
    "INSERT INTO psp_cursors AS c (provider, rows_to, postings_to, starts_at) VALUES (:provider, NULL, '0', :at)"
    " ON CONFLICT (provider) DO UPDATE SET starts_at = coalesce(c.starts_at, excluded.starts_at)"
    " RETURNING starts_at, opened_at"
)
_LOCK = text("SELECT opened_at FROM psp_cursors WHERE provider = :provider FOR UPDATE")
_OPENED = text("UPDATE psp_cursors SET opened_at = :now WHERE provider = :provider")
# A journal from before the cut-off whose row will never be read would stay open for ever.
_EARLIER = text(
    "SELECT min(j.effective_at) FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id"
    " JOIN ledger_journals j ON j.id = e.journal_id WHERE a.owner = 'psp:' || :provider AND a.code IN (1000, 1010)"
    " AND j.effective_at < :at AND j.kind NOT IN ('row_suspended', 'row_explained', 'funds_available')"
    " AND NOT EXISTS (SELECT FROM psp_postings p WHERE p.journal_id = j.id AND p.state = 'matched')"
)
# What the rows say that stay in the comparison: everything since, and what was matched before.
_KEPT = text(
    "SELECT currency, coalesce(sum(net_minor) FILTER (WHERE available_on <= :now), 0)::bigint AS available,"
    " coalesce(sum(net_minor) FILTER (WHERE available_on > :now), 0)::bigint AS pending FROM psp_txn"
    " WHERE provider = :provider AND (created_at >= :at OR state = 'matched') GROUP BY currency"
)
_MATCHED = text(
    "SELECT id FROM psp_txn WHERE provider = :provider AND created_at < :at AND state = 'matched'"
)
_HISTORY = text(
    "SELECT id FROM psp_txn WHERE provider = :provider AND created_at < :at AND state <> 'matched'"
    " FOR NO KEY UPDATE"
)
_FORGET = text("DELETE FROM psp_txn WHERE provider = :provider AND id = ANY(:ids)")
_KEEP = text(
    "INSERT INTO psp_openings (provider, currency, starts_at, available_minor, pending_minor, booked_at, booked_by)"
    " VALUES (:provider, :currency, :at, :available, :pending, :now, :by)"
)
_ROW = text(
    "INSERT INTO psp_txn (provider, id, type, reporting_category, source_id, ref, inward, amount_minor, fee_minor,"
    " net_minor, currency, created_at, available_on, read_at, state, suspended_minor) VALUES (:provider, :id,"
    " 'opening', 'opening', :id, :id, CAST(:total AS bigint) > 0, :total, 0, :total, :currency, :at, :at, :now,"
    " 'open', 0)"
)
# R3 of what is still on its way: the sweep for charges moves it.
_ON_ITS_WAY = text(
    "INSERT INTO provider_charges (charge_id, provider, currency, captured_at, transaction_id, fee_minor, net_minor,"
    " available_on, available, settled_currency, asked) VALUES (:id, :provider, :currency, :at, :id, 0, :net,"
    " :available_on, false, :currency, 0)"
)
_OPENINGS = text("SELECT * FROM psp_openings WHERE provider = :provider ORDER BY currency")
_Due = tuple[str, datetime]
"""Currency, and when the provider makes it available."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What the provider held in one currency by rows before ``starts_at``: ``pending_minor`` of it was not
    available yet when it was booked."""

    provider: str
    currency: str
    starts_at: datetime
    available_minor: int
    pending_minor: int
    booked_at: datetime
    booked_by: str


class ReconciliationStarted(Conflict):
    """It began at another moment already."""

    code = "RECONCILIATION_STARTED"

    def __init__(self, provider: str, starts_at: datetime) -> None:
        super().__init__(f"reconciliation with {provider} starts from {starts_at:%Y-%m-%d %H:%M:%S} UTC")
        self.provider, self.starts_at = provider, starts_at


class OpeningTooLate(Conflict):
    """Our books know of money before the cut-off: it must not be later than they begin."""

    code = "OPENING_TOO_LATE"

    def __init__(self, provider: str, since: datetime) -> None:
        super().__init__(f"our books of {provider} begin at {since:%Y-%m-%d %H:%M:%S} UTC")
        self.provider, self.since = provider, since


class OpeningUnclear(Conflict):
    """The provider's balance moved while it was read, or is not what its rows say. Nothing was booked; ask again."""

    code = "OPENING_UNCLEAR"


async def start_from(
    db: Database, provider: ProviderRows, at: datetime, *, clock: Clock, booked_by: str
) -> list[Opening]:
    """Begin at ``at``: book what the account held by earlier rows. The same moment again changes nothing.

    Raises ``ReconciliationStarted``, ``OpeningTooLate``, ``OpeningUnclear`` and ``ProviderUnavailable``; one that was
    cut short is finished by asking for the same moment again.
    """
    name = provider.name
    if not await _claim(db, name, at):
        async with db.reading(SYSTEM) as session:
            return await openings(session, name)
    now = clock.now()
    _, balance = await read_until_still(db, provider, now=now)
    async with db.reading(SYSTEM) as session:
        kept = await _kept(session, name, at, now)
        matched = set((await session.execute(_MATCHED, {"provider": name, "at": at})).scalars())
    held = _held_before(balance, kept)
    due = await _due_later(provider, at, now, {c: p for c, (_, p) in held.items() if p}, matched)
    async with db.unit_of_work(SYSTEM) as session:
        if (await session.execute(_LOCK, {"provider": name})).scalar_one() is None:
            if await _kept(session, name, at, now) != kept:
                raise OpeningUnclear("another run matched rows meanwhile")
            await _forget_history(session, name, at, now)
            await _book(session, name, held, due, at=at, now=now, by=booked_by)
        return await openings(session, name)


async def openings(session: AsyncSession, provider: str) -> list[Opening]:
    rows = await session.execute(_OPENINGS, {"provider": provider})
    return [Opening(**row._mapping) for row in rows]


async def _claim(db: Database, provider: str, at: datetime) -> bool:
    """Set the cut-off, once. False when everything is booked already."""
    async with db.unit_of_work(SYSTEM) as session:
        claimed = (await session.execute(_CLAIM, {"provider": provider, "at": at})).one()
        if claimed.starts_at != at:
            raise ReconciliationStarted(provider, claimed.starts_at)
        earlier = (await session.execute(_EARLIER, {"provider": provider, "at": at})).scalar_one()
        if earlier is not None and claimed.opened_at is None:
            raise OpeningTooLate(provider, earlier)
    return claimed.opened_at is None


async def _kept(
    session: AsyncSession, provider: str, at: datetime, now: datetime
) -> dict[str, tuple[int, int]]:
    rows = await session.execute(_KEPT, {"provider": provider, "at": at, "now": now})
    return {row.currency: (row.available, row.pending) for row in rows}


def _held_before(balance: Balance | None, kept: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Available and pending by currency, that the rows in the comparison do not explain. Nothing where the rail
    holds no money of ours."""
    if balance is None:
        return {}
    currencies = sorted({*balance.available, *balance.pending, *kept})
    held = {}
    for currency in currencies:
        available, pending = kept.get(currency, (0, 0))
        held[currency] = (
            balance.available.get(currency, 0) - available,
            balance.pending.get(currency, 0) - pending,
        )
    return {currency: amounts for currency, amounts in held.items() if any(amounts)}


async def _due_later(
    provider: ProviderRows, at: datetime, now: datetime, pending: Mapping[str, int], without: set[str]
) -> dict[_Due, int]:
    """When the pending part of the opening becomes available, from the rows it comes from."""
    for since in (at - PENDING_AT_MOST, None) if pending else ():
        due: dict[_Due, int] = defaultdict(int)
        async for row in provider.rows(since, at):
            if row.available_on > now and row.id not in without:
                due[row.currency, row.available_on] += row.net_minor
        sums: dict[str, int] = defaultdict(int)
        for (currency, _), net in due.items():
            sums[currency] += net
        if {currency: net for currency, net in sums.items() if net} == pending:
            return {each: net for each, net in due.items() if net}
    if pending:
        raise OpeningUnclear("what is pending at the provider is not what its rows say")
    return {}


async def _forget_history(session: AsyncSession, provider: str, at: datetime, now: datetime) -> None:
    """Rows from before the cut-off that a run has read and nobody can explain: out of suspense, and away."""
    ids = list((await session.execute(_HISTORY, {"provider": provider, "at": at})).scalars())
    await unexplained.explain(session, provider, ids, now=now)
    await session.execute(_FORGET, {"provider": provider, "ids": ids})


async def _book(
    session: AsyncSession,
    provider: str,
    held: Mapping[str, tuple[int, int]],
    due: Mapping[_Due, int],
    *,
    at: datetime,
    now: datetime,
    by: str,
) -> None:
    journals = []
    for currency, (available, pending) in held.items():
        name = f"opening:{provider}:{currency}"
        legs = (
            debit(provider_account(Code.PROVIDER_AVAILABLE, provider, currency), available),
            debit(provider_account(Code.PROVIDER_PENDING, provider, currency), pending),
            credit(platform_account(Code.OPENING_BALANCE, currency), available + pending),
        )
        journals.append(Journal(name, Kind.OPENING, merged(legs), at, None, name))
        values: dict[str, Any] = {
            "provider": provider, "currency": currency, "at": at, "available": available, "pending": pending,
            "now": now, "by": by, "id": name, "total": available + pending,
        }  # fmt: skip
        await session.execute(_KEEP, values)
        if available + pending:
            await session.execute(_ROW, values)
    await ledger.post_together(session, journals, now=now)
    for (currency, available_on), net in sorted(due.items()):
        values = {
            "id": f"opening:{provider}:{currency}:{available_on:%Y-%m-%dT%H:%M:%SZ}", "provider": provider,
            "currency": currency, "at": at, "net": net, "available_on": available_on,
        }  # fmt: skip
        await session.execute(_ON_ITS_WAY, values)
    await session.execute(_OPENED, {"provider": provider, "now": now})
