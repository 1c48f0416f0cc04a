"""Disputes: the cardholder's bank takes the money back until somebody wins."""

from __future__ import annotations

from services.paysim import books, charges
from services.paysim.events import emit
from services.paysim.metadata import merged
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
    tx: Tx,
    charge: JsonDict,
    *,
    reason: str = "fraudulent",
    amount_minor: int | None = None,
    inquiry: bool = False,
    lapses: bool = False,
    fee_minor: int | None = None,
) -> JsonDict:
    """Withdraws the amount and the dispute fee at once; an inquiry only asks and moves nothing.

    A charge can be disputed in parts, together no more than was captured and not refunded. ``lapses``:
    unanswered when its evidence is due, it is lost (an inquiry is closed). Raises 400 when there is
    nothing to dispute.
    """
    most = charge["amount_captured"] - _refunded_after_capture(charge) - charge.get("_disputed_minor", 0)
    amount_minor = most if amount_minor is None else amount_minor
    if charge["disputed"] and most <= 0:
        raise ApiError(400, f"Charge {charge['id']} is disputed already.", code="charge_disputed")
    if not charge["captured"] or not isinstance(amount_minor, int) or not 0 < amount_minor <= most:
        raise ApiError(400, f"Charge {charge['id']} has {most} left to dispute.", param="amount")
    card = charge["payment_method_details"]["card"]
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
        "is_charge_refundable": inquiry,
        "livemode": False,
        "metadata": {},
        "payment_intent": charge["payment_intent"],
        "payment_method_details": {
            "card": {
                "brand": card["brand"],
                "case_type": "inquiry" if inquiry else "chargeback",
                "network": card["network"],
                "network_reason_code": NETWORK_REASON.get(reason, "10.4"),
            },
            "type": "card",
        },
        "reason": reason,
        "status": "warning_needs_response" if inquiry else "needs_response",
        "_lapses": lapses,
        "_fee_minor": tx.config.fees.dispute_minor if fee_minor is None else fee_minor,
    }
    tx.insert(dispute)
    charge.update(disputed=True, _disputed_minor=charge.get("_disputed_minor", 0) + amount_minor)
    tx.put(charge)
    tx.schedule(dispute["evidence_details"]["due_by"], "dispute_due", dispute["id"])
    emit(tx, "charge.dispute.created", dispute)
    if not inquiry:
        _withdraw(tx, dispute, charge)
    return dispute


def escalate(tx: Tx, dispute: JsonDict) -> JsonDict:
    """The bank was not satisfied: an inquiry becomes a chargeback and the money goes."""
    if dispute["status"] not in {"warning_needs_response", "warning_under_review"}:
        raise ApiError(400, f"Only an inquiry can be escalated; this dispute is {dispute['status']}.")
    dispute.update(status="needs_response", is_charge_refundable=False)
    dispute["payment_method_details"]["card"]["case_type"] = "chargeback"
    dispute["evidence_details"].update(due_by=tx.now + EVIDENCE_DAYS * DAY_S, past_due=False)
    tx.put(dispute)
    tx.schedule(dispute["evidence_details"]["due_by"], "dispute_due", dispute["id"])
    emit(tx, "charge.dispute.updated", dispute)
    _withdraw(tx, dispute, tx.need("charge", dispute["charge"]))
    return dispute


def close_dispute(tx: Tx, dispute: JsonDict, *, won: bool, fee_back: bool = False) -> JsonDict:
    """The bank's verdict. Won gives the amount back; the fee stays with the provider unless ``fee_back``.

    An inquiry is closed without anything having moved, whatever the verdict. A lost dispute may still be won:
    the bank reopened it.
    """
    if dispute["status"] not in OPEN and not (won and dispute["status"] == "lost"):
        raise ApiError(
            400, f"This dispute is already closed: {dispute['status']}.", code="resource_already_closed"
        )
    inquiry = dispute["status"].startswith("warning_")
    dispute["status"] = "warning_closed" if inquiry else "won" if won else "lost"
    tx.put(dispute)
    charge = tx.need("charge", dispute["charge"], account=tx.owner(dispute["charge"]))
    if won and not inquiry:
        _move(tx, dispute, sign=1, fee_minor=-dispute["_fee_minor"] if fee_back else 0)
        emit(tx, "charge.dispute.funds_reinstated", dispute)
        charge["_charged_back"] = charge["_charged_back"] - 1
    if won or inquiry:
        charge["_disputed_minor"] -= dispute["amount"]
    tx.put(charge)
    emit(tx, "charge.dispute.closed", dispute)
    return dispute


def fall_due(tx: Tx, id: str) -> None:
    """The last moment for evidence has passed."""
    dispute = tx.find(id, "dispute")
    if dispute is None or dispute["evidence_details"]["due_by"] > tx.now:
        return
    if dispute["status"] not in {"needs_response", "warning_needs_response"}:
        return
    dispute["evidence_details"]["past_due"] = True
    tx.put(dispute)
    emit(tx, "charge.dispute.updated", dispute)
    if dispute["_lapses"]:
        close_dispute(tx, dispute, won=False)


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
    given = params.get("evidence") or {}
    if "evidence" in params:
        _refuse_late_evidence(dispute)
    dispute["evidence"].update({name: text or None for name, text in given.items()})
    dispute["metadata"] = merged(dispute["metadata"], params.get("metadata"))
    details = dispute["evidence_details"]
    details["has_evidence"] = any(dispute["evidence"].values())
    if (given or "submit" in params) and params.get("submit", True) and details["has_evidence"]:
        details["submission_count"] += 1
        inquiry = dispute["status"].startswith("warning_")
        dispute["status"] = "warning_under_review" if inquiry else "under_review"
    tx.put(dispute)
    emit(tx, "charge.dispute.updated", dispute)
    if not dispute["status"].endswith("under_review"):
        return dispute
    match given.get("uncategorized_text"):
        case "winning_evidence":
            return close_dispute(tx, dispute, won=True)
        case "losing_evidence":
            return close_dispute(tx, dispute, won=False)
        case "escalate_inquiry_evidence" if dispute["status"] == "warning_under_review":
            return escalate(tx, dispute)
    return dispute


def _refuse_late_evidence(dispute: JsonDict) -> None:
    details = dispute["evidence_details"]
    if dispute["status"] not in OPEN:
        raise ApiError(400, "Cannot update evidence for this dispute, it is closed.", param="evidence")
    if details["submission_count"]:
        raise ApiError(
            400, "Evidence for this dispute was submitted already and cannot be changed.", param="evidence"
        )
    if details["past_due"]:
        raise ApiError(400, "The time to submit evidence for this dispute has passed.", param="evidence")


def _withdraw(tx: Tx, dispute: JsonDict, charge: JsonDict) -> None:
    charge["_charged_back"] = charge.get("_charged_back", 0) + 1
    tx.put(charge)
    _move(tx, dispute, sign=-1, fee_minor=dispute["_fee_minor"])
    emit(tx, "charge.dispute.funds_withdrawn", dispute)


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
