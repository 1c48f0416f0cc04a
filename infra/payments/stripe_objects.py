"""Stripe's JSON into the port's types. Reads only fields the contract guarantees for the pinned version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from infra.payments.gateway import (
    Balance,
    BalanceTransaction,
    Charge,
    ConnectedAccount,
    Dispute,
    Event,
    IntentStatus,
    PaymentIntent,
    Payout,
    Refund,
    Transfer,
    TransferReversal,
)

Json = Mapping[str, Any]


def when(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


def reference(value: Any) -> str | None:
    """An id, whether the field came expanded or not."""
    found: str | None = value["id"] if isinstance(value, Mapping) else value
    return found


def intent_of(row: Json) -> PaymentIntent:
    action = (row.get("next_action") or {}).get("redirect_to_url") or {}
    failure = row.get("last_payment_error") or {}
    return PaymentIntent(
        id=row["id"],
        amount_minor=row["amount"],
        amount_received_minor=row.get("amount_received", 0),
        currency=row["currency"].upper(),
        status=IntentStatus(row["status"]),
        client_secret=row.get("client_secret") or "",
        latest_charge_id=reference(row.get("latest_charge")),
        transfer_group=row.get("transfer_group"),
        next_action_url=action.get("url"),
        last_error_code=failure.get("decline_code") or failure.get("code"),
        created_at=when(row["created"]),
        metadata=row.get("metadata") or {},
    )


def charge_of(row: Json, digest: Callable[[str], str | None]) -> Charge:
    """``digest`` of what says which card it was."""
    transaction = row.get("balance_transaction")
    card = (row.get("payment_method_details") or {}).get("card") or {}
    fingerprint = card.get("fingerprint")
    return Charge(
        id=row["id"],
        amount_minor=row["amount"],
        amount_refunded_minor=row["amount_refunded"],
        currency=row["currency"].upper(),
        status=row["status"],
        intent_id=reference(row.get("payment_intent")),
        disputed=row["disputed"],
        balance_transaction=transaction_of(transaction) if isinstance(transaction, Mapping) else None,
        created_at=when(row["created"]),
        instrument=digest(fingerprint) if fingerprint else None,
    )


def refund_of(row: Json) -> Refund:
    return Refund(
        id=row["id"],
        amount_minor=row["amount"],
        currency=row["currency"].upper(),
        status=row["status"] or "pending",
        charge_id=reference(row.get("charge")),
        intent_id=reference(row.get("payment_intent")),
        balance_transaction_id=reference(row.get("balance_transaction")),
        failure_reason=row.get("failure_reason"),
        created_at=when(row["created"]),
        metadata=row.get("metadata") or {},
    )


def account_of(row: Json) -> ConnectedAccount:
    return ConnectedAccount(
        id=row["id"],
        country=row.get("country"),
        default_currency=(row.get("default_currency") or "").upper() or None,
        transfers_active=(row.get("capabilities") or {}).get("transfers") == "active",
        payouts_enabled=bool(row.get("payouts_enabled")),
        details_submitted=bool(row.get("details_submitted")),
        metadata=row.get("metadata") or {},
    )


def transfer_of(row: Json) -> Transfer:
    return Transfer(
        id=row["id"],
        amount_minor=row["amount"],
        amount_reversed_minor=row["amount_reversed"],
        currency=row["currency"].upper(),
        destination=reference(row.get("destination")) or "",
        transfer_group=row.get("transfer_group"),
        source_transaction=reference(row.get("source_transaction")),
        balance_transaction_id=reference(row.get("balance_transaction")),
        created_at=when(row["created"]),
        metadata=row.get("metadata") or {},
    )


def reversal_of(row: Json) -> TransferReversal:
    return TransferReversal(
        id=row["id"],
        transfer_id=reference(row["transfer"]) or "",
        amount_minor=row["amount"],
        currency=row["currency"].upper(),
        balance_transaction_id=reference(row.get("balance_transaction")),
        created_at=when(row["created"]),
        metadata=row.get("metadata") or {},
    )


def transaction_of(row: Json) -> BalanceTransaction:
    rate = row.get("exchange_rate")
    return BalanceTransaction(
        id=row["id"],
        type=row["type"],
        reporting_category=row["reporting_category"],
        source_id=reference(row.get("source")),
        amount_minor=row["amount"],
        fee_minor=row["fee"],
        net_minor=row["net"],
        currency=row["currency"].upper(),
        status=row["status"],
        exchange_rate=rate,
        created_at=when(row["created"]),
        available_on=when(row["available_on"]),
        description=row.get("description"),
    )


def payout_of(row: Json) -> Payout:
    return Payout(
        id=row["id"],
        amount_minor=row["amount"],
        currency=row["currency"].upper(),
        status=row["status"],
        automatic=row["automatic"],
        arrival_at=when(row["arrival_date"]),
        balance_transaction_id=reference(row.get("balance_transaction")),
        failure_transaction_id=reference(row.get("failure_balance_transaction")),
        failure_code=row.get("failure_code"),
        reconciled=row.get("reconciliation_status") == "completed",
        created_at=when(row["created"]),
        metadata=row.get("metadata") or {},
    )


def dispute_of(row: Json) -> Dispute:
    details = row.get("evidence_details") or {}
    moved = tuple(transaction_of(taken) for taken in row["balance_transactions"])
    return Dispute(
        id=row["id"],
        charge_id=reference(row["charge"]) or "",
        intent_id=reference(row.get("payment_intent")),
        amount_minor=row["amount"],
        currency=row["currency"].upper(),
        status=row["status"],
        reason=row["reason"],
        fee_minor=sum(taken.fee_minor for taken in moved),
        created_at=when(row["created"]),
        evidence_due_at=when(details["due_by"]) if details.get("due_by") else None,
        evidence_submissions=details.get("submission_count", 0),
        withdrawn_minor=-sum(taken.amount_minor for taken in moved),
        transactions=moved,
    )


def balance_of(row: Json) -> Balance:
    def by_currency(parts: list[dict[str, Any]]) -> dict[str, int]:
        return {part["currency"].upper(): part["amount"] for part in parts}

    return Balance(available=by_currency(row["available"]), pending=by_currency(row["pending"]))


def event_of(row: Json) -> Event:
    inside = row["data"]["object"]
    return Event(
        id=row["id"],
        type=row["type"],
        created_at=when(row["created"]),
        object_type=inside["object"],
        object_id=inside.get("id") or "",
        account=row.get("account"),
        payload=inside,
    )
