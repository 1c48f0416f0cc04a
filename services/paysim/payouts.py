"""Payouts from a balance to the holder's bank: on the way, then paid or failed by paysim's clock."""

from __future__ import annotations

import operator

from services.paysim import books
from services.paysim.accounts import bank_of
from services.paysim.events import emit
from services.paysim.faults import fire
from services.paysim.metadata import merged
from services.paysim.movements import DAY_S, record
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import ApiError, JsonDict

STANDARD_DAYS = 2
SUBMITTED_AFTER_S = 12 * 3_600
"""A payout waits this long at the provider and can be cancelled meanwhile."""
COMPARE = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}
FAILURES = {
    "account_closed": "The bank account has been closed",
    "account_frozen": "The bank account has been frozen",
    "could_not_process": "The bank could not process this transfer",
    "insufficient_funds": "Your Stripe account has insufficient funds to cover the payout",
    "no_account": "The bank account details on file are probably incorrect.",
}


def create(tx: Tx, params: JsonDict) -> JsonDict:
    owner, amount_minor, currency = tx.account, params["amount"], params["currency"]
    if (
        tx.caller.account is not None
        and not tx.need("account", owner, account=tx.platform)["payouts_enabled"]
    ):
        raise ApiError(
            400, "Cannot create payouts; the account has payouts disabled.", code="payouts_not_allowed"
        )
    refused = fire(tx, "payout_refusal", amount=amount_minor, currency=currency, account=owner) is not None
    if refused or books.balance(tx, owner, "available", currency) < amount_minor:
        message = (
            "You have insufficient funds in your Stripe account for this transfer. Your card balance is too "
            "low. You can "
            "use the the /v1/balance endpoint to view your Stripe balance (for more details, see "
            "stripe.com/docs/api#balance)."
        )
        raise ApiError(400, message, code="balance_insufficient")
    return _start(tx, owner, params)


def automatic(tx: Tx, owner: str, currency: str) -> JsonDict:
    """What the provider's own schedule does: pay out everything available, and say which rows it is made of."""
    amount_minor = books.balance(tx, owner, "available", currency)
    if amount_minor <= 0:
        raise ApiError(400, f"{owner} has nothing available in {currency} to pay out.")
    covered = [
        row["id"]
        for row in tx.all("balance_transaction", currency=currency)
        if row["status"] == "available" and "_payout" not in row and tx.owner(row["id"]) == owner
    ]
    params: JsonDict = {"amount": amount_minor, "currency": currency, "description": "STRIPE PAYOUT"}
    payout = _start(tx, owner, params, automatic=True)
    for id in [*covered, payout["balance_transaction"]]:
        row = tx.need("balance_transaction", id, account=owner)
        tx.put({**row, "_payout": payout["id"]})
    return payout


def _start(tx: Tx, owner: str, params: JsonDict, *, automatic: bool = False) -> JsonDict:
    amount_minor, currency = params["amount"], params["currency"]
    destination = params.get("destination") or bank_of(tx, owner)
    switched = fire(tx, "payout_failure", amount=amount_minor, currency=currency, account=owner)
    method = params.get("method", "standard")
    payout: JsonDict = {
        "id": new_id("po"),
        "object": "payout",
        "amount": amount_minor,
        "application_fee": None,
        "application_fee_amount": None,
        "arrival_date": tx.now + (STANDARD_DAYS * DAY_S if method == "standard" else 0),
        "automatic": automatic,
        "balance_transaction": None,
        "created": tx.now,
        "currency": currency,
        "description": params.get("description"),
        "destination": destination,
        "failure_balance_transaction": None,
        "failure_code": None,
        "failure_message": None,
        "livemode": False,
        "metadata": merged({}, params.get("metadata")),
        "method": method,
        "original_payout": None,
        "reconciliation_status": "in_progress" if automatic else "not_applicable",
        "reversed_by": None,
        "source_type": params.get("source_type", "card"),
        "statement_descriptor": params.get("statement_descriptor"),
        "status": "pending",
        "trace_id": None,
        "type": "bank_account",
    }
    if switched is not None:
        payout["_fails_with"] = switched.get("code", "could_not_process")
    payout["balance_transaction"] = _move(tx, payout, owner, sign=-1, type="payout")
    tx.insert(payout, account=owner)
    if method == "standard":
        tx.schedule(tx.now + SUBMITTED_AFTER_S, "payout_submitted", payout["id"])
    tx.schedule(payout["arrival_date"], "payout", payout["id"])
    emit(tx, "payout.created", payout, account=owner)
    return payout


