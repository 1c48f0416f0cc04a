"""R14: after capture another supplier takes units over. The old one loses its cost of them, the new one gets
its own, and the merchant carries the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId, SupplierId
from core.money import allocate_minor
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, Leg, merged
from supply.settlement.composition import Part
from supply.settlement.errors import OrderLineNotSettled
from supply.settlement.ids import SplitLineId
from supply.settlement.kinds import Kind
from supply.settlement.models import LineKind
from supply.settlement.order_book import BookLine, Cell, OrderBook, insert_lines, load, save
from supply.settlement.parties import party_account
from supply.settlement.taking import Held, Share, accounts_touched, give, take


@dataclass(frozen=True, slots=True)
class MovedUnits:
    """``to_cost_minor`` is the new supplier's cost of all ``quantity`` units."""

    order_line_id: OrderLineId
    quantity: int
    from_supplier: SupplierId
    to_supplier: SupplierId
    to_cost_minor: int


async def reroute(
    session: AsyncSession,
    order_id: OrderId,
    moves: Sequence[MovedUnits],
    *,
    reference: str,
    now: datetime,
    from_freight_minor: int = 0,
    to_freight_minor: int = 0,
) -> None:
    """Move units to other suppliers; ``reference`` (the new fulfilment order) makes it happen once.

    ``from_freight_minor`` is what the old supplier no longer ships for, ``to_freight_minor`` what the new one
    asks. Raises ``OrderNotSettled``, ``OrderLineNotSettled``.
    """
    book = await load(session, order_id)
    known = len(book.lines)
    old = [_split_off(book, move) for move in moves]
    freight = _freight_lines(book, moves, from_freight_minor)
    suppliers = {move.to_supplier for move in moves}
    targets = [party_account(code, str(s), book.currency) for s in suppliers for code in _PARTY]
    held = await ledger.hold(session, [*accounts_touched(book), *targets])
    legs: list[Leg] = []
    for move, line in zip(moves, old, strict=True):
        legs += _new_supplier(book, line, move.to_supplier, move.to_cost_minor, held)
    if moves:
        legs += _new_freight(book, moves[0], freight, from_freight_minor, to_freight_minor, held)
    await save(session, [replace(book, lines=book.lines[:known])])
    await insert_lines(session, book, book.lines[known:])
    if moved := merged(legs):
        journal = Journal(f"reroute:{reference}", Kind.REROUTE, moved, now, order_id, reference)
        await ledger.post(session, journal, now=now)


_PARTY = (Code.PENDING, Code.AVAILABLE, Code.RECEIVABLE)


def _split_off(book: OrderBook, move: MovedUnits) -> BookLine:
    """A line of exactly the moved units, cut from the old supplier's when it has more."""
    for line in book.goods_of(move.order_line_id):
        free = line.quantity - line.delivered_quantity
        if line.supplier_id == move.from_supplier and free >= move.quantity:
            return line if line.quantity == move.quantity else _cut(book, line, move.quantity)
    raise OrderLineNotSettled(move.order_line_id)


def _cut(book: OrderBook, line: BookLine, quantity: int) -> BookLine:
    """Divide a line in two by units; every amount is divided in proportion, to the last unit of money.

    Units refunded before stay with the part that stays, as far as it has them.
    """
    stay = line.quantity - quantity
    shares = [stay, quantity]

    def part_of(amount: int) -> tuple[int, int]:
        first, second = allocate_minor(abs(amount), shares)
        return (first, second) if amount >= 0 else (-first, -second)

    cells: dict[Part, Cell] = {}
    for part, cell in line.cells.items():
        moved = replace(cell)
        for name in ("amount_minor", "by_line_minor", "by_amount_minor", "pending_minor", "released_minor"):
            first, second = part_of(getattr(cell, name))
            setattr(cell, name, first)
            setattr(moved, name, second)
        cells[part] = moved
    cut = replace(line, id=SplitLineId.new(), quantity=quantity, cells=cells, delivered_quantity=0)
    line.quantity = stay
    for name in ("charged_minor", "basis_minor", "by_quantity_minor", "by_value_minor"):
        first, second = part_of(getattr(line, name))
        setattr(line, name, first)
        setattr(cut, name, second)
    for name in ("returned_quantity", "accepted_quantity"):
        count = getattr(line, name)
        setattr(line, name, min(count, stay))
        setattr(cut, name, count - min(count, stay))
    book.lines.append(cut)
    return cut


