"""A commission held back: whatever its return window, nothing of it is released while a hold lies on it.

A hold has a name, so that laying or lifting it twice is once, and any number of them may lie on a line. It stops the
commission alone: supplier and merchant are not kept waiting. What of it was released before and is still here goes
back to pending (R4b); what was paid out stays paid.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Index, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from core.ids import BrandId, OrderId, OrderLineId
from infra.db.base import Row, id_field, utc_field
from supply.ledger import service as ledger
from supply.ledger.journal import AccountKey, Journal, Leg, credit, debit, merged
from supply.settlement.composition import COMMISSION_PARTS
from supply.settlement.kinds import Kind
from supply.settlement.order_book import BookLine, Cell, OrderBook, load_many, platform_part, save
from supply.settlement.parties import pending_account, released_account

NOT_HELD = (
    "NOT (p.part IN ('promoter_brand', 'individual', 'platform_commission')"
    " AND (EXISTS (SELECT FROM release_holds h WHERE h.order_line_id = l.order_line_id)"
    "  OR EXISTS (SELECT FROM commission_dues d WHERE d.order_line_id = l.order_line_id"
    "   AND d.covered_minor < d.owed_minor)))"
)
"""Of a split part ``p`` on its line ``l``: no hold keeps it from being released, and its money has come where the
merchant has to bring it (at_source)."""
_LAY = text(
    "INSERT INTO release_holds (order_line_id, name, order_id, merchant_id, opened_at)"
    " SELECT line_id, name, order_id, merchant_id, :now FROM unnest(CAST(:lines AS uuid[]), CAST(:names AS text[]),"
    " CAST(:orders AS uuid[]), CAST(:merchants AS uuid[])) AS n (line_id, name, order_id, merchant_id)"
    " ON CONFLICT DO NOTHING RETURNING order_line_id"
)
_ON_RAILS = text(
    "SELECT order_id, merchant_id FROM rail_orders WHERE order_id = ANY(:ids) ORDER BY order_id FOR NO KEY UPDATE"
)
# What waits on a rail for these looks again at once.
_LIFT = text(
    "WITH lifted AS (DELETE FROM release_holds WHERE name = ANY(:names) RETURNING order_id)"
    " UPDATE rail_requests SET next_try_at = send_at WHERE status = 'planned'"
    " AND order_id IN (SELECT order_id FROM lifted)"
)
_HELD = text(
    "SELECT order_line_id FROM release_holds WHERE order_line_id = ANY(:lines) UNION SELECT order_line_id"
    " FROM commission_dues WHERE order_line_id = ANY(:lines) AND covered_minor < owed_minor"
)


class ReleaseHold(Row, table=True):
    """There as long as the commission of the order line is held under this name."""

    __tablename__ = "release_holds"
    __table_args__ = (Index("ix_release_holds_name", "name"),)

    order_line_id: OrderLineId = id_field(OrderLineId, primary_key=True)
    name: str = Field(primary_key=True)
    order_id: OrderId = id_field(OrderId)
    merchant_id: BrandId = id_field(BrandId)
    opened_at: datetime = utc_field()


@dataclass(frozen=True, slots=True)
class LineHold:
    """A hold called ``name`` on the commission of one order line."""

    name: str
    order_id: OrderId
    order_line_id: OrderLineId


async def hold_commissions(
    session: AsyncSession, holds: Sequence[LineHold], *, now: datetime
) -> set[OrderLineId]:
    """Lay these holds; the lines of which released money went back to pending.

    Lines of orders that nobody booked are left alone; on a sharing rail an instruction that was not sent waits
    (rails/held.py). Nine statements for any number of holds.
    """
    # The order's lock parts this from the release that may be under way.
    ids = sorted({hold.order_id for hold in holds})
    books = await load_many(session, ids)
    by_order = {book.order_id: book for book in books}
    merchants = {book.order_id: book.merchant_id for book in books}
    for row in await session.execute(_ON_RAILS, {"ids": [id for id in ids if id not in by_order]}):
        merchants[OrderId.of(row.order_id)] = BrandId.of(row.merchant_id)
    wanted = [hold for hold in holds if hold.order_id in merchants]
    if not wanted:
        return set()
    values = {
        "now": now, "lines": [hold.order_line_id for hold in wanted], "names": [hold.name for hold in wanted],
        "orders": [hold.order_id for hold in wanted],
        "merchants": [merchants[hold.order_id] for hold in wanted],
    }  # fmt: skip
    laid = {OrderLineId.of(each) for each in (await session.execute(_LAY, values)).scalars()}
    fresh = {
        (hold.order_id, hold.order_line_id)
        for hold in wanted
        if hold.order_line_id in laid and hold.order_id in by_order
    }
    return await _take_back(session, [(by_order[order], line) for order, line in sorted(fresh)], now)


async def lift_holds(session: AsyncSession, names: Sequence[str]) -> None:
    """What no other hold keeps is released by the next sweep, when it is due."""
    await session.execute(_LIFT, {"names": list(names)})


async def mark_held(session: AsyncSession, books: Iterable[OrderBook]) -> None:
    """Tell the books which of their lines' commissions are held now. One statement."""
    lines = [line for book in books for line in book.lines]
    found = await session.execute(_HELD, {"lines": [line.order_line_id for line in lines]})
    held = {OrderLineId.of(each) for each in found.scalars()}
    for line in lines:
        line.commission_held = line.order_line_id in held


async def _take_back(
    session: AsyncSession, lines: Sequence[tuple[OrderBook, OrderLineId]], now: datetime
) -> set[OrderLineId]:
    released = [
        (book, line)
        for book, order_line_id in lines
        for line in book.lines
        if line.order_line_id == order_line_id
        and any(cell.released_minor for cell in _commission_cells(line))
    ]
    if not released:
        return set()
    accounts = [_accounts(book, cell)[1] for book, line in released for cell in _commission_cells(line)]
    held = await ledger.hold(session, accounts)
    journals, taken = [], set()
    for book, line in released:
        legs = _back_to_pending(book, line, held)
        if legs:
            book.releases += 1
            key = f"unrelease:{line.order_line_id}:{book.releases}"
            journals.append(Journal(key, Kind.RELEASE_UNDONE, merged(legs), now, book.order_id))
            taken.add(line.order_line_id)
    if journals:
        await save(session, list({book.order_id: book for book, _ in released}.values()))
        await ledger.post_together(session, journals, now=now)
    return taken


def _back_to_pending(book: OrderBook, line: BookLine, held: MutableMapping[AccountKey, int]) -> list[Leg]:
    """As far as the payee still has it available; the platform's part is revenue and always here."""
    legs = []
    for cell in _commission_cells(line):
        pending, available = _accounts(book, cell)
        here = cell.released_minor if platform_part(cell.part) else held.get(available, 0)
        amount = min(cell.released_minor, here)
        if amount:
            held[available] = held.get(available, 0) - amount
            cell.released_minor -= amount
            cell.pending_minor += amount
            legs += [debit(available, amount), credit(pending, amount)]
    return legs


def _accounts(book: OrderBook, cell: Cell) -> tuple[AccountKey, AccountKey]:
    """Where the cell lies before and after its release."""
    pending = pending_account(
        cell.part, cell.payee_id, book.currency, jurisdiction=book.tax_jurisdiction, tenant_id=cell.tenant_id
    )
    return pending, released_account(cell.part, cell.payee_id, book.currency, tenant_id=cell.tenant_id)


def _commission_cells(line: BookLine) -> list[Cell]:
    return [cell for cell in line.cells.values() if cell.part in COMMISSION_PARTS]
