"""PaymentIntents: create, confirm, capture, cancel, update, and what happens in between."""

from __future__ import annotations

from typing import Any

from services.paysim import cards, charges, disputes, fraud
from services.paysim.events import emit
from services.paysim.faults import fire
from services.paysim.metadata import merged
from services.paysim.movements import DAY_S
from services.paysim.tariff import refuse_unchargeable, shown
from services.paysim.transaction import Tx, new_id, public
from services.paysim.wire import ApiError, JsonDict, no_such

AUTHORIZED_DAYS = 7
"""How long a card's authorisation waits to be captured."""
CONFIRMABLE = frozenset({"requires_payment_method", "requires_confirmation", "requires_action"})
CANCELABLE = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action")


def create(tx: Tx, params: JsonDict) -> JsonDict:
    if tx.config.enforce_minimum:
        refuse_unchargeable(params["amount"], params["currency"])
    _refuse_other_flows(params)
    automatic = params.get("automatic_payment_methods")
    id = new_id("pi")
    intent: JsonDict = {
        "id": id,
        "object": "payment_intent",
        "amount": params["amount"],
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": _automatic(automatic),
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": params.get("capture_method", "automatic_async"),
        "client_secret": f"{id}_secret_{new_id('x')[2:]}",
        "confirmation_method": params.get("confirmation_method", "automatic"),
        "created": tx.now,
        "currency": params["currency"],
        "customer": None,
        "description": params.get("description"),
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "metadata": merged({}, params.get("metadata")),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": params.get("receipt_email"),
        "review": None,
        "setup_future_usage": params.get("setup_future_usage"),
        "shipping": params.get("shipping"),
        "statement_descriptor": params.get("statement_descriptor"),
        "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": params.get("transfer_group"),
    }
    tx.insert(intent)
    emit(tx, "payment_intent.created", intent)
    _choose_method(tx, intent, params)
    if params.get("confirm"):
        return _confirm(tx, intent, params)
    if "return_url" in params:
        message = (
            "The parameter `return_url` cannot be passed when creating a PaymentIntent unless "
            "`confirm` is set to true."
        )
        raise ApiError(400, message, param="return_url")
    return tx.put(intent)


