"""Reads of the ledger. Row-level security shows a tenant its own accounts, the platform everything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import JournalId, OrderId
from core.money import Money
from core.pagination import Page, PageRequest, page_of
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey

_BALANCE = text(
    "SELECT balance_minor FROM ledger_balances_now"
    " WHERE code = :code AND owner = :owner AND currency = :currency"
)
_BALANCES_OF = text(
    "SELECT code, owner, currency, balance_minor FROM ledger_balances_now WHERE owner = ANY(:owners)"
    " ORDER BY owner, currency, code"
)
_LINES = (
    "SELECT e.journal_id, e.leg, j.idem, j.kind, j.order_id, j.provider_ref, j.memo, j.effective_at,"
    " j.posted_at, a.code, a.owner, a.currency, e.amount_minor, a.side, e.balance_after, e.txid::text AS txid"
    " FROM ledger_entries e JOIN ledger_journals j ON j.id = e.journal_id"
    " JOIN ledger_accounts a ON a.id = e.account_id "
)
# The newest of each account by its index, then the newest of those: an owner has a handful of accounts.
_ENTRIES = text(
    _LINES.replace(
        "FROM ledger_entries e ",
        "FROM ledger_accounts o CROSS JOIN LATERAL (SELECT * FROM ledger_entries WHERE account_id = o.id"
        " AND (CAST(:after AS bigint) IS NULL OR (txid, journal_id, leg)"
        "  < (CAST(CAST(:txid AS text) AS xid8), CAST(:journal AS uuid), CAST(:after AS bigint)))"
        " ORDER BY txid DESC, journal_id DESC, leg DESC LIMIT :limit) e ",
    )
    + "WHERE o.owner = :owner AND o.currency = coalesce(CAST(:currency AS bpchar), o.currency)"
    " ORDER BY e.txid DESC, e.journal_id DESC, e.leg DESC LIMIT :limit"
)
_OF_ORDER = text(_LINES + "WHERE j.order_id = :order_id ORDER BY e.txid, e.journal_id, e.leg")
_OF_JOURNAL = text(_LINES + "WHERE j.idem = :key ORDER BY e.leg")
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
class EntryLine:
    """One leg with the journal it belongs to. ``amount_minor``: debit above zero, credit below.

    ``balance_after`` on the normal side; None for deferred accounts, which are not counted entry by entry.
    """

    journal_id: JournalId
    leg: int
    key: str
    kind: str
    order_id: OrderId | None
    provider_ref: str | None
    memo: str | None
    effective_at: datetime
    posted_at: datetime
    code: Code
    owner: str
    currency: str
    amount_minor: int
    balance_after: int | None
    txid: str

    @property
    def account(self) -> AccountKey:
        return AccountKey(self.code, self.owner, self.currency)


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


async def entries_page(
    session: AsyncSession, owner: str, page: PageRequest, *, currency: str | None = None
) -> Page[EntryLine]:
    """Everything that happened on one owner's accounts, newest first."""
    txid, journal, after = page.key or (None, None, None)
    where = {
        "owner": owner, "currency": currency, "txid": txid, "journal": journal,
        "after": int(after) if after else None, "limit": page.first + 1,
    }  # fmt: skip
    lines = [_line(row) for row in await session.execute(_ENTRIES, where)]
    return page_of(lines, page, lambda line: (line.txid, line.journal_id.hex, str(line.leg)))


async def entries_of_order(session: AsyncSession, order_id: OrderId) -> list[EntryLine]:
    """Every entry of every journal of an order, in the order they were posted."""
    return [_line(row) for row in await session.execute(_OF_ORDER, {"order_id": order_id})]


async def entries_of_journal(session: AsyncSession, key: str) -> list[EntryLine]:
    return [_line(row) for row in await session.execute(_OF_JOURNAL, {"key": key})]


async def trial_balance(session: AsyncSession) -> list[TrialLine]:
    """Sums to zero per currency, always. Platform only."""
    rows = await session.execute(_TRIAL)
    return [TrialLine(Code(row.code), row.name, row.currency, row.debit_minor) for row in rows]


async def unbalanced_journals(session: AsyncSession) -> int:
    """How many journals do not sum to zero in a currency: zero, or the books are broken."""
    return int((await session.execute(_UNBALANCED)).scalar_one())


async def mismatched_balances(session: AsyncSession) -> int:
    """How many accounts hold something else than the sum of their entries: zero, or the books are broken."""
    return int((await session.execute(_MISMATCHED)).scalar_one())


def _line(row: Row[Any]) -> EntryLine:
    get = row._mapping
    return EntryLine(
        journal_id=JournalId.of(get["journal_id"]),
        leg=get["leg"],
        key=get["idem"],
        kind=get["kind"],
        order_id=OrderId.of(get["order_id"]) if get["order_id"] else None,
        provider_ref=get["provider_ref"],
        memo=get["memo"],
        effective_at=get["effective_at"],
        posted_at=get["posted_at"],
        code=Code(get["code"]),
        owner=get["owner"],
        currency=get["currency"],
        amount_minor=get["amount_minor"],
        balance_after=get["balance_after"],
        txid=get["txid"],
    )
