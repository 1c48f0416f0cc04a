"""When commission of a sale at source is due, and when it has come.

Due (R15c) when the line's return window is over and nothing holds it: then it is a debt like any other (1100), which
the merchant's earnings pay off (R7b), a payment of its own (R15d), a reversed transfer (R7a), or the platform by giving
it up (R7c). None of these says which debt it is for. So it is worked out: what a party owes in all is at least what it
owes for commission that has not come; where it is less, the difference came, for what was due first. What a party owes
besides is paid off before: in doubt nobody is paid too early.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import BrandId, OrderId, OrderLineId
from infra.db.session import Database
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account

LINES_AT_ONCE = 200
PARTIES_AT_ONCE = 100
# Driven by the parts that are due; a line is due once, however late it is paid for.
_RIPE = (
    "SELECT DISTINCT d.order_line_id, d.order_id FROM split_parts p JOIN split_lines l ON l.id = p.line_id"
    " JOIN commission_dues d ON d.order_line_id = l.order_line_id AND d.claimed_at IS NULL AND d.owed_minor > 0"
    " WHERE p.due_at <= :now AND p.pending_minor > 0"
    " AND p.part IN ('promoter_brand', 'individual', 'platform_commission')"
    " AND NOT EXISTS (SELECT FROM split_lines o WHERE o.order_line_id = d.order_line_id AND o.order_id = d.order_id"
    "  AND o.open_holds > 0)"
    " AND NOT EXISTS (SELECT FROM release_holds h WHERE h.order_line_id = d.order_line_id)"
)
_LOCK_ORDERS = text(
    f"SELECT order_id FROM split_orders WHERE order_id IN (SELECT order_id FROM ({_RIPE} LIMIT :limit) r)"
    " ORDER BY order_id FOR NO KEY UPDATE SKIP LOCKED"
)
_RIPE_LINES = text(
    f"SELECT r.order_line_id, r.order_id, d.payee_id, d.merchant_id, d.currency, d.owed_minor FROM ({_RIPE}"
    " AND d.order_id = ANY(:orders)) r JOIN commission_dues d USING (order_line_id) ORDER BY r.order_line_id"
)
_CLAIM = text("UPDATE commission_dues SET claimed_at = :now WHERE order_line_id = ANY(:lines)")
_BEHIND = text(
    "SELECT d.payee_id, d.currency, d.merchant_id FROM commission_dues d"
    " WHERE d.claimed_at IS NOT NULL AND d.covered_minor < d.owed_minor"
    " GROUP BY d.payee_id, d.currency, d.merchant_id"
    " HAVING sum(d.owed_minor - d.covered_minor) > coalesce((SELECT n.balance_minor FROM ledger_balances_now n"
    "  WHERE n.code = 1100 AND n.owner = 'party:' || d.payee_id AND n.currency = d.currency), 0)"
    " ORDER BY d.payee_id, d.currency LIMIT :limit"
)
_UNCOVERED = text(
    "SELECT order_line_id, owed_minor - covered_minor AS open_minor FROM commission_dues WHERE payee_id = :payee"
    " AND currency = :currency AND claimed_at IS NOT NULL AND covered_minor < owed_minor"
    " ORDER BY claimed_at, order_line_id FOR UPDATE"
)
# The commission of these is all still here.
_UNRELEASED = text(
    "SELECT d.order_line_id, d.covered_minor FROM commission_dues d WHERE d.payee_id = :payee"
    " AND d.currency = :currency AND d.covered_minor > 0 AND NOT EXISTS (SELECT FROM split_lines l"
    "  JOIN split_parts p ON p.line_id = l.id AND p.released_minor > 0"
    "  AND p.part IN ('promoter_brand', 'individual', 'platform_commission')"
    "  WHERE l.order_id = d.order_id AND l.order_line_id = d.order_line_id)"
    " ORDER BY d.claimed_at DESC, d.order_line_id DESC FOR UPDATE OF d"
)
_TAKEN_BACK = text(
    "SELECT order_line_id, least(taken_back_minor, owed_minor - covered_minor) AS open_minor FROM commission_dues"
    " WHERE payee_id = :payee AND currency = :currency AND claimed_at IS NOT NULL AND covered_minor < owed_minor"
    " AND taken_back_minor > 0 ORDER BY claimed_at, order_line_id FOR UPDATE"
)
_TAKE_BACK = text(
    "UPDATE commission_dues d SET covered_minor = covered_minor - n.amount,"
    " taken_back_minor = taken_back_minor + n.amount"
    " FROM unnest(CAST(:lines AS uuid[]), CAST(:amounts AS bigint[])) AS n (line, amount)"
    " WHERE d.order_line_id = n.line"
)
_COVER = text(
    "UPDATE commission_dues d SET covered_minor = covered_minor + n.amount"
    " FROM unnest(CAST(:lines AS uuid[]), CAST(:amounts AS bigint[])) AS n (line, amount)"
    " WHERE d.order_line_id = n.line"
)


async def claim_due(db: Database, *, clock: Clock) -> int:
    """Sweep: what is due of up to ``LINES_AT_ONCE`` order lines becomes a debt; how many lines that were."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        # The order's lock parts this from refunds, denials and holds of the same order.
        orders = list((await session.execute(_LOCK_ORDERS, {"now": now, "limit": LINES_AT_ONCE})).scalars())
        rows = (await session.execute(_RIPE_LINES, {"now": now, "orders": orders})).all() if orders else []
        accounts = [
            party_account(code, row.payee_id, row.currency, BrandId.of(row.merchant_id))
            for row in rows
            for code in (Code.RECEIVABLE, Code.RECEIVABLE_NOT_DUE)
        ]
        await ledger.hold(session, accounts)
        if rows:
            await session.execute(_CLAIM, {"now": now, "lines": [row.order_line_id for row in rows]})
            await ledger.post_together(session, [_due(row, now) for row in rows], now=now)
    return len(rows)


