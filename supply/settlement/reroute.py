"""R14: after capture another supplier takes units over. The old one loses its cost of them, the new one gets
its own, and the merchant carries the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId, SupplierId
from core.money import allocate_minor, allocate_remaining
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
    changes = [(move.to_supplier, *change) for move in moves for change in _split_off(book, move)]
    freight = _freight_lines(book, moves, from_freight_minor)
    suppliers = {move.to_supplier for move in moves}
    targets = [party_account(code, str(s), book.currency) for s in suppliers for code in _PARTY]
    held = await ledger.hold(session, [*accounts_touched(book), *targets])
    legs: list[Leg] = []
    for supplier, line, cost_minor in changes:
        legs += _new_supplier(book, line, supplier, cost_minor, held)
    if moves:
        legs += _new_freight(book, moves[0], freight, from_freight_minor, to_freight_minor, held)
    await save(session, [replace(book, lines=book.lines[:known])])
    await insert_lines(session, book, book.lines[known:])
    if moved := merged(legs):
        journal = Journal(f"reroute:{reference}", Kind.REROUTE, moved, now, order_id, reference)
        await ledger.post(session, journal, now=now)


_OF_THE_GOODS = frozenset({Part.MERCHANT, Part.COUPON, Part.SUPPLIER})
"""A supplier keeps the cost of what it did not take back, and the merchant the rest."""
_PARTY = (Code.PENDING, Code.AVAILABLE, Code.RECEIVABLE)


def _split_off(book: OrderBook, move: MovedUnits) -> list[tuple[BookLine, int]]:
    """Lines of exactly the moved units, cut from those of the old supplier, each with the new cost of it."""
    cut: list[BookLine] = []
    left = move.quantity
    for line in book.goods_of(move.order_line_id):
        units = min(left, line.quantity - line.delivered_quantity)
        if line.supplier_id == move.from_supplier and units > 0:
            left -= units
            cut.append(line if units == line.quantity else _cut(book, line, units))
    if left:
        raise OrderLineNotSettled(move.order_line_id)
    return list(zip(cut, allocate_minor(move.to_cost_minor, [line.quantity for line in cut]), strict=True))


def _cut(book: OrderBook, line: BookLine, quantity: int) -> BookLine:
    """Divide a line in two by units; amounts go in proportion, to the last unit of money.

    Units that came back stay with the part that stays, as far as it has them, and what they took with them.
    """
    units = [line.quantity - quantity, quantity]
    returned = min(line.returned_quantity, units[0])
    accepted = min(line.accepted_quantity, units[0])
    moved_value = 0 if returned == line.returned_quantity else _in_proportion(line.by_quantity_minor, units)
    charged = _in_proportion(line.charged_minor, units)
    by_value = _in_proportion(line.by_value_minor, units)
    gave = line.by_quantity_minor - moved_value + line.by_value_minor - by_value
    # Nothing of what stays was kept, so nothing of its commission, tax and fee is.
    all_back = returned == line.returned_quantity > 0 and gave == line.charged_minor - charged
    cut = replace(
        line,
        id=SplitLineId.new(),
        quantity=quantity,
        cells={
            seat: _rest_of(cell)
            if all_back and cell.part not in _OF_THE_GOODS
            else _cut_cell(cell, units, line.returned_quantity > 0)
            for seat, cell in line.cells.items()
        },
        charged_minor=charged,
        basis_minor=_in_proportion(line.basis_minor, units),
        returned_quantity=line.returned_quantity - returned,
        accepted_quantity=line.accepted_quantity - accepted,
        by_quantity_minor=moved_value,
        by_value_minor=by_value,
        delivered_quantity=0,
        captured_minor=0,
        discounts={},
    )
    line.quantity, line.returned_quantity, line.accepted_quantity = units[0], returned, accepted
    for name in ("charged_minor", "basis_minor", "by_quantity_minor", "by_value_minor"):
        setattr(line, name, getattr(line, name) - getattr(cut, name))
    book.lines.append(cut)
    return cut


def _in_proportion(amount: int, units: Sequence[int]) -> int:
    """The second part of an amount that may be below zero."""
    share = allocate_minor(abs(amount), units)[1]
    return share if amount >= 0 else -share


def _rest_of(cell: Cell) -> Cell:
    """Everything that is held of a cell; ``cell`` keeps what was taken of it."""
    rest = replace(
        cell,
        amount_minor=cell.held_minor,
        by_line_minor=0,
        by_amount_minor=0,
        captured_minor=0,
        captured_payee="",
    )
    cell.amount_minor -= rest.amount_minor
    cell.pending_minor = cell.released_minor = 0
    return rest


def _cut_cell(cell: Cell, units: Sequence[int], came_back: bool) -> Cell:
    """The moved part of a cell; ``cell`` becomes the part that stays. Neither holds less than nothing, unless
    it is a merchant's."""
    amount = _in_proportion(cell.amount_minor, units)
    stays = cell.amount_minor - amount
    if cell.part in (Part.MERCHANT, Part.COUPON):  # may be below zero
        by_line = 0 if came_back else _in_proportion(cell.by_line_minor, units)
        by_amount = _in_proportion(cell.by_amount_minor, units)
    else:
        share = 0 if came_back else _in_proportion(cell.by_line_minor, units)
        by_line = min(max(share, cell.by_line_minor - stays), amount)
        room = [stays - (cell.by_line_minor - by_line), amount - by_line]
        by_amount = allocate_remaining(cell.by_amount_minor, room)[1]
    held = max(amount - by_line - by_amount, 0)
    pending = min(cell.pending_minor, held)
    released = min(cell.released_minor, held - pending)
    cell.amount_minor, cell.by_line_minor = stays, cell.by_line_minor - by_line
    cell.by_amount_minor -= by_amount
    cell.pending_minor -= pending
    cell.released_minor -= released
    return replace(
        cell,
        amount_minor=amount,
        by_line_minor=by_line,
        by_amount_minor=by_amount,
        pending_minor=pending,
        released_minor=released,
        captured_minor=0,
        captured_payee="",
    )


def _new_supplier(
    book: OrderBook, line: BookLine, supplier_id: SupplierId, cost_minor: int, held: Held
) -> list[Leg]:
    """The old supplier loses what it holds of the line, the new one gets its cost; what refunds took before
    stays taken."""
    cell, merchant = line.cells[Part.SUPPLIER], line.cells[Part.MERCHANT]
    difference = cost_minor - cell.held_minor
    legs = take(book, [Share(cell, cell.held_minor)], held)
    line.supplier_id = supplier_id
    cell.payee_id, cell.tenant_id = str(supplier_id), supplier_id
    cell.amount_minor += difference
    cell.released_minor = 0
    legs.append(give(book, Share(cell, cost_minor)))
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
        legs += _new_supplier(book, line, move.to_supplier, share, held)
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
