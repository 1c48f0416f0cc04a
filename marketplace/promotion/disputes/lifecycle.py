"""A dispute about a commission, from its opening to its end (cps.md §2).

OPEN → the other side accepts (UPHELD) or replies (ADVERTISER_REPLY) → the opener lets that stand (REJECTED) or
escalates (ESCALATED) → the platform rules (RULED). For each step of a brand as many working days as agreed, five at
least, Monday to Friday in UTC; who is silent has lost. The platform's own days are a promise: until it rules,
everything stays as it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import BrandId, CommissionLineId, OrderId, TouchId
from core.money import Money
from infra import outbox
from infra.db.session import Database
from marketplace.promotion.disputes import claims, remedies
from marketplace.promotion.disputes.claims import Disputable
from marketplace.promotion.disputes.errors import (
    AlreadyDisputed,
    BadDispute,
    DisputeMoved,
    DisputeNotFound,
)
from marketplace.promotion.disputes.events import CommissionDisputeMoved
from marketplace.promotion.disputes.models import CommissionDisputeId, DisputeStatus
from marketplace.promotion.fraud.ids import HoldId
from supply.settlement.statements.contesting import after_working_days

SILENCE = "silence"
LONGEST_TEXT = 4_000
_INSERT = text(
    "INSERT INTO commission_disputes (id, subject, about, order_id, commission_line_id, hold_id, touch_id,"
    " agreement_id, advertiser_id, promoter_brand_id, opener_id, currency, claimed_minor, granted_minor, answer_days,"
    " status, reason, reply, escalation, ruling, decided_by, opened_at, due_at) VALUES (:id, :subject, :about,"
    " :order_id, :line_id, :hold_id, :touch_id, :agreement_id, :advertiser_id, :promoter_brand_id, :opener_id,"
    " :currency, :claimed, 0, :answer_days, 'OPEN', :reason, '', '', '', '', :now, :due_at)"
    " ON CONFLICT (about, opener_id) DO NOTHING RETURNING *"
)
_LOCK = text("SELECT * FROM commission_disputes WHERE id = :id FOR NO KEY UPDATE")
_MOVE = text(
    "UPDATE commission_disputes SET status = :status, due_at = coalesce(:due_at, due_at),"
    " reply = coalesce(:reply, reply), escalation = coalesce(:escalation, escalation),"
    " ruling = coalesce(:ruling, ruling), decided_by = :by, granted_minor = :granted, ended_at = :ended_at"
    " WHERE id = :id"
)
_OVERDUE = text(
    "SELECT * FROM commission_disputes WHERE status IN ('OPEN', 'ADVERTISER_REPLY') AND due_at <= :now"
    " ORDER BY due_at, id LIMIT 50 FOR NO KEY UPDATE SKIP LOCKED"
)


async def dispute_invalid(
    session: AsyncSession, actor: Actor, line_id: CommissionLineId, *, reason: str, clock: Clock
) -> CommissionDisputeId:
    """Raises ``NothingToDispute``, ``DisputeTooLate``, ``AlreadyDisputed``, ``BadDispute``; so do the next three."""
    found = await claims.invalid_line(session, actor.brand_id, line_id, clock.now())
    return await _open(session, actor, found, 0, reason, clock)


async def dispute_hold(
    session: AsyncSession, actor: Actor, hold_id: HoldId, *, reason: str, clock: Clock
) -> CommissionDisputeId:
    found = await claims.open_hold(session, actor.brand_id, hold_id)
    return await _open(session, actor, found, 0, reason, clock)


async def dispute_touch(
    session: AsyncSession,
    actor: Actor,
    order_id: OrderId,
    touch_id: TouchId,
    *,
    claimed: Money | None = None,
    reason: str,
    clock: Clock,
) -> CommissionDisputeId:
    """Without a claim, for all that the touch would have earned alone."""
    found = await claims.refused_touch(session, actor.brand_id, order_id, touch_id, clock.now())
    wanted = (found.most_minor or 0) if claimed is None else _claimed(found, claimed)
    return await _open(session, actor, found, wanted, reason, clock)


async def dispute_amount(
    session: AsyncSession,
    actor: Actor,
    line_id: CommissionLineId,
    *,
    claimed: Money,
    reason: str,
    clock: Clock,
) -> CommissionDisputeId:
    """``claimed`` is how much too little the line earned, or too much when the advertiser opens it."""
    found = await claims.amount_of_line(session, actor.brand_id, line_id, clock.now())
    return await _open(session, actor, found, _claimed(found, claimed), reason, clock)


async def answer(
    session: AsyncSession, actor: Actor, id: CommissionDisputeId, *, accept: bool, reply: str, clock: Clock
) -> None:
    """The other side accepts, which ends it, or says why not. Raises ``DisputeNotFound``, ``DisputeMoved``."""
    row = await _turn(session, actor, id, DisputeStatus.OPEN, opener=False)
    _check(reply)
    if accept:
        await _end(
            session, row, DisputeStatus.UPHELD, row.claimed_minor, by=str(actor), clock=clock, reply=reply
        )
    else:
        await _move(session, row, DisputeStatus.ADVERTISER_REPLY, by=str(actor), clock=clock, reply=reply)


async def accept_reply(session: AsyncSession, actor: Actor, id: CommissionDisputeId, *, clock: Clock) -> None:
    """The opener lets the reply stand: REJECTED. Raises as ``answer``."""
    row = await _turn(session, actor, id, DisputeStatus.ADVERTISER_REPLY, opener=True)
    await _end(session, row, DisputeStatus.REJECTED, None, by=str(actor), clock=clock)


async def escalate(
    session: AsyncSession, actor: Actor, id: CommissionDisputeId, *, escalation: str, clock: Clock
) -> None:
    """The opener does not let the reply stand: the platform rules. Raises as ``answer``."""
    row = await _turn(session, actor, id, DisputeStatus.ADVERTISER_REPLY, opener=True)
    _check(escalation)
    await _move(session, row, DisputeStatus.ESCALATED, by=str(actor), clock=clock, escalation=escalation)


async def rule(
    session: AsyncSession,
    actor: Actor,
    id: CommissionDisputeId,
    *,
    uphold: bool,
    granted: Money | None = None,
    ruling: str,
    clock: Clock,
) -> None:
    """The platform upholds it, for all that was claimed or ``granted`` of it, or rejects it. Raises as ``answer``,
    and ``BadDispute`` for more than was claimed."""
    actor.require("platform:admin")
    row = await _locked(session, id)
    if row.status != DisputeStatus.ESCALATED:
        raise DisputeMoved(f"the dispute is {row.status}")
    _check(ruling)
    amount = row.claimed_minor if granted is None else granted.amount_minor
    if granted is not None and granted.currency != row.currency:
        raise BadDispute(f"in {row.currency}", field="granted")
    if not 0 <= amount <= row.claimed_minor:
        raise BadDispute(f"0 to {row.claimed_minor}", field="granted")
    given = amount if uphold else None
    await _end(session, row, DisputeStatus.RULED, given, by=str(actor), clock=clock, ruling=ruling)


async def end_silent_disputes(db: Database, *, clock: Clock) -> int:
    """Sweep: whoever had to speak and did not has lost. How many disputes that ended."""
    async with db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_OVERDUE, {"now": clock.now()})).all()
        for row in rows:
            unanswered = row.status == DisputeStatus.OPEN
            status = DisputeStatus.UPHELD if unanswered else DisputeStatus.REJECTED
            given = row.claimed_minor if unanswered else None
            await _end(session, row, status, given, by=SILENCE, clock=clock)
    return len(rows)


async def _open(
    session: AsyncSession, actor: Actor, found: Disputable, claimed_minor: int, reason: str, clock: Clock
) -> CommissionDisputeId:
    actor.require("promotion:write")
    _check(reason)
    now = clock.now()
    values = {
        "id": CommissionDisputeId.new(), "subject": found.subject.value, "about": found.about,
        "order_id": found.order_id, "line_id": found.commission_line_id, "hold_id": found.hold_id,
        "touch_id": found.touch_id, "agreement_id": found.agreement_id, "advertiser_id": found.advertiser_id,
        "promoter_brand_id": found.promoter_brand_id, "opener_id": actor.brand_id, "currency": found.currency,
        "claimed": claimed_minor, "answer_days": found.terms.answer_days, "reason": reason, "now": now,
        "due_at": after_working_days(now, found.terms.answer_days),
    }  # fmt: skip
    row = (await session.execute(_INSERT, values)).one_or_none()
    if row is None:
        raise AlreadyDisputed("this is, or was, disputed")
    await _tell(session, row, DisputeStatus.OPEN, 0, str(actor), row.due_at, now)
    return CommissionDisputeId.of(row.id)


def _claimed(found: Disputable, claimed: Money) -> int:
    if claimed.currency != found.currency:
        raise BadDispute(f"in {found.currency}", field="claimed")
    if not 0 < claimed.amount_minor <= (found.most_minor or 0):
        raise BadDispute(f"1 to {found.most_minor}", field="claimed")
    return claimed.amount_minor


def _check(words: str) -> None:
    if not 0 < len(words.strip()) <= LONGEST_TEXT:
        raise BadDispute(f"1 to {LONGEST_TEXT} characters", field="text")


async def _locked(session: AsyncSession, id: CommissionDisputeId) -> Row[Any]:
    row = (await session.execute(_LOCK, {"id": id})).one_or_none()
    if row is None:
        raise DisputeNotFound("no such dispute", field="id")
    return row


async def _turn(
    session: AsyncSession, actor: Actor, id: CommissionDisputeId, status: DisputeStatus, *, opener: bool
) -> Row[Any]:
    actor.require("promotion:write")
    row, brand = await _locked(session, id), actor.brand_id
    if brand not in (row.advertiser_id, row.promoter_brand_id):
        raise DisputeNotFound("no such dispute", field="id")
    if row.status != status or (row.opener_id == brand) is not opener:
        raise DisputeMoved(f"the dispute is {row.status}")
    return row


async def _move(
    session: AsyncSession, row: Row[Any], status: DisputeStatus, *, by: str, clock: Clock, **words: str
) -> None:
    due_at = after_working_days(clock.now(), row.answer_days)
    await _store(session, row, status, 0, by, due_at, None, words)
    await _tell(session, row, status, 0, by, due_at, clock.now())


async def _end(
    session: AsyncSession,
    row: Row[Any],
    status: DisputeStatus,
    granted_minor: int | None,
    *,
    by: str,
    clock: Clock,
    **words: str,
) -> None:
    """``granted_minor`` is None when the opener was not right."""
    moved = 0
    if granted_minor is not None:
        moved = await remedies.grant(session, row, granted_minor, by=by, clock=clock)
    await _store(session, row, status, moved, by, None, clock.now(), words)
    await _tell(session, row, status, moved, by, None, clock.now())


async def _store(
    session: AsyncSession,
    row: Row[Any],
    status: DisputeStatus,
    granted_minor: int,
    by: str,
    due_at: datetime | None,
    ended_at: datetime | None,
    words: dict[str, str],
) -> None:
    values = {
        "id": row.id, "status": status.value, "due_at": due_at, "by": by, "granted": granted_minor,
        "ended_at": ended_at, "reply": None, "escalation": None, "ruling": None, **words,
    }  # fmt: skip
    await session.execute(_MOVE, values)


async def _tell(
    session: AsyncSession,
    row: Row[Any],
    status: DisputeStatus,
    granted_minor: int,
    by: str,
    due_at: datetime | None,
    now: datetime,
) -> None:
    parties = BrandId.of(row.advertiser_id), BrandId.of(row.promoter_brand_id)
    told = CommissionDisputeMoved(
        CommissionDisputeId.of(row.id), *parties, status.value, granted_minor, by, due_at, now
    )
    await outbox.record(session, told)