def _new_supplier(
    book: OrderBook, line: BookLine, supplier_id: SupplierId, cost_minor: int, held: Held
) -> list[Leg]:
    """Change who delivers a line and at what cost; what refunds took of the old cost stays taken."""
    cell, merchant = line.cells[Part.SUPPLIER], line.cells[Part.MERCHANT]
    difference = cost_minor - cell.amount_minor
    legs = take(book, [Share(cell, cell.held_minor)], held)
    line.supplier_id = supplier_id
    cell.payee_id, cell.tenant_id = str(supplier_id), supplier_id
    cell.amount_minor, cell.released_minor = cost_minor, 0
    legs.append(give(book, Share(cell, cell.held_minor)))
    merchant.amount_minor -= difference
    return [*legs, *take(book, [Share(merchant, difference)], held)]


def _freight_lines(book: OrderBook, moves: Sequence[MovedUnits], freight_minor: int) -> list[BookLine]:
    """Whose freight the old supplier loses: the charges of the moved lines first, then its others."""
    if not freight_minor or not moves:
        return []
    moved = {move.order_line_id for move in moves}
    own = [
        line for line in book.shipping_of(None)
        if line.supplier_id == moves[0].from_supplier and line.cells[Part.SUPPLIER].held_minor > 0
    ]  # fmt: skip
    return sorted(own, key=lambda line: line.order_line_id not in moved)


def _new_freight(
    book: OrderBook,
    move: MovedUnits,
    lines: Sequence[BookLine],
    from_minor: int,
    to_minor: int,
    held: Held,
) -> list[Leg]:
    """Take ``from_minor`` of freight off the old supplier; charges it loses wholly go to the new one."""
    legs: list[Leg] = []
    emptied = []
    left = from_minor
    for line in lines:
        cell, merchant = line.cells[Part.SUPPLIER], line.cells[Part.MERCHANT]
        loses = min(left, cell.held_minor)
        if not loses:
            continue
        left -= loses
        if loses == cell.held_minor:
            emptied.append(line)
            continue
        legs += take(book, [Share(cell, loses)], held)
        cell.amount_minor -= loses
        merchant.amount_minor += loses
        legs += take(book, [Share(merchant, -loses)], held)
    if not emptied:
        return legs + (_added_freight(book, move, to_minor, held) if to_minor else [])
    weights = [line.charged_minor for line in emptied]
    shares = allocate_minor(to_minor, weights if any(weights) else [1] * len(emptied))
    for line, share in zip(emptied, shares, strict=True):
        taken_before = line.cells[Part.SUPPLIER].amount_minor - line.cells[Part.SUPPLIER].held_minor
        legs += _new_supplier(book, line, move.to_supplier, share + taken_before, held)
    return legs


def _added_freight(book: OrderBook, move: MovedUnits, freight_minor: int, held: Held) -> list[Leg]:
    """Freight nobody charged the customer for: a shipping line of its own that the merchant pays."""
    goods = book.goods_of(move.order_line_id)[0]
    due_at = goods.cells[Part.MERCHANT].due_at
    merchant = Cell(Part.MERCHANT, str(book.merchant_id), book.merchant_id, -freight_minor, due_at=due_at)
    supplier = Cell(Part.SUPPLIER, str(move.to_supplier), move.to_supplier, freight_minor, due_at=due_at)
    line = BookLine(
        SplitLineId.new(), move.order_line_id, LineKind.SHIPPING, move.to_supplier, 1, 0, 0,
        goods.settlement_days, {Part.MERCHANT: merchant, Part.SUPPLIER: supplier},
    )  # fmt: skip
    book.lines.append(line)
    return [give(book, Share(supplier, freight_minor)), *take(book, [Share(merchant, freight_minor)], held)]