def _due(row: Any, now: datetime) -> Journal:
    party = row.payee_id, row.currency, BrandId.of(row.merchant_id)
    legs = (
        debit(party_account(Code.RECEIVABLE, *party), row.owed_minor),
        credit(party_account(Code.RECEIVABLE_NOT_DUE, *party), row.owed_minor),
    )
    key = f"due:{OrderLineId.of(row.order_line_id)}"
    return Journal(key, Kind.COMMISSION_DUE, legs, now, OrderId.of(row.order_id))


async def cover_due(db: Database, *, clock: Clock) -> int:
    """Sweep: find the parties that paid of their commission, and for which lines; how many parties that were."""
    async with db.reading(SYSTEM) as session:
        behind = (await session.execute(_BEHIND, {"limit": PARTIES_AT_ONCE})).all()
    for row in behind:
        async with db.unit_of_work(SYSTEM) as session:
            owed = party_account(Code.RECEIVABLE, row.payee_id, row.currency, BrandId.of(row.merchant_id))
            held = await ledger.hold(session, [owed])
            await cover(session, row.payee_id, row.currency, owed_minor=held[owed])
    return len(behind)


async def cover(session: AsyncSession, payee_id: str, currency: str, *, owed_minor: int) -> int:
    """Count what came of a party's claimed commission, the oldest first; how much that was, minor units.

    ``owed_minor`` is what it owes in all (1100), whose account the caller has locked: it is the lock of these rows.
    """
    where = {"payee": payee_id, "currency": currency}
    rows = (await session.execute(_UNCOVERED, where)).all()
    came = max(sum(int(row.open_minor) for row in rows) - owed_minor, 0)
    covered = _over([(row.order_line_id, row.open_minor) for row in rows], came)
    await _change(session, _COVER, covered)
    return came


async def take_back(
    session: AsyncSession, payee_id: str, currency: str, amount_minor: int, *, owed_minor: int
) -> None:
    """A payment of ``amount_minor`` is taken back: of commission that nobody has yet, up to that much has not come,
    the newest first.

    ``owed_minor`` is what the party owes (1100, which the caller has locked) without the payment.
    """
    await cover(session, payee_id, currency, owed_minor=owed_minor)
    rows = await session.execute(_UNRELEASED, {"payee": payee_id, "currency": currency})
    gone = _over([(row.order_line_id, row.covered_minor) for row in rows], amount_minor)
    await _change(session, _TAKE_BACK, gone)


async def give_back(session: AsyncSession, payee_id: str, currency: str, amount_minor: int) -> None:
    """The payment counts again after all, for what it had come for. The caller has locked the party's 1100."""
    rows = await session.execute(_TAKEN_BACK, {"payee": payee_id, "currency": currency})
    back = _over([(row.order_line_id, row.open_minor) for row in rows], amount_minor)
    await _change(session, _TAKE_BACK, {line: -amount for line, amount in back.items()})


def _over(lines: Iterable[tuple[Any, int]], amount_minor: int) -> dict[Any, int]:
    """An amount over lines in their sequence, each up to its own; those that get something."""
    found: dict[Any, int] = {}
    for line, most in lines:
        if part := min(most, amount_minor):
            found[line] = part
            amount_minor -= part
    return found


async def _change(session: AsyncSession, statement: TextClause, amounts: Mapping[Any, int]) -> None:
    if amounts:
        await session.execute(statement, {"lines": list(amounts), "amounts": list(amounts.values())})
