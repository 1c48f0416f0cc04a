"""Balance transactions: the rows an account holder sees for each posting that touches its money."""

from __future__ import annotations

from services.paysim import books
from services.paysim.events import emit
from services.paysim.faults import fire
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import JsonDict

DAY_S = 86_400


def available_on(tx: Tx, *, amount: int, currency: str) -> int:
    late = fire(tx, "late_availability", amount=amount, currency=currency) if tx.faults() else None
    days = tx.config.available_after_days if late is None else int(late.get("days", 7))
    return tx.now + days * DAY_S


def record(
    tx: Tx,
    *,
    owner: str,
    type: str,
    category: str,
    amount_minor: int,
    currency: str,
    source: str,
    against: list[books.Leg],
    fee_minor: int = 0,
    fee_words: str = "Stripe processing fees",
    ready_at: int | None = None,
    description: str | None = None,
    exchange_rate: str | None = None,
) -> JsonDict:
    """Posts ``amount - fee`` to the owner with ``against`` as the other legs, and lists it.

    ``ready_at`` in the future keeps the money pending until then. Amounts signed from the owner's side.
    """
    ready_at = tx.now if ready_at is None else ready_at
    status = "pending" if ready_at > tx.now else "available"
    transaction: JsonDict = {
        "id": new_id("txn"),
        "object": "balance_transaction",
        "amount": amount_minor,
        "available_on": ready_at,
        "balance_type": "payments",
        "created": tx.now,
        "currency": currency,
        "description": description,
        "exchange_rate": float(exchange_rate) if exchange_rate else None,
        "fee": fee_minor,
        "fee_details": _fee_details(fee_minor, currency, fee_words),
        "net": amount_minor - fee_minor,
        "reporting_category": category,
        "source": source,
        "status": status,
        "type": type,
    }
    legs = [
        (f"{owner}:{status}", currency, amount_minor - fee_minor),
        (books.FEES, currency, fee_minor),
        *against,
    ]
    books.post(tx, f"{type}:{source}", legs)
    tx.insert(transaction, account=owner)
    if status == "pending":
        tx.schedule(ready_at, "available", transaction["id"])
    return transaction


def make_available(tx: Tx, id: str) -> None:
    """Pending money becomes available at its time."""
    transaction = tx.find(id, "balance_transaction")
    if transaction is None or transaction["status"] == "available":
        return
    owner, currency, net = tx.owner(id), transaction["currency"], transaction["net"]
    legs = [(f"{owner}:pending", currency, -net), (f"{owner}:available", currency, net)]
    books.post(tx, f"available:{id}", legs)
    transaction["status"] = "available"
    tx.put(transaction)
    tx.freed.add(owner)


def announce_freed(tx: Tx) -> None:
    """One ``balance.available`` per account whose money was freed in this commit."""
    freed, tx.freed = sorted(tx.freed), set()
    for owner in freed:
        emit(tx, "balance.available", balance_object(tx, owner), account=owner)


def balance_object(tx: Tx, owner: str) -> JsonDict:
    held = books.balances(tx, owner) or {"usd": {"pending": 0, "available": 0}}

    def rows(bucket: str) -> list[JsonDict]:
        return [
            {
                "amount": held[currency][bucket],
                "currency": currency,
                "source_types": {"card": held[currency][bucket]},
            }
            for currency in sorted(held)
        ]

    balance: JsonDict = {
        "object": "balance",
        "available": rows("available"),
        "livemode": False,
        "pending": rows("pending"),
    }
    if owner == tx.platform:
        balance["connect_reserved"] = [{"amount": 0, "currency": currency} for currency in sorted(held)]
    return balance


def _fee_details(fee_minor: int, currency: str, words: str) -> list[JsonDict]:
    if not fee_minor:
        return []
    detail = {"amount": fee_minor, "application": None, "currency": currency, "description": words}
    return [{**detail, "type": "stripe_fee"}]
