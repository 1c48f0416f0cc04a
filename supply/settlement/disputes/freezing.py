"""R9b: the parties' shares that are still here wait in 2030 until the dispute is decided.

What is frozen is what a loss would take: the same composition, the same order of accounts (own pending, other
pending of the order, then what was released and is still here). What was paid out is not here and is owed only
once the dispute is lost. Thawing first and taking afterwards is therefore, summed up, R9c.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from core.ids import TenantId
from core.money import allocate_remaining
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Leg, credit, debit
from supply.settlement import composition
from supply.settlement.composition import OrderState, Part, Seat, Taken
from supply.settlement.ids import SplitLineId
from supply.settlement.order_book import PARTY_PARTS, Cell, OrderBook
from supply.settlement.parties import party_account
from supply.settlement.taking import Held, Share, take


@dataclass(frozen=True, slots=True)
class Frozen:
    """What of one cell lies in 2030; a cell that gained for another one's loss has less than zero."""

    line_id: SplitLineId
    seat: Seat
    payee_id: str
    tenant_id: TenantId | None
    pending_minor: int
    available_minor: int

    @property
    def amount_minor(self) -> int:
        return self.pending_minor + self.available_minor


def over_orders(amount_minor: int, kept: Sequence[int]) -> tuple[list[int], int]:
    """A disputed charge over its orders by what the customer keeps of each; and what none of them explains.

    Largest remainder, ties to the earlier order. The rest is the platform's: money that was never an order's.
    """
    room = [max(each, 0) for each in kept]
    explained = min(amount_minor, sum(room))
    return allocate_remaining(explained, room), amount_minor - explained


def shares_of(book: OrderBook, amount_minor: int) -> tuple[OrderState, list[Taken]]:
    """R6b: who gives how much of a disputed amount, over what each still holds of the order.

    All that is left is taken from every cell, so that a merchant below zero in one of them is set off.
    """
    before = book.state
    left = before.left_minor
    if amount_minor >= left:
        refund = composition.refund_rest(before)
    else:
        refund = composition.refund_amount(before, amount_minor)
    return refund.order, list(refund.taken)


def freeze(book: OrderBook, taken: Iterable[Taken], held: Held) -> tuple[list[Leg], list[Frozen]]:
    """The legs from 2000 and 2010 into 2030, and what they froze of each cell. Platform and tax stay, and so does
    a merchant the order had cost money: a loss would give it some back."""
    cells = {(line.id, seat): cell for line in book.lines for seat, cell in line.cells.items()}
    before = {key: (cell.pending_minor, cell.released_minor) for key, cell in cells.items()}
    shares = [Share(book.line(each.source_id).cells[each.seat], each.amount_minor) for each in taken]
    shares = [share for share in shares if share.cell.part in PARTY_PARTS]
    due: dict[str, int] = {}
    for share in shares:
        due[share.cell.payee_id] = due.get(share.cell.payee_id, 0) + share.amount_minor
    gives = [share for share in shares if due[share.cell.payee_id] > 0]
    legs = [leg for leg in take(book, gives, held) if leg.account.code is not Code.RECEIVABLE]
    frozen = []
    for (line_id, seat), cell in cells.items():
        pending, released = before[line_id, seat]
        if (pending, released) != (cell.pending_minor, cell.released_minor):
            frozen.append(
                Frozen(
                    line_id, seat, cell.payee_id, cell.tenant_id, pending - cell.pending_minor,
                    released - cell.released_minor,
                )
            )  # fmt: skip
    legs += [credit(reserved(book, each.payee_id, each.tenant_id), each.amount_minor) for each in frozen]
    return legs, frozen


def thaw(book: OrderBook, frozen: Iterable[Frozen], held: Held) -> list[Leg]:
    """Lay everything back where it was.

    A re-route may have moved units to another supplier meanwhile: what no cell of the party accounts for any
    more is available to it, beside what it owes for the units.
    """
    legs: list[Leg] = []
    for each in frozen:
        available = party_account(Code.AVAILABLE, each.payee_id, book.currency, each.tenant_id)
        pending = party_account(Code.PENDING, each.payee_id, book.currency, each.tenant_id)
        laid = _lay_pending(book, each)
        released = each.amount_minor - laid
        if (cell := _cell(book, each)) is not None:
            cell.released_minor += min(each.available_minor, _room(cell))
        held[available] = held.get(available, 0) + released
        legs += [
            debit(reserved(book, each.payee_id, each.tenant_id), each.amount_minor),
            credit(pending, laid),
            credit(available, released),
        ]
    return legs


def _lay_pending(book: OrderBook, frozen: Frozen) -> int:
    """Into its cell, then into the party's others; how much there was room for."""
    left = frozen.pending_minor
    own = _cell(book, frozen)
    if own is not None and (left < 0 or own.part is Part.MERCHANT):  # a merchant's cells may be below zero
        own.pending_minor += left
        return left
    others = [cell for cell in book.cells_of(frozen.payee_id) if cell is not own]
    for cell in [own, *others] if own is not None else others:
        laid = min(left, _room(cell))
        cell.pending_minor += laid
        left -= laid
    return frozen.pending_minor - left


def _room(cell: Cell) -> int:
    return max(cell.held_minor - cell.pending_minor - cell.released_minor, 0)


def available_of(book: OrderBook, frozen: Iterable[Frozen]) -> list[AccountKey]:
    """Where the frozen shares of parties that have left the order would be laid."""
    return [party_account(Code.AVAILABLE, each.payee_id, book.currency, each.tenant_id) for each in frozen]


def reserved(book: OrderBook, payee_id: str, tenant_id: TenantId | None) -> AccountKey:
    return party_account(Code.RESERVED, payee_id, book.currency, tenant_id)


def _cell(book: OrderBook, frozen: Frozen) -> Cell | None:
    line = next((line for line in book.lines if line.id == frozen.line_id), None)
    cell = line.cells.get(frozen.seat) if line else None
    return cell if cell is not None and cell.payee_id == frozen.payee_id else None