def retrieve(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need("payout", id)


def listed(tx: Tx, params: JsonDict) -> JsonDict:
    filters = {name: params[name] for name in ("status", "destination") if name in params}
    if "arrival_date" not in params:
        return tx.page("payout", params, **filters)
    # Arrival is not an indexed field: the bounds are applied to whole pages until one is full.
    limit, cursor = params.get("limit", 10), dict(params)
    found: list[JsonDict] = []
    while True:
        page = tx.page("payout", {**cursor, "limit": 100}, **filters)
        found += [row for row in page["data"] if _within(row["arrival_date"], params["arrival_date"])]
        if len(found) > limit or not page["has_more"]:
            return {"object": "list", "data": found[:limit], "has_more": len(found) > limit}
        cursor = {name: value for name, value in cursor.items() if name != "ending_before"}
        cursor["starting_after"] = page["data"][-1]["id"]


def _within(at: int, bounds: dict[str, int]) -> bool:
    return all(COMPARE[name](at, bound) for name, bound in bounds.items())


def update(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    payout = tx.need("payout", id)
    payout["metadata"] = merged(payout["metadata"], params.get("metadata"))
    tx.put(payout)
    emit(tx, "payout.updated", payout)
    return payout


def cancel(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    payout = tx.need("payout", id)
    if payout["status"] != "pending":
        message = f"Payout {id} has a status of {payout['status']}; only pending payouts can be canceled."
        raise ApiError(400, message)
    payout["status"] = "canceled"
    payout["failure_balance_transaction"] = _move(tx, payout, tx.account, sign=1, type="payout_cancel")
    tx.put(payout)
    emit(tx, "payout.canceled", payout)
    return payout


def submit(tx: Tx, id: str) -> None:
    """It has gone to the bank and can no longer be cancelled."""
    payout = tx.find(id, "payout")
    if payout is not None and payout["status"] == "pending":
        payout["status"] = "in_transit"
        tx.put(payout)
        emit(tx, "payout.updated", payout, account=tx.owner(id))


def arrive(tx: Tx, id: str) -> None:
    """The bank's answer, on the arrival date."""
    payout, owner = tx.find(id, "payout"), tx.owner(id)
    if payout is None or payout["status"] not in {"pending", "in_transit"}:
        return
    if code := payout.get("_fails_with"):
        fail(tx, id, code)
        return
    payout["status"] = "paid"
    payout["trace_id"] = {"status": "supported", "value": payout["id"].removeprefix("po_")}
    tx.put(payout)
    emit(tx, "payout.paid", payout, account=owner)
    if payout["automatic"]:
        payout["reconciliation_status"] = "completed"
        tx.put(payout)
        emit(tx, "payout.reconciliation_completed", payout, account=owner)


def fail(tx: Tx, id: str, code: str) -> JsonDict:
    """The bank sends it back, before or after it was thought paid."""
    payout = tx.find(id, "payout")
    if payout is None or payout["status"] not in {"pending", "in_transit", "paid"}:
        raise ApiError(400, f"Payout {id} cannot fail any more.")
    owner = tx.owner(id)
    payout.update(
        status="failed", failure_code=code, failure_message=FAILURES.get(code, FAILURES["could_not_process"])
    )
    payout["failure_balance_transaction"] = _move(tx, payout, owner, sign=1, type="payout_failure")
    tx.put(payout)
    emit(tx, "payout.failed", payout, account=owner)
    return payout


def _move(tx: Tx, payout: JsonDict, owner: str, *, sign: int, type: str) -> str:
    amount, currency = sign * payout["amount"], payout["currency"]
    transaction = record(
        tx,
        owner=owner,
        type=type,
        category="payout" if sign < 0 else "payout_reversal",
        amount_minor=amount,
        currency=currency,
        source=payout["id"],
        against=[(books.BANK, currency, -amount)],
        description="STRIPE PAYOUT",
    )
    return str(transaction["id"])
