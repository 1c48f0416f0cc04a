"""What can be wrong between the provider's rows and our postings: pure comparison of one group.

A group is everything about one thing at the provider (a charge, a refund, a transfer …) in one direction: its rows
there, its journals here. It matches when, in every currency, the journals sum to the rows' amount and the booked
fees to the rows' fee, or the journals to the net where a fee is inside its journal (a dispute's). A row whose fee ate
all of it still needs its journals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from supply.settlement.reconciliation.models import Role


class Finding(StrEnum):
    NO_JOURNAL = "no_journal"
    """The provider moved money that our books know nothing of."""
    UNKNOWN_TYPE = "unknown_type"
    """The same, of a kind we have no recipe for."""
    NO_ROW = "no_row"
    """Our books say money moved, the provider does not."""
    AMOUNT_DIFFERS = "amount_differs"
    FEE_DIFFERS = "fee_differs"
    DOUBLED = "doubled"
    """One journal too many."""
    PROVIDER_LIST_DIFFERS = "provider_list_differs"
    """The provider's rows do not sum to the balance it reports."""
    BOOKS_DIFFER = "books_differ"
    """Our accounts are not what rows and open items say."""
    AVAILABILITY_DIFFERS = "availability_differs"
    """The sum agrees; what is available of it does not."""
    BATCH_DIFFERS = "batch_differs"
    """The transfers of a payout batch are not what it paid."""
    AUTOMATIC_PAYOUT_DIFFERS = "automatic_payout_differs"


KNOWN_TYPES = frozenset(
    {
        "charge", "payment", "refund", "payment_refund", "refund_failure", "payment_failure_refund", "transfer",
        "transfer_refund", "transfer_failure", "transfer_cancel", "adjustment", "stripe_fee", "tax_fee",
        "stripe_fx_fee", "payout", "payout_failure", "payout_cancel", "reserve_transaction", "reserve_hold",
        "reserve_release",
        "reserved_funds", "opening",
    }
)  # fmt: skip
"""Types a recipe exists for (money.md §5); a row of another type goes to suspense at once."""


@dataclass(frozen=True, slots=True)
class RowFact:
    id: str
    type: str
    currency: str
    amount_minor: int
    fee_minor: int
    net_minor: int
    created_at: datetime
    available_on: datetime


@dataclass(frozen=True, slots=True)
class PostingFact:
    """``amount_minor`` is its effect on the provider's accounts; a fee's is below zero."""

    key: str
    kind: str
    role: Role
    currency: str
    amount_minor: int
    posted_at: datetime


@dataclass(frozen=True, slots=True)
class Side:
    """One currency of a group: what the rows say beside what was booked."""

    amount_minor: int = 0
    fee_minor: int = 0
    net_minor: int = 0
    booked_minor: int = 0
    booked_fee_minor: int = 0
    booked: bool = False
    """Whether there is a journal at all."""

    @property
    def matches(self) -> bool:
        apart = (self.booked_minor, self.booked_fee_minor) == (self.amount_minor, self.fee_minor)
        inside = (self.booked_minor, self.booked_fee_minor) == (self.net_minor, 0)
        return apart or (inside and self.booked)


def sides(rows: Sequence[RowFact], postings: Sequence[PostingFact]) -> dict[str, Side]:
    currencies = dict.fromkeys([*(row.currency for row in rows), *(posting.currency for posting in postings)])
    return {currency: _side(currency, rows, postings) for currency in currencies}


def _side(currency: str, rows: Sequence[RowFact], postings: Sequence[PostingFact]) -> Side:
    listed = [row for row in rows if row.currency == currency]
    booked = [posting for posting in postings if posting.currency == currency]
    return Side(
        amount_minor=sum(row.amount_minor for row in listed),
        fee_minor=sum(row.fee_minor for row in listed),
        net_minor=sum(row.net_minor for row in listed),
        booked_minor=sum(p.amount_minor for p in booked if p.role is not Role.FEE),
        booked_fee_minor=-sum(p.amount_minor for p in booked if p.role is Role.FEE),
        booked=bool(booked),
    )


def matches(rows: Sequence[RowFact], postings: Sequence[PostingFact]) -> bool:
    return all(side.matches for side in sides(rows, postings).values())


def judge(rows: Sequence[RowFact], postings: Sequence[PostingFact]) -> Finding | None:
    """What is wrong with a group; None when nothing is."""
    if matches(rows, postings):
        return None
    amounts = [posting for posting in postings if posting.role is Role.AMOUNT]
    if not rows:
        return Finding.NO_ROW
    if not amounts:
        known = all(row.type in KNOWN_TYPES for row in rows)
        return Finding.NO_JOURNAL if known else Finding.UNKNOWN_TYPE
    for posting in postings:
        others = [each for each in postings if each is not posting]
        if any(each.role is posting.role for each in others) and matches(rows, others):
            return Finding.DOUBLED
    if all(side.booked_minor == side.amount_minor for side in sides(rows, postings).values()):
        return Finding.FEE_DIFFERS
    return Finding.AMOUNT_DIFFERS
