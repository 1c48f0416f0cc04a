"""Disputes about commissions in the brand API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import CommissionLineId, OrderId, TouchId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import Money, MoneyInput
from marketplace.promotion.disputes import lifecycle, queries
from marketplace.promotion.disputes.errors import BadDispute
from marketplace.promotion.disputes.models import CommissionDisputeId, DisputeStatus, DisputeSubject
from marketplace.promotion.disputes.queries import DisputeView
from marketplace.promotion.fraud.ids import HoldId

strawberry.enum(DisputeSubject, name="CommissionDisputeSubject")
strawberry.enum(DisputeStatus, name="CommissionDisputeStatus")
_READ = scope("promotion:read")


@strawberry.type(description="Five working days at least for each step of a brand; silence loses.")
class CommissionDispute:
    id: strawberry.ID
    subject: DisputeSubject
    status: DisputeStatus
    order_id: strawberry.ID
    commission_line_id: strawberry.ID | None
    hold_id: strawberry.ID | None
    touch_id: strawberry.ID | None
    agreement_id: strawberry.ID
    advertiser_id: strawberry.ID
    promoter_brand_id: strawberry.ID
    opener_id: strawberry.ID
    claimed: Money = strawberry.field(description="Zero where the claim is that something be undone.")
    granted: Money = strawberry.field(description="What the end of it moved.")
    reason: str
    reply: str
    escalation: str
    ruling: str
    opened_at: datetime
    due_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: DisputeView) -> CommissionDispute:
        return cls(
            id=strawberry.ID(str(row.id)),
            subject=row.subject,
            status=row.status,
            order_id=strawberry.ID(str(row.order_id)),
            commission_line_id=_id(row.commission_line_id),
            hold_id=_id(row.hold_id),
            touch_id=_id(row.touch_id),
            agreement_id=strawberry.ID(str(row.agreement_id)),
            advertiser_id=strawberry.ID(str(row.advertiser_id)),
            promoter_brand_id=strawberry.ID(str(row.promoter_brand_id)),
            opener_id=strawberry.ID(str(row.opener_id)),
            claimed=Money.of(row.claimed),
            granted=Money.of(row.granted),
            reason=row.reason,
            reply=row.reply,
            escalation=row.escalation,
            ruling=row.ruling,
            opened_at=row.opened_at,
            due_at=row.due_at,
            ended_at=row.ended_at,
        )


def _id(value: object) -> strawberry.ID | None:
    return None if value is None else strawberry.ID(str(value))


@strawberry.type
class CommissionDisputeQueries:
    @strawberry.field(permission_classes=[_READ], description="Opened and answered, newest first.")
    async def commission_disputes(
        self, info: Info, first: First = 20, after: After = None, status: DisputeStatus | None = None
    ) -> Connection[CommissionDispute]:
        context = info.context
        async with context.reading() as session:
            page = await queries.disputes_page(
                session, context.actor, PageRequest(first, after), status=status
            )
        return connection(page, CommissionDispute.of)

    @strawberry.field(permission_classes=[_READ])
    async def commission_dispute(self, info: Info, id: strawberry.ID) -> CommissionDispute:
        context = info.context
        async with context.reading() as session:
            return CommissionDispute.of(
                await queries.dispute(session, context.actor, CommissionDisputeId.parse(id))
            )


@strawberry.input(
    description="INVALID and AMOUNT name the line, HOLD the hold, TOUCH the order and the touch. `claimed` for AMOUNT, "
    "and for TOUCH when it is less than all that the touch would have earned alone."
)
class CommissionDisputeOpenInput:
    subject: DisputeSubject
    reason: str
    commission_line_id: strawberry.ID | None = None
    hold_id: strawberry.ID | None = None
    order_id: strawberry.ID | None = None
    touch_id: strawberry.ID | None = None
    claimed: MoneyInput | None = None


@strawberry.input
class CommissionDisputeAnswerInput:
    id: strawberry.ID
    accept: bool = strawberry.field(description="Accepted: it is granted at once.")
    reply: str


@strawberry.input
class CommissionDisputeInput:
    id: strawberry.ID


@strawberry.input
class CommissionDisputeEscalateInput:
    id: strawberry.ID
    escalation: str


@strawberry.input
class CommissionDisputeRuleInput:
    id: strawberry.ID
    uphold: bool
    ruling: str
    granted: MoneyInput | None = strawberry.field(
        default=None, description="All that was claimed when left out."
    )


@strawberry.type
class CommissionDisputePayload:
    dispute: CommissionDispute | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


Step = Callable[[AsyncSession], Awaitable[None]]


async def _stepped(context: Context, dispute_id: CommissionDisputeId, step: Step) -> CommissionDisputePayload:
    """Money of both brands may move: as the platform, once the step has checked whose turn it is."""
    async with context.db.unit_of_work(SYSTEM) as session:
        await step(session)
        row = await queries.dispute(session, context.actor, dispute_id)
    return CommissionDisputePayload(dispute=CommissionDispute.of(row))


@strawberry.type
class CommissionDisputeMutations:
    @strawberry.mutation(description="By the promoter brand; an AMOUNT by the advertiser too.")
    @expected(CommissionDisputePayload)
    async def commission_dispute_open(
        self, info: Info, input: CommissionDisputeOpenInput
    ) -> CommissionDisputePayload:
        context = info.context
        context.actor.require("promotion:write")
        async with context.db.unit_of_work(SYSTEM) as session:
            opened = await _opened(session, context, input)
            row = await queries.dispute(session, context.actor, opened)
        return CommissionDisputePayload(dispute=CommissionDispute.of(row))

    @strawberry.mutation(description="By the other side.")
    @expected(CommissionDisputePayload)
    async def commission_dispute_answer(
        self, info: Info, input: CommissionDisputeAnswerInput
    ) -> CommissionDisputePayload:
        context, id = info.context, CommissionDisputeId.parse(input.id)
        return await _stepped(
            context,
            id,
            lambda session: lifecycle.answer(
                session, context.actor, id, accept=input.accept, reply=input.reply, clock=context.clock
            ),
        )

    @strawberry.mutation(description="By who opened it: the reply stands, and the dispute is rejected.")
    @expected(CommissionDisputePayload)
    async def commission_dispute_accept_reply(
        self, info: Info, input: CommissionDisputeInput
    ) -> CommissionDisputePayload:
        context, id = info.context, CommissionDisputeId.parse(input.id)
        return await _stepped(
            context,
            id,
            lambda session: lifecycle.accept_reply(session, context.actor, id, clock=context.clock),
        )

    @strawberry.mutation(description="By who opened it: the reply does not stand, the platform rules.")
    @expected(CommissionDisputePayload)
    async def commission_dispute_escalate(
        self, info: Info, input: CommissionDisputeEscalateInput
    ) -> CommissionDisputePayload:
        context, id = info.context, CommissionDisputeId.parse(input.id)
        return await _stepped(
            context,
            id,
            lambda session: lifecycle.escalate(
                session, context.actor, id, escalation=input.escalation, clock=context.clock
            ),
        )

    @strawberry.mutation(description="Platform: what is owed is posted at once.")
    @expected(CommissionDisputePayload)
    async def commission_dispute_rule(
        self, info: Info, input: CommissionDisputeRuleInput
    ) -> CommissionDisputePayload:
        context, id = info.context, CommissionDisputeId.parse(input.id)
        granted = input.granted.parsed() if input.granted else None
        return await _stepped(
            context,
            id,
            lambda session: lifecycle.rule(
                session,
                context.actor,
                id,
                uphold=input.uphold,
                granted=granted,
                ruling=input.ruling,
                clock=context.clock,
            ),
        )


async def _opened(
    session: AsyncSession, context: Context, input: CommissionDisputeOpenInput
) -> CommissionDisputeId:
    actor, clock, reason = context.actor, context.clock, input.reason
    claimed = input.claimed.parsed() if input.claimed else None
    match input.subject:
        case DisputeSubject.HOLD:
            hold_id = HoldId.parse(_needed(input.hold_id, "holdId"))
            return await lifecycle.dispute_hold(session, actor, hold_id, reason=reason, clock=clock)
        case DisputeSubject.TOUCH:
            order_id = OrderId.parse(_needed(input.order_id, "orderId"))
            touch_id = TouchId.parse(_needed(input.touch_id, "touchId"))
            return await lifecycle.dispute_touch(
                session, actor, order_id, touch_id, claimed=claimed, reason=reason, clock=clock
            )
    line_id = CommissionLineId.parse(_needed(input.commission_line_id, "commissionLineId"))
    if input.subject is DisputeSubject.INVALID:
        return await lifecycle.dispute_invalid(session, actor, line_id, reason=reason, clock=clock)
    if claimed is None:
        raise BadDispute("how much too little, or too much", field="claimed")
    return await lifecycle.dispute_amount(
        session, actor, line_id, claimed=claimed, reason=reason, clock=clock
    )


def _needed(id: strawberry.ID | None, field: str) -> str:
    if id is None:
        raise BadDispute("what is disputed", field=field)
    return id
