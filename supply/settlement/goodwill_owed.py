"""R6c: what the platform gave a customer of an order is one signed number, and these are its accounts.

Above zero the platform gave it and nobody has repaid it: its expense (5030). Below zero a refund of the parties'
shares repaid it, and then its own payment came back from the bank: the customer's (2100), until somebody gives it
back. Whatever brings the customer money that no line, shipping or amount of the order stands behind draws on that
first: goodwill, a refund of everything, one made at the provider, a lost dispute.
"""

from __future__ import annotations

from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Leg, credit, debit
from supply.settlement.order_book import OrderBook
from supply.settlement.parties import platform_account


def change_goodwill(book: OrderBook, change_minor: int) -> list[Leg]:
    """Lay ``change_minor`` more into the order's goodwill, below zero less; the legs of it, which sum to as much."""
    given, owed = max(book.goodwill_minor, 0), book.owed_to_customer_minor
    book.goodwill_minor += change_minor
    expense, customers = _accounts(book)
    return [
        debit(expense, max(book.goodwill_minor, 0) - given),
        credit(customers, book.owed_to_customer_minor - owed),
    ]


def is_goodwill(book: OrderBook, leg: Leg) -> bool:
    """Whether ``change_goodwill`` made it. (5030 has the platform's coupons too, and 2100 every refund.)"""
    return leg.account in _accounts(book)


def _accounts(book: OrderBook) -> tuple[AccountKey, AccountKey]:
    owed = AccountKey(Code.REFUND_PENDING, f"customer:{book.order_id}", book.currency)
    return platform_account(Code.GOODWILL, book.currency), owed
