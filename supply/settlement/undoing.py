"""R5c: a reservation undone. What it changed is subtracted again, and everybody gets back what it took.

Between the two the money may have moved on: what a party owed may be paid off, what it gained may be released,
and another supplier may have taken the line over. Then the books cannot be mirrored leg by leg, but the sums
still are: whoever gave gets it back, and what a supplier gave that is no longer on the line is the merchant's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Leg, credit, debit
from supply.settlement.composition import Part, Taken
from supply.settlement.order_book import BookLine, Cell, OrderBook
from supply.settlement.parties import owner_of, party_account, party_of

Positions = dict[tuple[str, str], tuple[int, ...]]
_OF_LINE = ("returned_quantity", "accepted_quantity", "by_quantity_minor", "by_value_minor")
_ORDER = (Code.RECEIVABLE, Code.AVAILABLE, Code.PENDING)


def positions(book: OrderBook) -> Positions:
    """Everything a refund can change in a book, as numbers."""
    found: Positions = {}
    for line in book.lines:
        found[str(line.id), ""] = (
            line.returned_quantity, line.accepted_quantity, line.by_quantity_minor, line.by_value_minor,
        )  # fmt: skip
        for cell in line.cells.values():
            found[str(line.id), str(cell.seat)] = (
                cell.by_line_minor, cell.by_amount_minor, cell.pending_minor, cell.released_minor,
            )  # fmt: skip
    return found


def moved(before: Positions, after: Positions) -> list[list[Any]]:
    """``[line id, seat or "", four differences]`` of everything that changed."""
    return [
        [*key, *(now - was for now, was in zip(after[key], before[key], strict=True))]
        for key in before
        if before[key] != after[key]
    ]


def legs_body(legs: Iterable[Leg]) -> list[list[Any]]:
    """``[account code, owner, debit]`` of legs of one order, to be kept beside ``moved``."""
    return [[int(leg.account.code), leg.account.owner, leg.amount_minor] for leg in legs]


def legs_of(body: Iterable[Sequence[Any]], book: OrderBook) -> list[Leg]:
    tenants = {account.owner: account.tenant_id for account in book.party_accounts(Code.PENDING)}
    return [
        Leg(AccountKey(Code(code), owner, book.currency, tenants.get(owner)), amount)
        for code, owner, amount in body
    ]


def taken_body(taken: Iterable[Taken]) -> list[list[Any]]:
    """``[line id, seat, payee, minor units]``."""
    return [[t.source_id, str(t.seat), t.payee.party_id, t.amount_minor] for t in taken]


def payees_body(book: OrderBook, changes: Iterable[Sequence[Any]]) -> list[list[str]]:
    """``[line id, seat, payee]`` of every cell that changed, at the time."""
    return [[line_id, seat, book.line(line_id).cells[seat].payee_id] for line_id, seat, *_ in changes if seat]


def payees_of(body: Iterable[Sequence[str]]) -> dict[tuple[str, str], str]:
    return {(line_id, seat): payee for line_id, seat, payee in body}


@dataclass(slots=True)
class Elsewhere:
    """Where the undoing differs from the mirror, in minor units."""

    gone: dict[str, int] = field(default_factory=dict)
    """By owner: what it gained and is no longer pending."""
    not_to: dict[tuple[str, Code], int] = field(default_factory=dict)
    """By (owner, code): what a supplier that left the line does not get back …"""
    to_merchant_minor: int = 0
    """… and the merchant gets, who pays the new supplier in full."""
    laid: dict[str, int] = field(default_factory=dict)
    """By owner: what was laid back as pending into cells that are still its own."""


def put_back(
    book: OrderBook, changes: Iterable[Sequence[Any]], payees: Mapping[tuple[str, str], str]
) -> Elsewhere:
    """Subtract the changes from the book. ``payees`` are those of the reservation, by (line id, seat): of every
    cell it changed."""
    elsewhere = Elsewhere()
    for line_id, seat, *numbers in changes:
        line = book.line(line_id)
        if not seat:
            for name, number in zip(_OF_LINE, numbers, strict=True):
                _subtract_of_line(book, line, name, number)
            continue
        cell = line.cells[seat]
        _subtract_of_cell(book, line, cell, "by_line_minor", numbers[0])
        _subtract_of_cell(book, line, cell, "by_amount_minor", numbers[1])
        then = payees.get((line_id, seat), cell.payee_id)
        if then != cell.payee_id:
            _left_the_line(line, cell, then, numbers, elsewhere)
            continue
        missing = max(numbers[2] - cell.pending_minor, 0)
        cell.pending_minor -= numbers[2] - missing
        owner = owner_of(cell.payee_id)
        elsewhere.laid[owner] = elsewhere.laid.get(owner, 0) - (numbers[2] - missing)
        cell.released_minor = max(cell.released_minor - numbers[3] - missing, 0)
        if missing:
            elsewhere.gone[owner] = elsewhere.gone.get(owner, 0) + missing
    return elsewhere


def _subtract_of_line(book: OrderBook, line: BookLine, name: str, number: int) -> None:
    """From the line, and what was cut off it by a re-route from those cut off."""
    for each in [line, *_siblings(book, line)]:
        taken = min(number, getattr(each, name))
        setattr(each, name, getattr(each, name) - taken)
        number -= taken


def _subtract_of_cell(book: OrderBook, line: BookLine, cell: Cell, name: str, number: int) -> None:
    """The same for a cell. What a sibling gives up it was never paid: its amount goes to this cell with it."""
    if cell.part in (Part.MERCHANT, Part.COUPON):  # may be below zero, and is never short of anything
        setattr(cell, name, getattr(cell, name) - number)
        return
    here = min(number, getattr(cell, name))
    setattr(cell, name, getattr(cell, name) - here)
    left = number - here
    for each in _siblings(book, line):
        other = each.cells.get(cell.seat)
        if other is not None and left:
            taken = min(left, getattr(other, name))
            setattr(other, name, getattr(other, name) - taken)
            other.amount_minor -= taken
            cell.amount_minor += taken
            left -= taken


def _siblings(book: OrderBook, line: BookLine) -> list[BookLine]:
    return [
        each
        for each in book.lines
        if each is not line and each.kind is line.kind and each.order_line_id == line.order_line_id
    ]


def _left_the_line(
    line: BookLine, cell: Cell, then: str, numbers: Sequence[int], elsewhere: Elsewhere
) -> None:
    taken, pending, released = numbers[0] + numbers[1], -numbers[2], -numbers[3]
    merchant = line.cells[Part.MERCHANT]
    cell.amount_minor -= taken
    merchant.amount_minor += taken
    merchant.pending_minor += taken
    elsewhere.to_merchant_minor += taken
    # The cell may have given more than its own share, where another one of the party had nothing left.
    own_pending = min(pending, taken)
    own_released = min(released, taken - own_pending)
    shares = {
        Code.PENDING: own_pending,
        Code.AVAILABLE: own_released,
        Code.RECEIVABLE: taken - own_pending - own_released,
    }
    for code, amount in shares.items():
        key = (owner_of(then), code)
        elsewhere.not_to[key] = elsewhere.not_to.get(key, 0) + amount


def undo(
    book: OrderBook, reserved: Iterable[Leg], elsewhere: Elsewhere, held: Mapping[AccountKey, int]
) -> list[Leg]:
    """The legs that undo the reservation's, given what the accounts hold, under lock."""
    reserved = list(reserved)
    amounts = {leg.account: leg.amount_minor for leg in reserved}
    _withhold(amounts, elsewhere.not_to)
    undone = [
        credit(
            party_account(Code.PENDING, str(book.merchant_id), book.currency, book.merchant_id),
            elsewhere.to_merchant_minor,
        )
    ]
    for account, amount in amounts.items():
        missing = elsewhere.gone.get(account.owner, 0) if account.code is Code.PENDING else 0
        if missing:
            available = replace(account, code=Code.AVAILABLE)
            here = min(missing, held.get(available, 0))
            undone += [debit(available, here), debit(replace(account, code=Code.RECEIVABLE), missing - here)]
            amount += missing
        if account.code is Code.PENDING:
            homeless = _settle_cells(book, account.owner, amount - elsewhere.laid.get(account.owner, 0))
            undone.append(credit(replace(account, code=Code.AVAILABLE), homeless))
            amount -= homeless
        if account.code is Code.RECEIVABLE and amount > held[account]:
            # Paid off in the meantime: the party gets that back.
            undone.append(credit(replace(account, code=Code.AVAILABLE), amount - held[account]))
            amount = held[account]
        if account.code is Code.AVAILABLE and -amount > held.get(account, 0):
            # A promoter's coupon came back to it and is gone since: it owes that again.
            undone.append(debit(replace(account, code=Code.RECEIVABLE), -amount - held.get(account, 0)))
            amount = -held.get(account, 0)
        undone.append(credit(account, amount))
    return undone


