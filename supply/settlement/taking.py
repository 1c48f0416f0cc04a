"""Where a taken share comes from: what is pending of the order, then what was released of it and is here.

What is missing is owed (account 1100).
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass

from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Leg, credit, debit
from supply.settlement.composition import Part
from supply.settlement.order_book import Cell, OrderBook, platform_part
from supply.settlement.parties import coupon_account, party_account, platform_account, tax_account

Held = MutableMapping[AccountKey, int]


@dataclass(frozen=True, slots=True)
class Share:
    """Minor units to take from a cell; below zero they are given to it."""

    cell: Cell
    amount_minor: int


def accounts_touched(book: OrderBook) -> list[AccountKey]:
    """Every strict account ``take``, and what follows it of a sale at source, may post to: hold them first."""
    accounts = book.party_accounts(Code.PENDING, Code.AVAILABLE, Code.RECEIVABLE)
    return [*accounts, book.merchants(Code.RECEIVABLE_NOT_DUE)] if book.at_source else accounts


def take(book: OrderBook, shares: Iterable[Share], held: Held) -> list[Leg]:
    """The legs that take the shares, and the cells' pending and released amounts moved accordingly.

    ``held`` is what the accounts hold, under lock; it is counted down as the shares take from it.
    """
    legs: list[Leg] = []
    shares = list(shares)
    # Own pending money first, for all shares: what one cell lacks must not eat what another is about to take.
    missing = [Share(share.cell, _from_own_pending(book, share, legs)) for share in shares]
    for share in missing:
        if share.amount_minor:
            _from_elsewhere(book, share, held, legs)
    return legs


def _from_own_pending(book: OrderBook, share: Share, legs: list[Leg]) -> int:
    cell, amount = share.cell, share.amount_minor
    if cell.part is Part.TAX:
        legs.append(debit(tax_account(book.tax_jurisdiction, book.currency), amount))
        return 0
    if cell.part is Part.COUPON:
        legs.append(debit(_coupon_back(book, cell), amount))
        return 0
    taken = min(amount, cell.pending_minor)
    cell.pending_minor -= taken
    legs.append(debit(_pending(book, cell), taken))
    return amount - taken


def _from_elsewhere(book: OrderBook, share: Share, held: Held, legs: list[Leg]) -> None:
    cell, missing = share.cell, share.amount_minor
    if platform_part(cell.part):
        cell.released_minor = max(cell.released_minor - missing, 0)
        legs.append(debit(platform_account(Code.FEE_REVENUE, book.currency), missing))
        return
    own = [cell, *(other for other in book.cells_of(cell.payee_id) if other is not cell)]
    for other in own:
        taken = min(missing, other.pending_minor)
        other.pending_minor -= taken
        missing -= taken
        legs.append(debit(_pending(book, other), taken))
    available = party_account(Code.AVAILABLE, cell.payee_id, book.currency, cell.tenant_id)
    for other in own:
        taken = min(missing, other.released_minor, held.get(available, 0))
        other.released_minor -= taken
        held[available] = held.get(available, 0) - taken
        missing -= taken
        legs.append(debit(available, taken))
    owed = party_account(Code.RECEIVABLE, cell.payee_id, book.currency, cell.tenant_id)
    legs.append(debit(owed, missing))


def give(book: OrderBook, share: Share) -> Leg:
    """Lay ``amount_minor`` into the cell as pending."""
    share.cell.pending_minor += share.amount_minor
    return credit(_pending(book, share.cell), share.amount_minor)


def _coupon_back(book: OrderBook, cell: Cell) -> AccountKey:
    """To the platform's expense; to a promoter as available, which pays off what it owes first (R7b)."""
    if not cell.payee_id:
        return coupon_account(book.currency)
    return party_account(Code.AVAILABLE, cell.payee_id, book.currency, cell.tenant_id)


def _pending(book: OrderBook, cell: Cell) -> AccountKey:
    if platform_part(cell.part):
        return platform_account(Code.FEE_DEFERRED, book.currency)
    return party_account(Code.PENDING, cell.payee_id, book.currency, cell.tenant_id)
