"""Test payment methods: which card a token stands for and what its bank will say."""

from __future__ import annotations

from dataclasses import dataclass

from services.paysim.transaction import Tx, new_id
from services.paysim.wire import ApiError, JsonDict, no_such


@dataclass(frozen=True, slots=True)
class Card:
    last4: str
    brand: str = "visa"
    decline_code: str | None = None
    three_ds: bool = False
    dispute_reason: str | None = None
    bypass_pending: bool = False
    refund: str = "succeeded"
    """succeeded, fails (succeeded first, failed later) or pending (pending first, succeeded later)."""


CARDS: dict[str, Card] = {
    "pm_card_visa": Card("4242"),
    "pm_card_visa_debit": Card("5556"),
    "pm_card_mastercard": Card("4444", brand="mastercard"),
    "pm_card_amex": Card("8431", brand="amex"),
    "pm_card_unionpay": Card("0005", brand="unionpay"),
    "pm_card_jcb": Card("0505", brand="jcb"),
    "pm_card_chargeDeclined": Card("0002", decline_code="generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": Card("9995", decline_code="insufficient_funds"),
    "pm_card_chargeDeclinedLostCard": Card("9987", decline_code="lost_card"),
    "pm_card_chargeDeclinedStolenCard": Card("9979", decline_code="stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": Card("0069", decline_code="expired_card"),
    "pm_card_chargeDeclinedIncorrectCvc": Card("0127", decline_code="incorrect_cvc"),
    "pm_card_chargeDeclinedProcessingError": Card("0119", decline_code="processing_error"),
    "pm_card_chargeDeclinedFraudulent": Card("0019", decline_code="fraudulent"),
    "pm_card_chargeCustomerFail": Card("0341", decline_code="generic_decline"),
    "pm_card_threeDSecureRequired": Card("3220", three_ds=True),
    "pm_card_threeDSecure2Required": Card("3220", three_ds=True),
    "pm_card_authenticationRequired": Card("3184", three_ds=True),
    "pm_card_threeDSecureRequiredChargeDeclined": Card("3063", three_ds=True, decline_code="generic_decline"),
    "pm_card_createDispute": Card("0259", dispute_reason="fraudulent"),
    "pm_card_createDisputeProductNotReceived": Card("2685", dispute_reason="product_not_received"),
    "pm_card_bypassPending": Card("0077", bypass_pending=True),
    "pm_card_refundFail": Card("5126", refund="fails"),
    "pm_card_pendingRefund": Card("7726", refund="pending"),
}
CARDS["pm_card_visa_chargeDeclined"] = CARDS["pm_card_chargeDeclined"]
CARDS["pm_card_visa_chargeDeclinedInsufficientFunds"] = CARDS["pm_card_chargeDeclinedInsufficientFunds"]

# What Stripe tells the payer. Codes that are not here read "Your card was declined."
MESSAGES = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "incorrect_cvc": "Your card's security code is incorrect.",
    "processing_error": "An error occurred while processing your card. Try again in a little bit.",
}
OWN_CODE = frozenset({"expired_card", "incorrect_cvc", "processing_error"})
DO_NOT_RETRY = frozenset({"lost_card", "stolen_card", "fraudulent"})


def decline_message(decline_code: str) -> str:
    return MESSAGES.get(decline_code, "Your card was declined.")


def error_code(decline_code: str) -> str:
    return decline_code if decline_code in OWN_CODE else "card_declined"


def advice(decline_code: str) -> str:
    return "do_not_try_again" if decline_code in DO_NOT_RETRY else "try_again_later"


def present(tx: Tx, token: str) -> JsonDict:
    """The payment method behind a test token (a fresh one each time) or a known id."""
    if token in CARDS:
        return _create(tx, token)
    known = tx.find(token, "payment_method", account=tx.account)
    if known is None:
        raise no_such("PaymentMethod", token, param="payment_method", status=400)
    return known


def card_of(method: JsonDict) -> Card:
    return CARDS[method["_token"]]


def from_details(tx: Tx, details: JsonDict) -> JsonDict:
    """``payment_method_data``: its type must be card; raw numbers are not taken, as on a normal account."""
    if details.get("type") != "card":
        raise ApiError(400, "Only cards are accepted here.", param="payment_method_data[type]")
    token = (details.get("card") or {}).get("token", "")
    named = "pm_card_" + token.removeprefix("tok_")
    if named not in CARDS:
        message = (
            "Sending credit card numbers directly to the Stripe API is generally unsafe. We suggest you use "
            "test "
            "tokens that map to the test card you are using."
        )
        raise ApiError(402, message, type="card_error")
    return _create(tx, named)


def card_details(method: JsonDict) -> JsonDict:
    """``payment_method_details.card`` of a charge."""
    return _details(card_of(method), method["card"]["fingerprint"])


def _details(card: Card, fingerprint: str) -> JsonDict:
    return {
        "brand": card.brand,
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "fail" if card.decline_code == "incorrect_cvc" else "pass",
        },
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": fingerprint,
        "funding": "credit",
        "last4": card.last4,
        "network": card.brand,
        "three_d_secure": None,
        "wallet": None,
    }


def _create(tx: Tx, token: str) -> JsonDict:
    card, id = CARDS[token], new_id("pm")
    # Buyers who all pay with the same test token are not one buyer: each payment method is a card of its own.
    details = _details(card, f"paysim{card.last4}{id[-12:]}")
    del details["network"], details["three_d_secure"]
    method: JsonDict = {
        "id": id,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": blank_billing(),
        "card": {
            **details,
            "generated_from": None,
            "networks": {"available": [card.brand], "preferred": None},
        },
        "created": tx.now,
        "customer": None,
        "livemode": False,
        "metadata": {},
        "type": "card",
        "_token": token,
    }
    return tx.insert(method)


def blank_billing() -> JsonDict:
    places = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
    return {"address": places, "email": None, "name": None, "phone": None, "tax_id": None}
