"""R15: a sale whose money the merchant has. It owes the commission, and nothing of the customer's money is booked.

The split is the usual one, merchant's part included, so that refunds take of everybody what the rules say. But what
the merchant has of it never was here: a journal of such an order ends with the merchant's accounts telling what it
owes of the commission that stands, which is what this file works out. Rule: docs/decisions/0027-own-checkout.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderLineId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Leg, credit, debit
from supply.settlement.at_source import covering
from supply.settlement.at_source.models import CommissionDue
from supply.settlement.composition import COMMISSION_PARTS, Part
from supply.settlement.order_book import OrderBook

_TABLE = table_of(CommissionDue)
_OF_ORDER = text("SELECT * FROM commission_dues WHERE order_id = :order_id ORDER BY order_line_id FOR UPDATE")
_CHANGE = text(
    "UPDATE commission_dues d SET owed_minor = n.owed, covered_minor = n.covered"
    " FROM unnest(CAST(:lines AS uuid[]), CAST(:owed AS bigint[]), CAST(:covered AS bigint[]))"
    " AS n (line, owed, covered) WHERE d.order_line_id = n.line"
)


def standing(book: OrderBook) -> dict[OrderLineId, int]:
    """The commission that stands of each order line, the platform's part of it included; by line, also of zero."""
    found: dict[OrderLineId, int] = {}
    for line in book.lines:
        owed = sum(cell.held_minor for cell in line.cells.values() if cell.part in COMMISSION_PARTS)
        found[line.order_line_id] = found.get(line.order_line_id, 0) + owed
    return found


async def open_dues(session: AsyncSession, books: Iterable[OrderBook]) -> None:
    """Remember what the merchants of these newly split orders will owe. One statement."""
    rows = [_row(book, line, owed) for book in books for line, owed in standing(book).items()]
    await insert_rows(session, _TABLE, rows)


def owed_later(book: OrderBook) -> Leg:
    """R15a: the debit of a capture at source, in place of the provider's."""
    return debit(book.merchants(Code.RECEIVABLE_NOT_DUE), sum(standing(book).values()))


async def settle_merchant(
    session: AsyncSession,
    book: OrderBook,
    legs: Iterable[Leg],
    held: Mapping[AccountKey, int],
    *,
    now: datetime,
) -> list[Leg]:
    """``legs``, which need not balance, and those that make the merchant owe what stands of the commission now.

    Not due yet, it is less or more in 1120. Due, in 1100; what it has paid already of a commission that stands no
    longer is available to it. ``held`` is what the accounts hold, under lock (taking.accounts_touched).
    """
    legs = [*legs, *_out_of_pending(book)]
    rows = (await session.execute(_OF_ORDER, {"order_id": book.order_id})).all()
    if any(row.claimed_at is not None for row in rows):
        # What came since the last look must be told apart from what is still owed.
        merchant, owed = str(book.merchant_id), held[book.merchants(Code.RECEIVABLE)]
        if await covering.cover(session, merchant, book.currency, owed_minor=owed):
            rows = (await session.execute(_OF_ORDER, {"order_id": book.order_id})).all()
    later, back = await _change(session, rows, standing(book))
    legs += [
        debit(book.merchants(Code.RECEIVABLE_NOT_DUE), later),
        credit(book.merchants(Code.AVAILABLE), back),
    ]
    rest = sum(leg.amount_minor for leg in legs)
    return [*legs, credit(book.merchants(Code.RECEIVABLE), rest)]


async def _change(
    session: AsyncSession, rows: Iterable[Any], now_standing: Mapping[OrderLineId, int]
) -> tuple[int, int]:
    """Write what stands; by how much more is owed later, and what of the covered comes back."""
    later = back = 0
    changed: list[tuple[Any, int, int]] = []
    for row in rows:
        owed = now_standing[OrderLineId.of(row.order_line_id)]
        if owed == row.owed_minor:
            continue
        covered = min(row.covered_minor, owed)
        back += row.covered_minor - covered
        later += owed - row.owed_minor if row.claimed_at is None else 0
        changed.append((row.order_line_id, owed, covered))
    if changed:
        lines, owed_now, covered_now = (list(column) for column in zip(*changed, strict=True))
        await session.execute(_CHANGE, {"lines": lines, "owed": owed_now, "covered": covered_now})
    return later, back


def _out_of_pending(book: OrderBook) -> list[Leg]:
    """Nothing of the merchant's waits here: what a recipe laid into its cells lowers what it owes."""
    cells = [line.cells[Part.MERCHANT] for line in book.lines if line.cells[Part.MERCHANT].pending_minor]
    laid = sum(cell.pending_minor for cell in cells)
    for cell in cells:
        cell.pending_minor = 0
    return [debit(book.merchants(Code.PENDING), laid)]


def _row(book: OrderBook, line: OrderLineId, owed: int) -> dict[str, Any]:
    return {
        "order_line_id": line, "order_id": book.order_id, "merchant_id": book.merchant_id,
        "payee_id": str(book.merchant_id), "currency": book.currency, "owed_minor": owed, "covered_minor": 0,
        "taken_back_minor": 0, "opened_at": book.paid_at, "claimed_at": None,
    }  # fmt: skip
