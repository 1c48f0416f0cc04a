"""Refunds of captured charges: out of the available balance at once, fees are not returned."""

from __future__ import annotations

from services.paysim import cards, charges
from services.paysim.events import emit
from services.paysim.faults import fire
from services.paysim.metadata import merged
from services.paysim.movements import record
from services.paysim.tariff import shown
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import ApiError, JsonDict

SETTLES_LATER_S = 3_600
"""When a test card's refund changes its mind, by paysim's clock."""


def create(tx: Tx, params: JsonDict) -> JsonDict:
    charge = _charge_of(tx, params)
    amount_minor = _refundable(charge, params.get("amount"))
    _refuse_connect_options(charge, params)
    card = cards.CARDS[charge["_card"]]
    switched = fire(tx, "refund_failure", amount=amount_minor, currency=charge["currency"])
    pending = card.refund == "pending" or bool(switched and switched.get("pending"))
    waits = fire(tx, "refund_action", amount=amount_minor, currency=charge["currency"]) is not None
    refund: JsonDict = {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount_minor,
        "balance_transaction": None,
        "charge": charge["id"],
        "created": tx.now,
        "currency": charge["currency"],
        "destination_details": {
            "card": {
                "reference_status": "pending",
                "reference_type": "acquirer_reference_number",
                "type": "refund",
            },
            "type": "card",
        },
        "metadata": merged({}, params.get("metadata")),
        "payment_intent": charge["payment_intent"],
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": "requires_action" if waits else "pending" if pending else "succeeded",
        "transfer_reversal": None,
    }
    if waits:
        refund["next_action"] = {"type": "display_details"}
    elif pending:
        refund["pending_reason"] = "processing"
    refund["balance_transaction"] = _move(tx, refund, sign=-1, type="refund", category="refund")
    tx.insert(refund)
    charge["amount_refunded"] += amount_minor
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    tx.put(charge)
    emit(tx, "refund.created", refund)
    emit(tx, "charge.refunded", charge)
    if not waits:
        _plan_outcome(tx, refund, card, switched)
    return refund


