"""What parties owe (1100), and since when: payments pay off the oldest debt first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import OrderId
from core.pagination import Page, PageRequest, page_of
from supply.settlement.parties import party_of

# A debit is unpaid, wholly or in part, while the newer ones alone are less than what is owed.
_OPEN = (
    "WITH owed AS (SELECT account_id, owner, currency, balance_minor FROM ledger_balances_now"
    "   WHERE code = 1100 AND balance_minor > 0 {which}),"
    " debits AS (SELECT o.*, j.kind, j.order_id, j.posted_at, e.amount_minor, coalesce(sum(e.amount_minor) OVER"
    "   (PARTITION BY o.account_id ORDER BY j.posted_at DESC, j.id DESC ROWS BETWEEN UNBOUNDED PRECEDING"
    "   AND 1 PRECEDING), 0)::bigint AS newer_minor FROM owed o JOIN ledger_entries e"
    "   ON e.account_id = o.account_id AND e.amount_minor > 0 JOIN ledger_journals j ON j.id = e.journal_id)"
)
_LIST = text(
    _OPEN.format(
        which="AND (CAST(:payee AS text) IS NULL OR owner = 'party:' || CAST(:payee AS text))"
        " AND (CAST(:owner AS text) IS NULL OR (owner, currency) > (CAST(:owner AS text), CAST(:currency AS bpchar)))"
        " ORDER BY owner, currency LIMIT :limit"
    )
    + " SELECT owner, currency, balance_minor, min(posted_at) AS since, count(*)::int AS debts FROM debits"
    " WHERE newer_minor < balance_minor GROUP BY owner, currency, balance_minor ORDER BY owner, currency"
)
_DEBTS = text(
    _OPEN.format(which="AND owner = 'party:' || CAST(:payee AS text) AND currency = :currency")
    + " SELECT kind, order_id, posted_at, amount_minor, least(amount_minor, balance_minor - newer_minor)"
    " AS open_minor FROM debits WHERE newer_minor < balance_minor ORDER BY posted_at"
)
_SINCE = text(
    _OPEN.format(which="AND balance_minor >= :minimum")
    + " SELECT owner, currency, balance_minor, min(posted_at) AS since, count(*)::int AS debts FROM debits"
    " WHERE newer_minor < balance_minor GROUP BY owner, currency, balance_minor"
    " HAVING min(posted_at) <= :before ORDER BY since, owner, currency LIMIT :limit"
)


@dataclass(frozen=True, slots=True)
class Receivable:
    """A party's debt in one currency; ``since`` is when its oldest unpaid part arose, ``debts`` how many parts."""

    payee_id: str
    currency: str
    owed_minor: int
    since: datetime
    debts: int

    def age_days(self, now: datetime) -> int:
        return (now - self.since).days


@dataclass(frozen=True, slots=True)
class Debt:
    """One posting that a party still owes: ``open_minor`` of ``amount_minor``. ``kind`` names the recipe."""

    kind: str
    order_id: OrderId | None
    at: datetime
    amount_minor: int
    open_minor: int


async def receivables_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, payee_id: str | None = None
) -> Page[Receivable]:
    """By party and currency. ``actor`` sees what it, or a promoter of its, owes; the platform everybody's."""
    owner, currency = page.key if page.key else (None, None)
    where = {"payee": payee_id, "owner": owner, "currency": currency, "limit": page.first + 1}
    found = [_receivable(row) for row in await session.execute(_LIST, where)]
    return page_of(found, page, lambda each: (f"party:{each.payee_id}", each.currency))


async def debts_of(session: AsyncSession, payee_id: str, currency: str) -> list[Debt]:
    """What the debt is made of, oldest first."""
    return [
        Debt(
            row.kind, OrderId.of(row.order_id) if row.order_id else None, row.posted_at, row.amount_minor,
            row.open_minor,
        )
        for row in await session.execute(_DEBTS, {"payee": payee_id, "currency": currency})
    ]  # fmt: skip


async def owed_since(
    session: AsyncSession, *, before: datetime, minimum_minor: int, limit: int
) -> Sequence[Receivable]:
    """Debts that are old and large enough, oldest first."""
    where = {"before": before, "minimum": max(minimum_minor, 1), "limit": limit}
    return [_receivable(row) for row in await session.execute(_SINCE, where)]


def _receivable(row: Row[Any]) -> Receivable:
    return Receivable(party_of(row.owner), row.currency, row.balance_minor, row.since, row.debts)