def retrieve(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    intent = tx.need("payment_intent", id)
    _check_secret(intent, params)
    return intent


def confirm(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    intent = tx.need("payment_intent", id)
    _check_secret(intent, params)
    if intent["status"] == "succeeded":
        raise _unexpected(
            intent,
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously "
            "confirmed.",
        )
    if intent["status"] not in CONFIRMABLE:
        raise _unexpected(
            intent,
            f"You cannot confirm this PaymentIntent because it has a status of {intent['status']}. Only a "
            f"PaymentIntent "
            "with one of the following statuses may be confirmed: requires_confirmation, requires_action.",
        )
    _choose_method(tx, intent, params)
    for name in ("receipt_email", "shipping", "setup_future_usage", "capture_method"):
        if name in params:
            intent[name] = params[name]
    return _confirm(tx, intent, params)


def authenticate(tx: Tx, id: str, *, passed: bool) -> JsonDict:
    """The payer's answer on the 3-D Secure page. Returns the intent whatever came of it."""
    intent = tx.need("payment_intent", id)
    if intent["status"] != "requires_action":
        return intent
    method = tx.need("payment_method", intent["_authenticating"])
    intent["next_action"] = None
    try:
        if not passed:
            raise _failed(tx, intent, method, "authentication_failure", charge=None)
        return _charge(tx, intent, method)
    except ApiError as declined:
        if not declined.keeps_effects:
            raise
        return tx.need("payment_intent", id)


def capture(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    intent = tx.need("payment_intent", id)
    if intent["status"] != "requires_capture":
        raise _unexpected(
            intent,
            f"This PaymentIntent could not be captured because it has a status of {intent['status']}. Only a "
            "PaymentIntent with one of the following statuses may be captured: requires_capture.",
        )
    wanted: int = {"amount_to_capture": intent["amount_capturable"], **params}["amount_to_capture"]
    if wanted > intent["amount_capturable"]:
        most = shown(intent["amount_capturable"], intent["currency"])
        message = f"The requested capture amount is greater than the authorized amount of {most}."
        raise ApiError(400, message, code="amount_too_large", param="amount_to_capture")
    charge = tx.need("charge", intent["latest_charge"])
    charges.capture(tx, charge, wanted)
    intent["metadata"] = merged(intent["metadata"], params.get("metadata"))
    return _succeed(tx, intent, wanted)


def expire(tx: Tx, id: str) -> None:
    """An authorisation nobody captured is let go by the bank."""
    intent = tx.find(id, "payment_intent")
    if intent is not None and intent["status"] == "requires_capture":
        _let_go(tx, intent, "automatic")


def cancel(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    intent = tx.need("payment_intent", id)
    _check_secret(intent, params)
    if intent["status"] not in CANCELABLE:
        raise _unexpected(
            intent,
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}. Only a "
            f"PaymentIntent "
            f"with one of the following statuses may be canceled: {', '.join(CANCELABLE)}, processing.",
        )
    return _let_go(tx, intent, params.get("cancellation_reason"))


def _let_go(tx: Tx, intent: JsonDict, reason: str | None) -> JsonDict:
    if intent["status"] == "requires_capture":
        charges.release(tx, tx.need("charge", intent["latest_charge"]), expired=reason == "automatic")
    intent.update(
        status="canceled",
        canceled_at=tx.now,
        cancellation_reason=reason,
        amount_capturable=0,
        next_action=None,
    )
    tx.put(intent)
    emit(tx, "payment_intent.canceled", intent)
    return intent


def update(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    intent = tx.need("payment_intent", id)
    _check_secret(intent, params)
    money: set[str] = {
        name for name in ("amount", "currency", "payment_method", "transfer_group") if name in params
    }
    if money and intent["status"] not in CONFIRMABLE:
        name = sorted(money)[0]
        raise _unexpected(
            intent,
            f"This PaymentIntent's {name} could not be updated because it has a status of "
            f"{intent['status']}. You may "
            "only update the amount of a PaymentIntent with one of the following statuses: "
            "requires_payment_method, "
            "requires_confirmation, requires_action.",
        )
    if tx.config.enforce_minimum and money & {"amount", "currency"}:
        changed = {**intent, **params}
        refuse_unchargeable(changed["amount"], changed["currency"])
    _refuse_other_flows(params)
    _choose_method(tx, intent, params)
    for name in params.keys() & _UPDATABLE:
        intent[name] = params[name]
    intent["metadata"] = merged(intent["metadata"], params.get("metadata"))
    return tx.put(intent)


def listed(tx: Tx, params: JsonDict) -> JsonDict:
    filters = {"customer": params["customer"]} if "customer" in params else {}
    return tx.page("payment_intent", params, **filters)


_UPDATABLE = frozenset(
    [
        "amount",
        "currency",
        "description",
        "receipt_email",
        "setup_future_usage",
        "shipping",
        "statement_descriptor",
        "capture_method",
        "statement_descriptor_suffix",
        "transfer_group",
    ]
)


def _refuse_other_flows(params: JsonDict) -> None:
    """Nobody here has customers or destination charges: taking the parameter and doing nothing would lie."""
    if "customer" in params:
        raise no_such("customer", params["customer"], param="customer", status=400)
    if params.get("application_fee_amount"):
        message = (
            "Can only apply an application_fee_amount when the PaymentIntent is attempting a direct payment or a "
            "destination payment."
        )
        raise ApiError(400, message, param="application_fee_amount")
    for name in ("transfer_data", "on_behalf_of"):
        if params.get(name):
            message = (
                f"This account does not make destination charges: remove {name} and transfer afterwards."
            )
            raise ApiError(400, message, param=name)


def _automatic(given: JsonDict | None) -> JsonDict:
    asked = given or {}
    return {"allow_redirects": asked.get("allow_redirects", "always"), "enabled": asked.get("enabled", True)}


def _choose_method(tx: Tx, intent: JsonDict, params: JsonDict) -> None:
    if params.get("payment_method"):
        method = cards.present(tx, params["payment_method"])
    elif params.get("payment_method_data"):
        method = cards.from_details(tx, params["payment_method_data"])
    else:
        return
    intent.update(payment_method=method["id"], next_action=None)
    if intent["status"] in CONFIRMABLE:
        intent["status"] = "requires_confirmation"


def _confirm(tx: Tx, intent: JsonDict, params: JsonDict) -> JsonDict:
    if intent["payment_method"] is None:
        raise _unexpected(
            intent,
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either "
            "update the "
            "PaymentIntent with a payment method and then confirm it again, or confirm it again directly "
            "with a payment "
            "method or ConfirmationToken.",
        )
    method = tx.need("payment_method", intent["payment_method"])
    facts = {"amount": intent["amount"], "currency": intent["currency"], "method": method["_token"]}
    asked_for_3ds = cards.card_of(method).three_ds or fire(tx, "three_ds", **facts) is not None
    if not asked_for_3ds:
        return _charge(tx, intent, method)
    if params.get("error_on_requires_action"):
        raise _failed(tx, intent, method, "authentication_required", charge=None)
    return _ask_for_authentication(tx, intent, params.get("return_url"))


def _ask_for_authentication(tx: Tx, intent: JsonDict, return_url: str | None) -> JsonDict:
    url = f"{tx.config.base_url}/3ds/{intent['id']}?client_secret={intent['client_secret']}"
    intent.update(
        status="requires_action",
        next_action={
            "type": "redirect_to_url",
            "redirect_to_url": {"return_url": return_url, "url": url},
        },
        _authenticating=intent["payment_method"],
        _return_url=return_url,
    )
    tx.put(intent)
    emit(tx, "payment_intent.requires_action", intent)
    return intent


def _charge(tx: Tx, intent: JsonDict, method: JsonDict) -> JsonDict:
    card = cards.card_of(method)
    facts = {"amount": intent["amount"], "currency": intent["currency"], "method": method["_token"]}
    switched = fire(tx, "decline", **facts)
    decline_code = switched.get("code", "generic_decline") if switched is not None else card.decline_code
    at_once = intent["capture_method"] != "manual"
    charge = charges.create(tx, intent, method, decline_code=decline_code, capture=at_once)
    if decline_code:
        raise _failed(tx, intent, method, decline_code, charge=charge)
    intent.update(latest_charge=charge["id"], last_payment_error=None, next_action=None)
    if not at_once:
        intent.update(status="requires_capture", amount_capturable=intent["amount"])
        tx.put(intent)
        tx.schedule(tx.now + AUTHORIZED_DAYS * DAY_S, "authorization", intent["id"])
        emit(tx, "payment_intent.amount_capturable_updated", intent)
        return intent
    _succeed(tx, intent, intent["amount"])
    if card.dispute_reason:
        disputes.open_dispute(tx, charge, reason=card.dispute_reason)
    elif (asked := fire(tx, "dispute", **facts)) is not None:
        disputes.open_dispute(
            tx,
            charge,
            reason=asked.get("reason", "fraudulent"),
            amount_minor=asked.get("amount"),
            inquiry=bool(asked.get("inquiry")),
            lapses=bool(asked.get("lapses")),
        )
    if (suspicion := fire(tx, "early_fraud", **facts)) is not None:
        fraud.warn(tx, charge, suspicion.get("fraud_type", "misc"))
    return intent


def _succeed(tx: Tx, intent: JsonDict, amount_minor: int) -> JsonDict:
    intent.update(status="succeeded", amount_received=amount_minor, amount_capturable=0)
    tx.put(intent)
    emit(tx, "payment_intent.succeeded", intent)
    return intent


def _failed(
    tx: Tx, intent: JsonDict, method: JsonDict, decline_code: str, *, charge: JsonDict | None
) -> ApiError:
    """Records the failure on the intent and returns the 402 that keeps it."""
    if decline_code.startswith("authentication_"):
        code = (
            "authentication_required"
            if decline_code.endswith("required")
            else "payment_intent_authentication_failure"
        )
        message = (
            "We are unable to authenticate your payment method. Please choose a different payment "
            "method and try again."
        )
        failure: JsonDict = {"code": code, "message": message}
    else:
        failure = {
            "advice_code": cards.advice(decline_code),
            "code": cards.error_code(decline_code),
            "decline_code": decline_code,
            "message": cards.decline_message(decline_code),
        }
    if charge is not None:
        failure["charge"] = charge["id"]
        intent["latest_charge"] = charge["id"]
    shown_method = public(method)
    intent.update(
        status="requires_payment_method",
        payment_method=None,
        next_action=None,
        last_payment_error={**failure, "payment_method": shown_method, "type": "card_error"},
    )
    tx.put(intent)
    emit(tx, "payment_intent.payment_failed", intent)
    message = failure.pop("message")
    details: dict[str, Any] = {**failure, "payment_intent": public(intent), "payment_method": shown_method}
    return ApiError(402, message, type="card_error", keeps_effects=True, **details)


def _unexpected(intent: JsonDict, message: str) -> ApiError:
    return ApiError(400, message, code="payment_intent_unexpected_state", payment_intent=public(intent))


def _check_secret(intent: JsonDict, params: JsonDict) -> None:
    """A browser proves itself with the client secret; a secret key need not send one."""
    given = params.get("client_secret")
    if given is not None and given != intent["client_secret"]:
        message = "The client_secret provided does not match any associated PaymentIntent."
        raise ApiError(400, message, code="payment_intent_invalid_parameter", param="client_secret")