def retrieve(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need("refund", id)


def listed(tx: Tx, params: JsonDict) -> JsonDict:
    filters = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    return tx.page("refund", params, **filters)


def update(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    refund = tx.need("refund", id)
    refund["metadata"] = merged(refund["metadata"], params.get("metadata"))
    tx.put(refund)
    emit(tx, "refund.updated", refund)
    return refund


def cancel(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    """Only while the payer has to act; the money returns to the balance."""
    refund = tx.need("refund", id)
    if refund["status"] != "requires_action":
        message = (
            f"Refund {id} has a status of {refund['status']}; only refunds that require action of the customer "
            "can be canceled."
        )
        raise ApiError(400, message, code="refund_unexpected_state")
    refund["status"] = "canceled"
    _give_back(tx, refund)
    emit(tx, "refund.updated", refund)
    emit(tx, "charge.refund.updated", refund)
    return refund


def fail(tx: Tx, id: str, code: str = "lost_or_stolen_card") -> JsonDict:
    """The bank sends the refund back: the money returns to the balance, the charge is owed again."""
    refund = tx.need("refund", id)
    if refund["status"] not in {"pending", "requires_action", "succeeded"}:
        raise ApiError(400, f"Refund {id} is {refund['status']} already.")
    refund.update(status="failed", failure_reason=code)
    _give_back(tx, refund)
    emit(tx, "refund.failed", refund)
    emit(tx, "charge.refund.updated", refund)
    return refund


def succeed(tx: Tx, id: str) -> JsonDict:
    refund = tx.need("refund", id)
    if refund["status"] not in {"pending", "requires_action"}:
        raise ApiError(400, f"Refund {id} is {refund['status']} already.")
    refund["status"] = "succeeded"
    _clear_waiting(refund)
    tx.put(refund)
    emit(tx, "refund.updated", refund)
    emit(tx, "charge.refund.updated", refund)
    return refund


def fail_when_due(tx: Tx, id: str) -> None:
    refund = tx.need("refund", id)
    if refund["status"] in {"pending", "succeeded"}:
        fail(tx, id, refund["_fails_with"])


def succeed_when_due(tx: Tx, id: str) -> None:
    if tx.need("refund", id)["status"] == "pending":
        succeed(tx, id)


def _give_back(tx: Tx, refund: JsonDict) -> None:
    """The money is in the balance again and the charge is refunded by so much less."""
    _clear_waiting(refund)
    refund["failure_balance_transaction"] = _move(
        tx, refund, sign=1, type="refund_failure", category="refund_failure"
    )
    tx.put(refund)
    charge = tx.need("charge", refund["charge"])
    charge["amount_refunded"] -= refund["amount"]
    charge["refunded"] = False
    tx.put(charge)


def _clear_waiting(refund: JsonDict) -> None:
    refund.pop("pending_reason", None)
    refund.pop("next_action", None)


def _plan_outcome(tx: Tx, refund: JsonDict, card: cards.Card, switched: JsonDict | None) -> None:
    if switched is not None and not (switched.get("pending") and "after_s" not in switched):
        refund["_fails_with"] = switched.get("code", "lost_or_stolen_card")
        tx.put(refund)
        tx.schedule(tx.now + int(switched.get("after_s", 0)), "refund_fails", refund["id"])
    elif switched is None and card.refund == "fails":
        refund["_fails_with"] = "lost_or_stolen_card"
        tx.put(refund)
        tx.schedule(tx.now + SETTLES_LATER_S, "refund_fails", refund["id"])
    elif switched is None and card.refund == "pending":
        tx.schedule(tx.now + SETTLES_LATER_S, "refund_succeeds", refund["id"])


def _charge_of(tx: Tx, params: JsonDict) -> JsonDict:
    if "charge" in params and "payment_intent" not in params:
        return tx.need("charge", params["charge"], param="charge")
    if "payment_intent" not in params:
        message = "One of the following params should be provided for this request: payment_intent or charge."
        raise ApiError(400, message, code="parameter_missing", began=False)
    intent = tx.need("payment_intent", params["payment_intent"], param="payment_intent")
    if intent["status"] != "succeeded":
        message = f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund."
        raise ApiError(400, message, code="payment_intent_unexpected_state", param="payment_intent")
    charge = tx.need("charge", intent["latest_charge"])
    if params.get("charge", charge["id"]) != charge["id"]:
        message = f"The charge {params['charge']} does not belong to the PaymentIntent {intent['id']}."
        raise ApiError(400, message, param="charge")
    return charge


def _refundable(charge: JsonDict, asked: int | None) -> int:
    left: int = charge["amount"] - charge["amount_refunded"]
    if charge.get("_charged_back"):
        message = f"Charge {charge['id']} has been charged back; cannot issue a refund."
        raise ApiError(400, message, code="charge_disputed")
    if charge["status"] != "succeeded" or not charge["captured"]:
        raise ApiError(
            400, f"Charge {charge['id']} has not been captured; cancel it instead.", param="charge"
        )
    if left == 0:
        raise ApiError(
            400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    if asked is not None and asked > left:
        wanted, most = (shown(value, charge["currency"]) for value in (asked, left))
        message = f"Refund amount ({wanted}) is greater than unrefunded amount on charge ({most})"
        raise ApiError(400, message, param="amount")
    return left if asked is None else asked


def _refuse_connect_options(charge: JsonDict, params: JsonDict) -> None:
    if params.get("reverse_transfer"):
        message = (
            f"Cannot reverse transfer on charge {charge['id']} because it does not have an "
            f"associated transfer."
        )
        raise ApiError(400, message, param="reverse_transfer")
    if params.get("refund_application_fee"):
        message = f"Charge {charge['id']} has no application fee to refund."
        raise ApiError(400, message, param="refund_application_fee")


def _move(tx: Tx, refund: JsonDict, *, sign: int, type: str, category: str) -> str:
    amount, currency = refund["amount"], refund["currency"]
    settled_minor, settled_currency, rate = charges.settled(tx, amount, currency)
    transaction = record(
        tx,
        owner=tx.account,
        type=type,
        category=category,
        amount_minor=sign * settled_minor,
        currency=settled_currency,
        source=refund["id"],
        against=charges.against_network(sign * amount, currency, sign * settled_minor, settled_currency),
        description="REFUND FOR CHARGE" if sign < 0 else "REFUND FAILURE",
        exchange_rate=rate,
    )
    return str(transaction["id"])
