"""Money on the sharing rail: the same double-entry books, in accounts of its own.

``share:{merchant}:frozen`` waits to be shared, ``share:{merchant}:sharing`` is on its way to receivers,
``share:{merchant}:available`` is the merchant's own; ``share:person:{account}`` went to an individual and can
never be taken back.
"""

from __future__ import annotations

from services.paysim import books
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import JsonDict

CURRENCY = "cny"
CAP_PPM = 300_000
"""Of one payment, what may leave to others: 30 % unless the rail allowed this merchant more."""
FREEZE_DAYS = 180
RETURN_DAYS = 180
MAX_RECEIVERS = 50
MAX_REQUESTS = 50
FEE_PPM = 6_000
RESULT_AFTER_S = 30
"""When a request's result is known, by paysim's clock."""


def frozen(merchant: str) -> str:
    return f"share:{merchant}:frozen"


def sharing(merchant: str) -> str:
    return f"share:{merchant}:sharing"


def available(merchant: str) -> str:
    return f"share:{merchant}:available"


def of_receiver(kind: str, account: str) -> str:
    return available(account) if kind == "MERCHANT" else f"share:person:{account}"


def move(tx: Tx, memo: str, *legs: tuple[str, int]) -> None:
    books.post(tx, memo, [(account, CURRENCY, amount) for account, amount in legs])


def held(tx: Tx, account: str) -> int:
    owner, _, bucket = account.rpartition(":")
    return books.balance(tx, owner, bucket, CURRENCY)


def note(
    tx: Tx,
    kind: str,
    payment: JsonDict,
    number: str,
    amount: int,
    *,
    receiver: tuple[str, str] = ("", ""),
    result: str = "SUCCESS",
    reason: str = "",
) -> None:
    """A row of the day's bill. ``kind``: PAYMENT, FEE, SHARE, UNFREEZE, RETURN, REFUND or FEE_BACK."""
    row: JsonDict = {
        "id": new_id("shm"),
        "object": "share_movement",
        "created": tx.now,
        "merchant_id": payment["merchant_id"],
        "transaction_id": payment["id"],
        "kind": kind,
        "number": number,
        "receiver_type": receiver[0],
        "account": receiver[1],
        "amount": amount,
        "result": result,
        "reason": reason,
    }
    tx.insert(row, account=tx.platform)


def report(tx: Tx) -> list[JsonDict]:
    """Merchants whose frozen money is not what their payments still have to share."""
    expected: dict[str, int] = {}
    for payment in tx.all("share_payment"):
        merchant = payment["merchant_id"]
        expected[merchant] = expected.get(merchant, 0) + payment["frozen"]
    wrong = []
    for merchant in tx.all("share_merchant"):
        book, explained = held(tx, frozen(merchant["id"])), expected.get(merchant["id"], 0)
        if book != explained:
            wrong.append({"merchant": merchant["id"], "book": book, "payments": explained})
    return wrong
