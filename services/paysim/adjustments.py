"""Rows of the balance that no call of ours made: the provider's own fees, reserves, corrections (admin only)."""

from __future__ import annotations

from services.paysim import books
from services.paysim.movements import record
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import ApiError, JsonDict

# Types that can be made up, their reporting category and the other side of the posting.
INJECTABLE = {
    "adjustment": ("other_adjustment", books.NETWORK),
    "charge": ("charge", books.NETWORK),
    "payment": ("charge", books.NETWORK),
    "refund": ("refund", books.NETWORK),
    "reserve_hold": ("risk_reserved_funds", books.RESERVE),
    "reserve_release": ("risk_reserved_funds", books.RESERVE),
    "reserve_transaction": ("risk_reserved_funds", books.RESERVE),
    "payment_network_reserve_hold": ("network_reserve", books.RESERVE),
    "payment_network_reserve_release": ("network_reserve", books.RESERVE),
    "payout_minimum_balance_hold": ("payout_minimum_balance_hold", books.RESERVE),
    "payout_minimum_balance_release": ("payout_minimum_balance_release", books.RESERVE),
    "stripe_fee": ("fee", books.FEES),
    "stripe_fx_fee": ("fee", books.FEES),
    "tax_fee": ("tax", books.FEES),
    "topup": ("topup", books.BANK),
    "topup_reversal": ("topup_reversal", books.BANK),
    "transfer": ("transfer", books.NETWORK),
}


def inject(tx: Tx, given: JsonDict) -> JsonDict:
    """``{"type", "amount", "currency"?, "fee"?, "source"?, "description"?, "category"?, "ready_in_s"?,
    "account"?}``: amount signed from the owner's side, minor units; a fee comes off it."""
    kind = given["type"]
    if kind not in INJECTABLE:
        raise ApiError(400, f"type must be one of {', '.join(sorted(INJECTABLE))}", param="type")
    amount, fee = given["amount"], given.get("fee", 0)
    if not all(isinstance(each, int) and not isinstance(each, bool) for each in (amount, fee)) or not amount:
        raise ApiError(400, "amount and fee are integers, the amount not zero", param="amount")
    category, other_side = INJECTABLE[kind]
    currency = str(given.get("currency", "usd")).lower()
    return record(
        tx,
        owner=given.get("account") or tx.platform,
        type=kind,
        category=given.get("category", category),
        amount_minor=amount,
        currency=currency,
        source=given.get("source") or new_id("adj"),
        against=[(other_side, currency, -amount)],
        fee_minor=fee,
        ready_at=tx.now + int(given.get("ready_in_s", 0)),
        description=given.get("description", kind.replace("_", " ")),
    )
