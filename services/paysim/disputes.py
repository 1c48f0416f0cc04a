"""Disputes: the cardholder's bank takes the money back until somebody wins."""

from __future__ import annotations

from services.paysim import books, charges
from services.paysim.events import emit
from services.paysim.movements import DAY_S, record
from services.paysim.transaction import Tx, new_id
from services.paysim.wire import ApiError, JsonDict

EVIDENCE_DAYS = 9
OPEN = frozenset({"needs_response", "under_review", "warning_needs_response", "warning_under_review"})
EVIDENCE_FIELDS = [
    "access_activity_log",
    "billing_address",
    "cancellation_policy",
    "cancellation_policy_disclosure",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "customer_signature",
    "duplicate_charge_documentation",
    "duplicate_charge_explanation",
    "duplicate_charge_id",
    "product_description",
    "receipt",
    "refund_policy",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "shipping_address",
    "shipping_carrier",
    "shipping_date",
    "shipping_documentation",
    "shipping_tracking_number",
    "uncategorized_file",
    "uncategorized_text",
]
NETWORK_REASON = {"fraudulent": "10.4", "product_not_received": "13.1", "duplicate": "12.6.1"}


def open_dispute(
    tx: Tx, charge: JsonDict, *, reason: str = "fraudulent", amount_minor: int | None = None
) -> JsonDict:
    """Withdraws the amount and the dispute fee at once. Raises 400 when the charge cannot be disputed."""
    most = charge["amount_captured"] - _refunded_after_capture(charge)
    amount_minor = most if amount_minor is None else amount_minor
    if charge["disputed"]:
        raise ApiError(400, f"Charge {charge['id']} is disputed already.", code="charge_disputed")
    if not charge["captured"] or not 0 < amount_minor <= most:
        raise ApiError(400, f"Charge {charge['id']} has {most} left to dispute.", param="amount")
    dispute: JsonDict = {
        "id": new_id("du"),
        "object": "dispute",
        "amount": amount_minor,
        "balance_transactions": [],
        "charge": charge["id"],
        "created": tx.now,
        "currency": charge["currency"],
        "enhanced_eligibility_types": [],
        "evidence": dict.fromkeys(EVIDENCE_FIELDS),
        "evidence_details": {
            "due_by": tx.now + EVIDENCE_DAYS * DAY_S,
            "enhanced_eligibility": {},
            "has_evidence": False,
            "past_due": False,
            "submission_count": 0,
        },
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": charge["payment_method_details"]["card"]["brand"],
                "case_type": "chargeback",
                "network": charge["payment_method_details"]["card"]["network"],
                "network_reason_code": NETWORK_REASON.get(reason, "10.4"),
            },
            "type": "card",
        },
        "reason": reason,
        "status": "needs_response",
    }
    tx.insert(dispute)
    charge.update(disputed=True, _dispute_open=True)
    tx.put(charge)
    emit(tx, "charge.dispute.created", dispute)
    _move(tx, dispute, sign=-1, fee_minor=tx.config.fees.dispute_minor)
    emit(tx, "charge.dispute.funds_withdrawn", dispute)
    return dispute


def close_dispute(tx: Tx, dispute: JsonDict, *, won: bool) -> JsonDict:
    """The bank's verdict. Won gives the amount back, the fee stays with the provider."""
    if dispute["status"] not in OPEN:
        raise ApiError(
            400, f"This dispute is already closed: {dispute['status']}.", code="resource_already_closed"
        )
    dispute["status"] = "won" if won else "lost"
    tx.put(dispute)
    if won:
        _move(tx, dispute, sign=1, fee_minor=0)
        emit(tx, "charge.dispute.funds_reinstated", dispute)
        charge = tx.need("charge", dispute["charge"])
        charge["_dispute_open"] = False
        tx.put(charge)
    emit(tx, "charge.dispute.closed", dispute)
    return dispute


def retrieve(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    return tx.need("dispute", id)


def listed(tx: Tx, params: JsonDict) -> JsonDict:
    filters = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    return tx.page("dispute", params, **filters)


def close(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    """The merchant accepts the loss."""
    return close_dispute(tx, tx.need("dispute", id), won=False)


def update(tx: Tx, params: JsonDict, id: str) -> JsonDict:
    """Evidence. In test mode the uncategorised text decides, as it does at Stripe."""
    dispute = tx.need("dispute", id)
    if dispute["status"] not in OPEN and "evidence" in params:
        raise ApiError(400, "Cannot update evidence for this dispute, it is closed.", param="evidence")
    given = params.get("evidence") or {}
    dispute["evidence"].update(given)
    dispute["metadata"].update(params.get("metadata") or {})
    details = dispute["evidence_details"]
    details["has_evidence"] = any(dispute["evidence"].values())
    if given and params.get("submit", True):
        details["submission_count"] += 1
        dispute["status"] = "under_review"
    tx.put(dispute)
    emit(tx, "charge.dispute.updated", dispute)
    verdict = given.get("uncategorized_text")
    if dispute["status"] == "under_review" and verdict in {"winning_evidence", "losing_evidence"}:
        return close_dispute(tx, dispute, won=verdict == "winning_evidence")
    return dispute


def _move(tx: Tx, dispute: JsonDict, *, sign: int, fee_minor: int) -> None:
    amount, currency = dispute["amount"], dispute["currency"]
    settled_minor, settled_currency, rate = charges.settled(tx, amount, currency)
    transaction = record(
        tx,
        owner=tx.account,
        type="adjustment",
        category="dispute" if sign < 0 else "dispute_reversal",
        amount_minor=sign * settled_minor,
        currency=settled_currency,
        source=dispute["id"],
        against=_legs(sign, amount, currency, settled_minor, settled_currency),
        fee_minor=fee_minor,
        fee_words="Dispute fee",
        description=f"Chargeback {'withdrawal' if sign < 0 else 'reversal'} for {dispute['charge']}",
        exchange_rate=rate,
    )
    dispute["balance_transactions"].append(transaction)
    tx.put(dispute)


def _legs(
    sign: int, amount: int, currency: str, settled_minor: int, settled_currency: str
) -> list[books.Leg]:
    return charges.against_network(sign * amount, currency, sign * settled_minor, settled_currency)


def _refunded_after_capture(charge: JsonDict) -> int:
    """Refunds, without the part of an authorisation that was never captured."""
    uncaptured = charge["amount"] - charge["amount_captured"]
    refunded: int = charge["amount_refunded"]
    return refunded - int(uncaptured)
