"""Reads of the ledger. Row-level security shows a tenant its own accounts, the platform everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import AccountId
from core.money import Money
from core.pagination import BadPage, Page, PageRequest, page_of
from supply.ledger.activity import BEGINNING, Activity, activity, activity_page, cutoff
from supply.ledger.chart import Code
from supply.ledger.entries import (
    EntryFilter,
    EntryLine,
    entries_of_journal,
    entries_of_order,
    entries_page,
    journal_entries,
)
from supply.ledger.journal import AccountKey

__all__ = [
    "BEGINNING",
    "AccountBalance",
    "AccountView",
    "Activity",
    "EntryFilter",
    "EntryLine",
    "Tail",
    "TrialLine",
    "accounts_page",
    "activity",
    "activity_page",
    "balance",
    "balances_of",
    "cutoff",
    "entries_of_journal",
    "entries_of_order",
    "entries_page",
    "journal_entries",
    "mismatched_balances",
    "posted_keys",
    "tail",
    "trial_balance",
    "unbalanced_journals",
]

_BALANCE = text(
    "SELECT balance_minor FROM ledger_balances_now"
    " WHERE code = :code AND owner = :owner AND currency = :currency"
)
_BALANCES_OF = text(
    "SELECT code, owner, currency, balance_minor FROM ledger_balances_now WHERE owner = ANY(:owners)"
    " ORDER BY owner, currency, code"
)
_POSTED_KEYS = text("SELECT idem FROM ledger_journals WHERE idem = ANY(:keys)")
_ACCOUNTS = text(
    "SELECT n.account_id, n.code, n.owner, n.currency, n.balance_minor FROM ledger_balances_now n"
    " WHERE (CAST(:owner AS text) IS NULL OR n.owner = :owner)"
    " AND (CAST(:currency AS text) IS NULL OR n.currency = :currency)"
    " AND (CAST(:codes AS integer[]) IS NULL OR n.code = ANY(CAST(:codes AS integer[])))"
    " AND (CAST(:after_code AS integer) IS NULL OR (n.code, n.owner, n.currency)"
    "  > (CAST(:after_code AS integer), CAST(:after_owner AS text), CAST(:after_currency AS bpchar)))"
    " ORDER BY n.code, n.owner, n.currency LIMIT :limit"
)
_TAIL = text(
    "SELECT coalesce(sum(t.entries), 0)::bigint AS entries, count(*) FILTER (WHERE t.entries > 0) AS accounts,"
    " coalesce(max(t.entries), 0) AS longest FROM ledger_balances b CROSS JOIN LATERAL ("
    "  SELECT count(*) AS entries FROM ledger_entries e WHERE e.account_id = b.account_id AND e.txid >= b.rolled_to) t"
    " WHERE NOT b.strict"
)
_TRIAL = text(
    "SELECT n.code, c.name, n.currency, sum(n.balance_minor * n.side)::bigint AS debit_minor"
    " FROM ledger_balances_now n JOIN ledger_chart c USING (code)"
    " GROUP BY n.code, c.name, n.currency ORDER BY n.currency, n.code"
)
_UNBALANCED = text(
    "SELECT count(*) FROM (SELECT FROM ledger_entries GROUP BY journal_id, currency"
    " HAVING sum(amount_minor) <> 0) j"
)
_MISMATCHED = text(
    "SELECT count(*) FROM ledger_balances_now n LEFT JOIN LATERAL ("
    "  SELECT coalesce(sum(amount_minor), 0) AS total FROM ledger_entries WHERE account_id = n.account_id) e ON true"
    " LEFT JOIN ledger_carried c ON c.account_id = n.account_id"
    " WHERE (e.total + coalesce(c.amount_minor, 0)) * n.side <> n.balance_minor"
)


@dataclass(frozen=True, slots=True)
class AccountBalance:
    """``balance_minor`` on the account's normal side."""

    code: Code
    owner: str
    currency: str
    balance_minor: int


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account and what it holds, on its normal side."""

    id: AccountId
    code: Code
    owner: str
    currency: str
    balance_minor: int


@dataclass(frozen=True, slots=True)
class Tail:
    """What the deferred accounts' reads add up each time: entries that are not rolled up, on how many accounts,
    and on the one that has most."""

    entries: int
    accounts: int
    longest: int


@dataclass(frozen=True, slots=True)
class TrialLine:
    """Sum of all accounts of one code and currency; ``debit_minor`` is negative for a credit balance."""

    code: Code
    name: str
    currency: str
    debit_minor: int


async def balance(session: AsyncSession, account: AccountKey) -> Money:
    """On the normal side, as of this statement; zero for an account nobody posted to."""
    where = {"code": int(account.code), "owner": account.owner, "currency": account.currency}
    found = (await session.execute(_BALANCE, where)).scalar_one_or_none()
    return Money(found or 0, account.currency)


async def balances_of(session: AsyncSession, owners: list[str]) -> list[AccountBalance]:
    rows = await session.execute(_BALANCES_OF, {"owners": owners})
    return [AccountBalance(Code(row.code), row.owner, row.currency, row.balance_minor) for row in rows]


async def accounts_page(
    session: AsyncSession,
    page: PageRequest,
    *,
    owner: str | None = None,
    codes: Sequence[Code] | None = None,
    currency: str | None = None,
) -> Page[AccountView]:
    """The accounts the reader may see, by code, owner and currency."""
    code, after_owner, after_currency = page.key or (None, None, None)
    try:
        after_code = None if code is None else int(code)
    except ValueError as error:
        raise BadPage("the cursor is not one of this list", field="after") from error
    where = {
        "owner": owner, "currency": currency, "codes": None if codes is None else [int(c) for c in codes],
        "after_code": after_code, "after_owner": after_owner, "after_currency": after_currency,
        "limit": page.first + 1,
    }  # fmt: skip
    found = [
        AccountView(AccountId.of(r.account_id), Code(r.code), r.owner, r.currency, r.balance_minor)
        for r in await session.execute(_ACCOUNTS, where)
    ]
    return page_of(found, page, lambda account: (str(int(account.code)), account.owner, account.currency))


async def tail(session: AsyncSession) -> Tail:
    row = (await session.execute(_TAIL)).one()
    return Tail(row.entries, row.accounts, row.longest)


async def trial_balance(session: AsyncSession) -> list[TrialLine]:
    """Sums to zero per currency, always. Platform only."""
    rows = await session.execute(_TRIAL)
    return [TrialLine(Code(row.code), row.name, row.currency, row.debit_minor) for row in rows]


async def posted_keys(session: AsyncSession, keys: Sequence[str]) -> set[str]:
    """Those of ``keys`` under which a journal is posted."""
    return set((await session.execute(_POSTED_KEYS, {"keys": list(keys)})).scalars())


async def unbalanced_journals(session: AsyncSession) -> int:
    """How many journals do not sum to zero in a currency: zero, or the books are broken."""
    return int((await session.execute(_UNBALANCED)).scalar_one())


async def mismatched_balances(session: AsyncSession) -> int:
    """How many accounts hold something else than the sum of their entries: zero, or the books are broken."""
    return int((await session.execute(_MISMATCHED)).scalar_one())
