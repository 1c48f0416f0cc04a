"""Charges: money taken from a card, captured into the platform's balance."""

from __future__ import annotations

from fractions import Fraction

from core.money import EXPONENTS, half_up
from services.paysim import books, cards
from services.paysim.events import emit
from services.paysim.movements import available_on, record
from services.paysim.tariff import processing_fee
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import JsonDict


def create(
    tx: Tx, intent: JsonDict, method: JsonDict, *, decline_code: str | None, capture: bool
) -> JsonDict:
    """A charge of the whole intent: failed, authorised only, or captured at once."""
    failed = decline_code is not None
    charge: JsonDict = {
        "id": new_id("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": None,
        "billing_details": method["billing_details"],
        "calculated_statement_descriptor": "LIANYU",
        "captured": False,
        "created": tx.now,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": intent["description"],
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": cards.error_code(decline_code) if decline_code else None,
        "failure_message": cards.decline_message(decline_code) if decline_code else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": intent["metadata"],
        "on_behalf_of": intent["on_behalf_of"],
        "outcome": _outcome(decline_code),
        "paid": not failed,
        "payment_intent": intent["id"],
        "payment_method": method["id"],
        "payment_method_details": {"card": cards.card_details(method), "type": "card"},
        "radar_options": {},
        "receipt_email": intent["receipt_email"],
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": intent["shipping"],
        "source": None,
        "source_transfer": None,
        "statement_descriptor": intent["statement_descriptor"],
        "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
        "status": "failed" if failed else "succeeded",
        "transfer_data": None,
        "transfer_group": intent["transfer_group"],
        "_card": method["_token"],
    }
    if failed:
        tx.insert(charge)
        emit(tx, "charge.failed", charge)
        return charge
    if capture:
        _take(tx, charge, intent["amount"])
    tx.insert(charge)
    emit(tx, "charge.succeeded", charge)
    return charge


def capture(tx: Tx, charge: JsonDict, amount_minor: int) -> JsonDict:
    """Takes an authorised amount; the rest of the authorisation is released."""
    _take(tx, charge, amount_minor)
    if amount_minor < charge["amount"]:
        charge["amount_refunded"] = charge["amount"] - amount_minor
    tx.put(charge)
    emit(tx, "charge.captured", charge)
    return charge


def release(tx: Tx, charge: JsonDict, *, expired: bool = False) -> JsonDict:
    """Lets an authorisation go: Stripe shows it as refunded."""
    charge.update(amount_refunded=charge["amount"], refunded=True)
    tx.put(charge)
    emit(tx, "charge.expired" if expired else "charge.refunded", charge)
    return charge


def settled(tx: Tx, amount_minor: int, currency: str) -> tuple[int, str, str | None]:
    """Amount and currency that reach the balance, and the rate when converted (R10 of money.md)."""
    table: dict[str, JsonDict] = tx.setting("fx", {})
    rule = table.get(currency)
    return (
        converted(amount_minor, currency, rule["to"], rule["rate"])
        if rule
        else (amount_minor, currency, None)
    )


def converted(amount_minor: int, currency: str, to: str, rate: str) -> tuple[int, str, str]:
    digits = EXPONENTS.get(to.upper(), 2) - EXPONENTS.get(currency.upper(), 2)
    return half_up(amount_minor * Fraction(rate) * Fraction(10) ** digits), to, rate


def against_network(
    amount_minor: int, currency: str, settled_minor: int, settled_currency: str
) -> list[books.Leg]:
    """The other side of money from (or, negative, to) the card networks, through fx when converted."""
    if currency == settled_currency:
        return [(books.NETWORK, currency, -amount_minor)]
    return [
        (books.NETWORK, currency, -amount_minor),
        (books.FX, currency, amount_minor),
        (books.FX, settled_currency, -settled_minor),
    ]


def _take(tx: Tx, charge: JsonDict, amount_minor: int) -> None:
    currency = charge["currency"]
    settled_minor, settled_currency, rate = settled(tx, amount_minor, currency)
    at_once = cards.CARDS[charge["_card"]].bypass_pending
    transaction = record(
        tx,
        owner=tx.account,
        type="charge",
        category="charge",
        amount_minor=settled_minor,
        currency=settled_currency,
        source=charge["id"],
        against=against_network(amount_minor, currency, settled_minor, settled_currency),
        fee_minor=processing_fee(settled_minor, tx.config.fees),
        ready_at=tx.now if at_once else available_on(tx, amount=amount_minor, currency=currency),
        description=charge["description"],
        exchange_rate=rate,
    )
    charge.update(captured=True, amount_captured=amount_minor, balance_transaction=transaction["id"])


def _outcome(decline_code: str | None) -> JsonDict:
    if decline_code is None:
        return {
            "advice_code": None,
            "network_advice_code": None,
            "network_decline_code": None,
            "network_status": "approved_by_network",
            "reason": None,
            "risk_level": "normal",
            "seller_message": "Payment complete.",
            "type": "authorized",
        }
    return {
        "advice_code": cards.advice(decline_code),
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network",
        "reason": decline_code,
        "risk_level": "normal",
        "seller_message": "The bank did not return any further details with this decline.",
        "type": "issuer_declined",
    }
