"""What a merchant answers the bank: recorded with an outbox message, sent by a worker, never inside a transaction.

Evidence may be added piece by piece; handing it in (``final``) happens once, and before it is due.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from infra import outbox
from infra.db.session import Database
from infra.payments.errors import ProviderRefused
from infra.payments.gateway import PaymentGateway
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.disputes.errors import (
    DisputeDecided,
    DisputeNotFound,
    DisputeShared,
    EvidenceInvalid,
    EvidenceSubmitted,
    EvidenceTooLate,
)
from supply.settlement.disputes.events import DisputeConceded, EvidenceGiven
from supply.settlement.disputes.models import EvidenceStatus
from supply.settlement.disputes.stages import Stage
from supply.settlement.ids import EvidenceId

FIELDS = frozenset(
    {
        "access_activity_log", "billing_address", "cancellation_policy_disclosure", "cancellation_rebuttal",
        "customer_email_address", "customer_name", "customer_purchase_ip", "duplicate_charge_explanation",
        "duplicate_charge_id", "product_description", "refund_policy_disclosure",
        "refund_refusal_explanation", "service_date", "shipping_address", "shipping_carrier",
        "shipping_date", "shipping_tracking_number", "uncategorized_text",
    }
)  # fmt: skip
"""Text fields of the provider; the documents it also takes are uploaded elsewhere."""
LONGEST = 20_000
LONGEST_TOGETHER = 150_000

_LOCK = text(
    "SELECT d.*, (SELECT array_agg(DISTINCT o.merchant_id) FROM dispute_orders o WHERE o.dispute_id = d.id)"
    " AS merchants FROM disputes d WHERE d.id = :id FOR NO KEY UPDATE"
)
_HANDED_IN = text(
    "SELECT EXISTS (SELECT FROM dispute_evidence WHERE dispute_id = :id AND final AND status <> 'refused')"
)
_INSERT = text(
    "INSERT INTO dispute_evidence (id, dispute_id, merchant_id, fields, final, status, submitted_by, created_at)"
    " VALUES (:id, :dispute_id, :merchant_id, CAST(:fields AS jsonb), :final, 'queued', :by, :now)"
)
_FIND = text("SELECT * FROM dispute_evidence WHERE id = :id")
_END = text(
    "UPDATE dispute_evidence SET status = :status, failure = :failure, sent_at = :now"
    " WHERE id = :id AND status = 'queued'"
)


async def give_evidence(
    session: AsyncSession,
    actor: Actor,
    dispute_id: str,
    fields: Mapping[str, str],
    *,
    clock: Clock,
    final: bool = True,
) -> EvidenceId:
    """Record an answer and have it sent. ``session`` acts as SYSTEM; ``actor`` is a merchant of the dispute
    (``orders:write``) or an operator.

    Raises ``DisputeNotFound``, ``DisputeDecided``, ``EvidenceTooLate``, ``EvidenceSubmitted``,
    ``EvidenceInvalid``, ``DisputeShared``.
    """
    row = await _answerable(session, actor, dispute_id, clock=clock)
    _check(fields)
    if final and not actor.sees_everything and len(row.merchants) > 1:
        raise DisputeShared(dispute_id)
    handed_in = (await session.execute(_HANDED_IN, {"id": dispute_id})).scalar_one()
    if handed_in or row.evidence_submissions:
        raise EvidenceSubmitted(dispute_id)
    evidence_id, now = EvidenceId.new(), clock.now()
    values = {
        "id": evidence_id, "dispute_id": dispute_id, "fields": orjson.dumps(dict(fields)).decode(),
        "merchant_id": None if actor.sees_everything else actor.brand_id, "final": final,
        "by": str(actor), "now": now,
    }  # fmt: skip
    await session.execute(_INSERT, values)
    await outbox.record(session, EvidenceGiven(evidence_id, dispute_id, now))
    return evidence_id


async def concede(session: AsyncSession, actor: Actor, dispute_id: str, *, clock: Clock) -> None:
    """Accept the loss; it cannot be taken back. Raises as ``give_evidence``, but at any time before a verdict."""
    row = await _answerable(session, actor, dispute_id, clock=clock, in_time=False)
    if not actor.sees_everything and len(row.merchants) > 1:
        raise DisputeShared(dispute_id)
    await outbox.record(session, DisputeConceded(dispute_id, str(actor), clock.now()))


async def on_evidence_given(
    db: Database, event: EvidenceGiven, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Send it. Raises ``ProviderUnavailable`` for the worker to try again under the same key."""
    async with db.reading(SYSTEM) as session:
        row = (await session.execute(_FIND, {"id": event.evidence_id})).one()
    if row.status != EvidenceStatus.QUEUED:
        return
    try:
        answer = await payments.submit_evidence(
            row.dispute_id, evidence=row.fields, submit=row.final, key=f"evidence:{event.evidence_id}"
        )
    except ProviderRefused as refused:
        await _end(db, event.evidence_id, EvidenceStatus.REFUSED, refused.message, clock=clock)
        return
    await _end(db, event.evidence_id, EvidenceStatus.SENT, None, clock=clock)
    async with db.unit_of_work(SYSTEM) as session:
        await apply_dispute(session, answer, provider=payments.capabilities().name, now=clock.now())


async def on_dispute_conceded(
    db: Database, event: DisputeConceded, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Tell the provider; a dispute that was decided meanwhile is looked up instead."""
    try:
        answer = await payments.close_dispute(event.dispute_id, key=f"concede:{event.dispute_id}")
    except ProviderRefused:
        answer = await payments.retrieve_dispute(event.dispute_id)
    async with db.unit_of_work(SYSTEM) as session:
        await apply_dispute(session, answer, provider=payments.capabilities().name, now=clock.now())


async def _answerable(
    session: AsyncSession, actor: Actor, dispute_id: str, *, clock: Clock, in_time: bool = True
) -> Any:
    actor.require("orders:write")
    row = (await session.execute(_LOCK, {"id": dispute_id})).one_or_none()
    if row is None or not (actor.sees_everything or actor.brand_id in (row.merchants or ())):
        raise DisputeNotFound(dispute_id)
    if row.stage not in (Stage.INQUIRY, Stage.OPEN):
        raise DisputeDecided(dispute_id, row.stage)
    if in_time and row.evidence_due_at is not None and clock.now() > row.evidence_due_at:
        raise EvidenceTooLate(dispute_id, row.evidence_due_at)
    return row


def _check(fields: Mapping[str, str]) -> None:
    unknown = sorted(set(fields) - FIELDS)
    if unknown or not any(value.strip() for value in fields.values()):
        raise EvidenceInvalid(f"unknown: {', '.join(unknown)}" if unknown else "nothing is said")
    lengths = [len(value) for value in fields.values()]
    if max(lengths) > LONGEST or sum(lengths) > LONGEST_TOGETHER:
        raise EvidenceInvalid(f"at most {LONGEST} letters a field, {LONGEST_TOGETHER} together")


async def _end(
    db: Database, evidence_id: EvidenceId, status: EvidenceStatus, failure: str | None, *, clock: Clock
) -> None:
    values = {"id": evidence_id, "status": status.value, "failure": failure, "now": clock.now()}
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_END, values)
