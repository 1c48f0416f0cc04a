"""Reads of single entries: pages by account, order, kind and period; the journal an entry belongs to.

Entries lie in partitions by month of the journal's id; a read by journal goes to one of them, a read
by account takes the newest of each by index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import JournalId, OrderId
from core.pagination import BadPage, Page, PageRequest, page_of
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey

COLUMNS = (
    "e.journal_id, e.leg, j.idem, j.kind, j.order_id, j.provider_ref, j.memo, j.effective_at, j.posted_at,"
    " a.code, a.owner, a.currency, e.amount_minor, e.balance_after, e.txid::text AS txid"
)
_FROM = (
    " FROM ledger_entries e JOIN ledger_journals j ON j.id = e.journal_id"
    " JOIN ledger_accounts a ON a.id = e.account_id "
)
_BEFORE = (
    "(CAST(:after AS bigint) IS NULL OR (e.txid, e.journal_id, e.leg)"
    " < (CAST(CAST(:txid AS text) AS xid8), CAST(:journal AS uuid), CAST(:after AS bigint)))"
)
_ACCOUNTS = (
    "a.owner = :owner AND (CAST(:currency AS text) IS NULL OR a.currency = :currency)"
    " AND (CAST(:codes AS integer[]) IS NULL OR a.code = ANY(CAST(:codes AS integer[])))"
)
_JOURNALS = (
    "(CAST(:kinds AS text[]) IS NULL OR j.kind = ANY(CAST(:kinds AS text[])))"
    " AND (CAST(:posted_from AS timestamptz) IS NULL OR j.posted_at >= :posted_from)"
    " AND (CAST(:posted_to AS timestamptz) IS NULL OR j.posted_at < :posted_to)"
)
# The newest of each account by its index, then the newest of those: an owner has a handful of accounts.
_PAGE = text(
    f"SELECT l.* FROM ledger_accounts a CROSS JOIN LATERAL (SELECT {COLUMNS}, e.txid AS at FROM ledger_entries e"
    f" JOIN ledger_journals j ON j.id = e.journal_id WHERE e.account_id = a.id AND {_BEFORE} AND {_JOURNALS}"
    f" ORDER BY e.txid DESC, e.journal_id DESC, e.leg DESC LIMIT :limit) l WHERE {_ACCOUNTS}"
    " ORDER BY l.at DESC, l.journal_id DESC, l.leg DESC LIMIT :limit"
)
_PAGE_OF_ORDER = text(
    f"SELECT {COLUMNS}{_FROM}WHERE j.order_id = :order_id AND {_ACCOUNTS} AND {_BEFORE} AND {_JOURNALS}"
    " ORDER BY e.txid DESC, e.journal_id DESC, e.leg DESC LIMIT :limit"
)
_OF_ORDER = text(f"SELECT {COLUMNS}{_FROM}WHERE j.order_id = :order_id ORDER BY e.txid, e.journal_id, e.leg")
_OF_KEY = text(f"SELECT {COLUMNS}{_FROM}WHERE j.idem = :key ORDER BY e.leg")
_OF_JOURNAL = text(f"SELECT {COLUMNS}{_FROM}WHERE j.id = :journal_id ORDER BY e.leg")


@dataclass(frozen=True, slots=True)
class EntryLine:
    """One leg with the journal it belongs to. ``amount_minor``: debit above zero, credit below.

    ``effective_at`` is when it happened, ``posted_at`` when it was written. ``balance_after`` on the normal side;
    None for deferred accounts, which are not counted entry by entry. ``txid`` orders entries of the ledger.
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
class EntryFilter:
    """What of an owner's entries is asked for; None: whatever. Posted in ``[posted_from, posted_to)``."""

    currency: str | None = None
    codes: Sequence[Code] | None = None
    kinds: Sequence[str] | None = None
    order_id: OrderId | None = None
    posted_from: datetime | None = None
    posted_to: datetime | None = None


ALL = EntryFilter()


async def entries_page(
    session: AsyncSession,
    owner: str,
    page: PageRequest,
    *,
    currency: str | None = None,
    only: EntryFilter = ALL,
) -> Page[EntryLine]:
    """What happened on one owner's accounts, newest first. ``currency`` is short for a filter by it alone."""
    txid, journal, after = _position(page)
    where = {
        "owner": owner, "currency": only.currency or currency,
        "codes": None if only.codes is None else [int(code) for code in only.codes],
        "kinds": None if only.kinds is None else list(only.kinds),
        "posted_from": only.posted_from, "posted_to": only.posted_to,
        "txid": txid, "journal": journal, "after": after, "limit": page.first + 1,
    }  # fmt: skip
    if only.order_id is not None:
        lines = await lines_of(session, _PAGE_OF_ORDER, **where, order_id=only.order_id)
    else:
        lines = await lines_of(session, _PAGE, **where)
    return page_of(lines, page, position_of)


async def entries_of_order(session: AsyncSession, order_id: OrderId) -> list[EntryLine]:
    """Every entry of every journal of an order, in the order they were posted."""
    return await lines_of(session, _OF_ORDER, order_id=order_id)


async def entries_of_journal(session: AsyncSession, key: str) -> list[EntryLine]:
    return await lines_of(session, _OF_KEY, key=key)


async def journal_entries(session: AsyncSession, journal_id: JournalId) -> list[EntryLine]:
    """The whole journal of an entry, by leg: all the reader may see of it; empty when that is nothing."""
    return await lines_of(session, _OF_JOURNAL, journal_id=journal_id)


async def lines_of(session: AsyncSession, statement: TextClause, **where: Any) -> list[EntryLine]:
    """The lines of a statement that selects ``COLUMNS``."""
    return [_line(row) for row in await session.execute(statement, where)]


def position_of(line: EntryLine) -> tuple[str, ...]:
    return (line.txid, line.journal_id.hex, str(line.leg))


def _position(page: PageRequest) -> tuple[str | None, str | None, int | None]:
    if page.key is None:
        return None, None, None
    try:
        txid, journal, leg = page.key
        return str(int(txid)), journal, int(leg)
    except ValueError as error:
        raise BadPage("the cursor is not one of this list", field="after") from error


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
