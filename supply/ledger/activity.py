"""What an account went through between two cut-offs: opening balance, entries, closing balance.

A cut-off is a transaction horizon: below it every transaction of the cluster has ended, so what lies there never
changes again. Balances are counted back from the present one, rolled up plus tail, in one statement: that holds
for strict and deferred accounts alike, whatever the roll-up does meanwhile, and for accounts whose old entries are
in an archive. The closing balance at a cut-off is the opening balance of what follows it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.errors import Invalid
from core.pagination import BadPage, Page, PageRequest, page_of
from supply.ledger.entries import COLUMNS, EntryLine, lines_of, position_of
from supply.ledger.journal import AccountKey

_HORIZON = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
_ACCOUNT = "a.code = :code AND a.owner = :owner AND a.currency = :currency"
_SINCE = "CAST(CAST(:since AS text) AS xid8)"
_UNTIL = "CAST(CAST(:until AS text) AS xid8)"
_SUMS = text(
    f"SELECT {_UNTIL} > pg_snapshot_xmin(pg_current_snapshot()) AS ahead,"
    " n.balance_minor - n.side * s.later AS closing, n.balance_minor - n.side * (s.later + s.within) AS opening,"
    " s.debits, s.credits, s.entries"
    " FROM ledger_balances_now n CROSS JOIN LATERAL ("
    f"  SELECT coalesce(sum(e.amount_minor) FILTER (WHERE e.txid >= {_UNTIL}), 0)::bigint AS later,"
    f"  coalesce(sum(e.amount_minor) FILTER (WHERE e.txid < {_UNTIL}), 0)::bigint AS within,"
    f"  coalesce(sum(e.amount_minor) FILTER (WHERE e.txid < {_UNTIL} AND e.amount_minor > 0), 0)::bigint AS debits,"
    f"  coalesce(-sum(e.amount_minor) FILTER (WHERE e.txid < {_UNTIL} AND e.amount_minor < 0), 0)::bigint AS credits,"
    f"  count(*) FILTER (WHERE e.txid < {_UNTIL}) AS entries"
    f"  FROM ledger_entries e WHERE e.account_id = n.account_id AND e.txid >= {_SINCE}) s"
    " WHERE n.code = :code AND n.owner = :owner AND n.currency = :currency"
)
_AHEAD = text(f"SELECT {_UNTIL} > pg_snapshot_xmin(pg_current_snapshot())")
_LINES = text(
    f"SELECT {COLUMNS} FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id"
    " JOIN ledger_journals j ON j.id = e.journal_id"
    f" WHERE {_ACCOUNT} AND e.txid >= {_SINCE} AND e.txid < {_UNTIL}"
    " AND (e.txid, e.journal_id, e.leg)"
    "  > (CAST(CAST(:txid AS text) AS xid8), CAST(:journal AS uuid), CAST(:leg AS bigint))"
    " ORDER BY e.txid, e.journal_id, e.leg LIMIT :limit"
)
_FIRST = ("0", "0" * 32, 0)
BEGINNING = "0"
"""The cut-off before everything."""


class CutoffAhead(Invalid):
    """Transactions below the cut-off are still open: entries may yet appear there. Take ``cutoff`` again."""

    code = "LEDGER_CUTOFF_AHEAD"


@dataclass(frozen=True, slots=True)
class Activity:
    """Balances on the account's normal side; ``debits_minor`` and ``credits_minor`` of the entries between."""

    opening_minor: int
    debits_minor: int
    credits_minor: int
    closing_minor: int
    entries: int


async def cutoff(session: AsyncSession) -> str:
    """The present horizon: every entry below it is there, and no other will come."""
    return str((await session.execute(_HORIZON)).scalar_one())


async def activity(session: AsyncSession, account: AccountKey, *, since: str, until: str) -> Activity:
    """Of ``[since, until)``; all zero for an account nobody posted to. Raises ``CutoffAhead``."""
    row = (await session.execute(_SUMS, {**_named(account), "since": since, "until": until})).one_or_none()
    if row is None:
        await _behind_the_horizon(session, until)
        return Activity(0, 0, 0, 0, 0)
    if row.ahead:
        raise CutoffAhead(f"{until} is beyond the horizon", field="until")
    return Activity(row.opening, row.debits, row.credits, row.closing, row.entries)


async def activity_page(
    session: AsyncSession, account: AccountKey, page: PageRequest, *, since: str, until: str
) -> Page[EntryLine]:
    """The entries of ``[since, until)``, oldest first. Raises ``CutoffAhead``."""
    await _behind_the_horizon(session, until)
    try:
        txid, journal, leg = page.key or _FIRST
        where = {"txid": str(int(txid)), "journal": journal, "leg": int(leg), "limit": page.first + 1}
    except ValueError as error:
        raise BadPage("the cursor is not one of this list", field="after") from error
    lines = await lines_of(session, _LINES, **_named(account), **where, since=since, until=until)
    return page_of(lines, page, position_of)


async def _behind_the_horizon(session: AsyncSession, until: str) -> None:
    if (await session.execute(_AHEAD, {"until": until})).scalar_one():
        raise CutoffAhead(f"{until} is beyond the horizon", field="until")


def _named(account: AccountKey) -> dict[str, object]:
    return {"code": int(account.code), "owner": account.owner, "currency": account.currency}
