"""Fraud in the brand API: what the rules found, what is held for it, and what the advertiser or an operator decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import CommissionLineId, OrderId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import JSON, Money
from marketplace.promotion.fraud import queries, review
from marketplace.promotion.fraud.ids import HoldId, SignalId
from marketplace.promotion.fraud.models import HoldStatus, SignalStatus
from marketplace.promotion.fraud.queries import HoldView, SignalView
from marketplace.promotion.fraud.review import Reviewed
from marketplace.promotion.fraud.signals import Action, Rule

strawberry.enum(Rule, name="FraudRule")
strawberry.enum(Action, name="FraudAction")
strawberry.enum(SignalStatus, name="FraudSignalStatus")
strawberry.enum(HoldStatus, name="CommissionHoldStatus")
_READ = scope("promotion:read")


async def _signals(context: Context, ids: Sequence[SignalId]) -> list[SignalView | None]:
    async with context.reading() as session:
        found = await queries.signals_named(session, context.actor, ids)
    return [found.get(signal_id) for signal_id in ids]


async def _holds(context: Context, ids: Sequence[SignalId]) -> list[list[HoldView]]:
    async with context.reading() as session:
        found = await queries.holds_of_signals(session, context.actor, ids)
    return [found.get(signal_id, []) for signal_id in ids]


async def _excluded(context: Context, ids: Sequence[SignalId]) -> list[int]:
    async with context.reading() as session:
        found = await queries.excluded_counts(session, ids)
    return [found.get(signal_id, 0) for signal_id in ids]


@strawberry.type(
    description="What a rule found. Evidence and threshold are figures and ids, never a person's data."
)
class FraudSignal:
    id: strawberry.ID
    rule: Rule
    rule_version: str
    action: Action = strawberry.field(description="What followed.")
    status: SignalStatus
    advertiser_id: strawberry.ID
    promoter_brand_id: strawberry.ID
    agreement_id: strawberry.ID
    promoter_id: strawberry.ID | None = strawberry.field(description="The person, where one promotes.")
    placement_id: strawberry.ID | None
    link_id: strawberry.ID | None
    touch_id: strawberry.ID | None
    order_id: strawberry.ID | None
    coupon_id: strawberry.ID | None
    evidence: JSON
    threshold: JSON
    detected_at: datetime
    seen_at: datetime = strawberry.field(description="When it was last found.")
    window_until: datetime | None = strawberry.field(
        description="Orders of the promoter up to here have a longer return window."
    )
    decided_at: datetime | None
    decision: str | None

    @strawberry.field(description="What it holds, or held.")
    async def holds(self, info: Info) -> list[CommissionHold]:
        rows: list[HoldView] = await info.context.loader(_holds).load(SignalId.parse(self.id))
        return [CommissionHold.of(row) for row in rows]

    @strawberry.field(description="Clicks that count for nothing because of it.")
    async def excluded_clicks(self, info: Info) -> int:
        count: int = await info.context.loader(_excluded).load(SignalId.parse(self.id))
        return count

    @classmethod
    def of(cls, row: SignalView) -> FraudSignal:
        return cls(
            id=strawberry.ID(str(row.id)),
            rule=row.rule,
            rule_version=row.rule_version,
            action=row.action,
            status=row.status,
            advertiser_id=strawberry.ID(str(row.advertiser_id)),
            promoter_brand_id=strawberry.ID(str(row.promoter_brand_id)),
            agreement_id=strawberry.ID(str(row.agreement_id)),
            promoter_id=_id(row.promoter_id),
            placement_id=_id(row.placement_id),
            link_id=_id(row.link_id),
            touch_id=_id(row.touch_id),
            order_id=_id(row.order_id),
            coupon_id=_id(row.coupon_id),
            evidence=JSON(row.evidence),
            threshold=JSON(row.threshold),
            detected_at=row.detected_at,
            seen_at=row.seen_at,
            window_until=row.window_until,
            decided_at=row.decided_at,
            decision=row.decision,
        )


@strawberry.type(
    description="Why a commission line is neither confirmed nor payable. It clears itself at `clearsAt`."
)
class CommissionHold:
    id: strawberry.ID
    commission_line_id: strawberry.ID
    order_id: strawberry.ID
    order_line_id: strawberry.ID
    signal_id: strawberry.ID | None
    reason: str = strawberry.field(description="The rule, or what a person wrote.")
    status: HoldStatus
    held: Money = strawberry.field(description="What the line's payees would get.")
    opened_at: datetime
    clears_at: datetime
    ended_at: datetime | None
    decision: str | None

    @strawberry.field
    async def signal(self, info: Info) -> FraudSignal | None:
        if self.signal_id is None:
            return None
        row: SignalView | None = await info.context.loader(_signals).load(SignalId.parse(self.signal_id))
        return None if row is None else FraudSignal.of(row)

    @classmethod
    def of(cls, row: HoldView) -> CommissionHold:
        return cls(
            id=strawberry.ID(str(row.id)),
            commission_line_id=strawberry.ID(str(row.commission_line_id)),
            order_id=strawberry.ID(str(row.order_id)),
            order_line_id=strawberry.ID(str(row.order_line_id)),
            signal_id=_id(row.signal_id),
            reason=row.reason,
            status=row.status,
            held=Money.of(row.held),
            opened_at=row.opened_at,
            clears_at=row.clears_at,
            ended_at=row.ended_at,
            decision=row.decision,
        )


def _id(value: object) -> strawberry.ID | None:
    return None if value is None else strawberry.ID(str(value))


@strawberry.type
class FraudQueries:
    @strawberry.field(
        permission_classes=[_READ], description="Of the caller's agreements, on either side; newest first."
    )
    async def fraud_signals(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        status: SignalStatus | None = None,
        rule: Rule | None = None,
    ) -> Connection[FraudSignal]:
        context, request = info.context, PageRequest(first, after)
        async with context.reading() as session:
            page = await queries.signals_page(session, context.actor, request, status=status, rule=rule)
        return connection(page, FraudSignal.of)

    @strawberry.field(permission_classes=[_READ])
    async def fraud_signal(self, info: Info, id: strawberry.ID) -> FraudSignal:
        context = info.context
        async with context.reading() as session:
            return FraudSignal.of(await queries.signal(session, context.actor, SignalId.parse(id)))

    @strawberry.field(
        permission_classes=[_READ],
        description="The review queue: what clears next comes first. Without a status, ended ones too.",
    )
    async def commission_holds(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        status: HoldStatus | None = HoldStatus.OPEN,
        order_id: strawberry.ID | None = None,
    ) -> Connection[CommissionHold]:
        context, request = info.context, PageRequest(first, after)
        order = None if order_id is None else OrderId.parse(order_id)
        async with context.reading() as session:
            page = await queries.holds_page(session, context.actor, request, status=status, order_id=order)
        return connection(page, CommissionHold.of)


@strawberry.input
class FraudDecisionInput:
    id: strawberry.ID
    reason: str = strawberry.field(description="Both brands read it.")


@strawberry.input
class CommissionHoldOpenInput:
    commission_line_id: strawberry.ID
    reason: str


@strawberry.type(
    description="`restored` came back to promoters, `denied` to the merchant, in the lines' currency."
)
class FraudReviewPayload:
    commission_line_ids: list[strawberry.ID] = strawberry.field(default_factory=list)
    denied_minor: int = 0
    restored_minor: int = 0
    too_late: list[strawberry.ID] = strawberry.field(
        default_factory=list,
        description="Upheld, but their commission had gone on before: a dispute settles them.",
    )
    user_errors: list[UserError] = strawberry.field(default_factory=list)


Decide = Callable[[AsyncSession], Awaitable[Reviewed]]


async def _decided(context: Context, decide: Decide) -> FraudReviewPayload:
    """Money and rows of both brands move: as the platform, once the verb has checked who asks."""
    async with context.db.unit_of_work(SYSTEM) as session:
        done = await decide(session)
    return FraudReviewPayload(
        commission_line_ids=[strawberry.ID(str(line)) for line in done.lines],
        denied_minor=done.denied_minor,
        restored_minor=done.restored_minor,
        too_late=[strawberry.ID(str(line)) for line in done.too_late],
    )


@strawberry.type
class FraudMutations:
    @strawberry.mutation(description="By who pays, or an operator: it was wrong, and what it did is undone.")
    @expected(FraudReviewPayload)
    async def fraud_signal_dismiss(self, info: Info, input: FraudDecisionInput) -> FraudReviewPayload:
        context, id = info.context, SignalId.parse(input.id)
        return await _decided(
            context,
            lambda session: review.dismiss_signal(
                session, context.actor, id, reason=input.reason, clock=context.clock
            ),
        )

    @strawberry.mutation(description="By who pays, or an operator: what it holds is INVALID.")
    @expected(FraudReviewPayload)
    async def fraud_signal_uphold(self, info: Info, input: FraudDecisionInput) -> FraudReviewPayload:
        context, id = info.context, SignalId.parse(input.id)
        return await _decided(
            context,
            lambda session: review.uphold_signal(
                session, context.actor, id, reason=input.reason, clock=context.clock
            ),
        )

    @strawberry.mutation(description="By who pays, or an operator: this line goes on with the next sweep.")
    @expected(FraudReviewPayload)
    async def commission_hold_release(self, info: Info, input: FraudDecisionInput) -> FraudReviewPayload:
        context, id = info.context, HoldId.parse(input.id)
        return await _decided(
            context,
            lambda session: review.release_hold(
                session, context.actor, id, reason=input.reason, clock=context.clock
            ),
        )

    @strawberry.mutation(description="By who pays, or an operator: this line is INVALID.")
    @expected(FraudReviewPayload)
    async def commission_hold_uphold(self, info: Info, input: FraudDecisionInput) -> FraudReviewPayload:
        context, id = info.context, HoldId.parse(input.id)
        return await _decided(
            context,
            lambda session: review.uphold_hold(
                session, context.actor, id, reason=input.reason, clock=context.clock
            ),
        )

    @strawberry.mutation(
        description="By who pays, or an operator: hold a line for thirty days at most, once by each side."
    )
    @expected(FraudReviewPayload)
    async def commission_hold_open(self, info: Info, input: CommissionHoldOpenInput) -> FraudReviewPayload:
        context, line_id = info.context, CommissionLineId.parse(input.commission_line_id)

        async def decide(session: AsyncSession) -> Reviewed:
            await review.hold_by_hand(
                session, context.actor, line_id, reason=input.reason, clock=context.clock
            )
            return Reviewed((line_id,))

        return await _decided(context, decide)