def _settle_cells(book: OrderBook, owner: str, more: int) -> int:
    """Pending that comes back to a party beyond what its cells have got already goes where there is room; how
    much found none. Below zero, the cells had more laid back than comes, and give it up.

    A party's share may have come out of another cell, and that one may be another supplier's by now.
    """
    for cell in book.cells_of(party_of(owner)):
        room = max(cell.held_minor - cell.pending_minor - cell.released_minor, 0)
        laid = min(more, room) if more > 0 else -min(-more, cell.pending_minor)
        cell.pending_minor += laid
        more -= laid
    return more


def _withhold(amounts: dict[AccountKey, int], not_to: Mapping[tuple[str, Code], int]) -> None:
    """Lower the owners' amounts, each where the reservation had taken it; what does not fit there, elsewhere."""
    over: dict[str, int] = {}
    for (owner, code), amount in not_to.items():
        account = next((a for a in amounts if (a.owner, a.code) == (owner, code)), None)
        fits = min(amount, max(amounts[account], 0)) if account else 0
        if account:
            amounts[account] -= fits
        over[owner] = over.get(owner, 0) + amount - fits
    for owner, amount in over.items():
        for code in _ORDER:
            account = next((a for a in amounts if (a.owner, a.code) == (owner, code)), None)
            if account and amount:
                fits = min(amount, max(amounts[account], 0))
                amounts[account] -= fits
                amount -= fits
