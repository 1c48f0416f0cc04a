"""Disputes: what a bank took back or asks about, and what the merchant answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import OrderId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.scalars import JSON, Money
from supply.settlement.disputes import queries
from supply.settlement.disputes.absorbing import absorb_loss
from supply.settlement.disputes.evidence import concede, give_evidence
from supply.settlement.disputes.models import EvidenceStatus
from supply.settlement.disputes.stages import Stage

strawberry.enum(Stage, name="DisputeStage")
strawberry.enum(EvidenceStatus, name="DisputeEvidenceStatus")
_READ = scope("orders:read")


@strawberry.type(description="One answer to the bank, in the provider's field names.")
class DisputeEvidence:
    id: strawberry.ID
    fields: JSON
    final: bool = strawberry.field(description="Handed in; otherwise only kept at the provider.")
    status: EvidenceStatus
    failure: str | None
    created_at: datetime
    sent_at: datetime | None

    @classmethod
    def of(cls, row: queries.EvidenceView) -> DisputeEvidence:
        return cls(
            id=strawberry.ID(str(row.id)),
            fields=JSON(row.fields),
            final=row.final,
            status=row.status,
            failure=row.failure,
            created_at=row.created_at,
            sent_at=row.sent_at,
        )


@strawberry.type(description="A dispute as far as it concerns the caller's orders.")
class Dispute:
    id: strawberry.ID
    stage: Stage
    provider_status: str
    reason: str
    amount: Money = strawberry.field(description="The part of the caller's orders.")
    frozen: Money = strawberry.field(description="What of the caller's money is kept until it is decided.")
    order_ids: list[strawberry.ID]
    opened_at: datetime
    evidence_due_at: datetime | None
    ended_at: datetime | None
    row: strawberry.Private[queries.DisputeView]

    @classmethod
    def of(cls, row: queries.DisputeView) -> Dispute:
        return cls(
            id=strawberry.ID(row.id),
            stage=row.stage,
            provider_status=row.provider_status,
            reason=row.reason,
            amount=Money.minor(row.amount_minor, row.currency),
            frozen=Money.minor(row.frozen_minor, row.currency),
            order_ids=[strawberry.ID(str(each)) for each in row.orders],
            opened_at=row.opened_at,
            evidence_due_at=row.evidence_due_at,
            ended_at=row.ended_at,
            row=row,
        )

    @strawberry.field(description="The caller's answers, oldest first.")
    async def evidence(self, info: Info) -> list[DisputeEvidence]:
        async with info.context.reading() as session:
            rows = await queries.evidence_of(session, info.context.actor, self.row.id)
        return [DisputeEvidence.of(row) for row in rows]


@strawberry.type
class DisputeQueries:
    @strawberry.field(permission_classes=[_READ])
    async def dispute(self, info: Info, id: strawberry.ID) -> Dispute:
        async with info.context.reading() as session:
            return Dispute.of(await queries.dispute(session, info.context.actor, str(id)))

    @strawberry.field(permission_classes=[_READ], description="Newest first.")
    async def disputes(
        self, info: Info, first: First = 20, after: After = None, stage: Stage | None = None
    ) -> Connection[Dispute]:
        context = info.context
        async with context.reading() as session:
            page = await queries.disputes_page(session, context.actor, PageRequest(first, after), stage=stage)
        return connection(page, Dispute.of)


@strawberry.input(description="Text fields of the provider, such as `shipping_tracking_number`.")
class EvidenceFieldInput:
    name: str
    value: str


@strawberry.input
class DisputeEvidenceGiveInput:
    idempotency_key: str
    dispute_id: strawberry.ID
    fields: list[EvidenceFieldInput]
    final: bool = strawberry.field(default=True, description="Hand it in: once, and before it is due.")


@strawberry.input
class DisputeConcedeInput:
    idempotency_key: str
    dispute_id: strawberry.ID


@strawberry.input
class DisputeAbsorbInput:
    idempotency_key: str
    dispute_id: strawberry.ID
    order_id: strawberry.ID
    payee_id: strawberry.ID | None = strawberry.field(default=None, description="Left out: everybody.")
    reason: str


@strawberry.type
class DisputePayload:
    dispute: Dispute | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class DisputeMutations:
    @strawberry.mutation(description="Answer the bank. It is sent right after; the row tells how that went.")
    @expected(DisputePayload)
    async def dispute_evidence_give(self, info: Info, input: DisputeEvidenceGiveInput) -> DisputePayload:
        context = info.context
        context.actor.require("orders:write")
        fields = {each.name: each.value for each in input.fields}

        async def run(session: AsyncSession) -> dict[str, Any]:
            given = await give_evidence(
                session, context.actor, str(input.dispute_id), fields, clock=context.clock, final=input.final
            )
            return {"evidenceId": str(given)}

        body = [input.dispute_id, fields, input.final]
        await _once(context, "disputeEvidenceGive", input.idempotency_key, body, run)
        return await _payload(context, input.dispute_id)

    @strawberry.mutation(description="Accept the loss. It cannot be taken back.")
    @expected(DisputePayload)
    async def dispute_concede(self, info: Info, input: DisputeConcedeInput) -> DisputePayload:
        context = info.context
        context.actor.require("orders:write")

        async def run(session: AsyncSession) -> dict[str, Any]:
            await concede(session, context.actor, str(input.dispute_id), clock=context.clock)
            return {}

        await _once(context, "disputeConcede", input.idempotency_key, [input.dispute_id], run)
        return await _payload(context, input.dispute_id)

    @strawberry.mutation(description="Platform: bear what parties owe for one order of a lost dispute.")
    @expected(DisputePayload)
    async def dispute_absorb(self, info: Info, input: DisputeAbsorbInput) -> DisputePayload:
        context = info.context
        context.actor.require("platform:admin")
        payee_id = None if input.payee_id is None else str(input.payee_id)

        async def run(session: AsyncSession) -> dict[str, Any]:
            order_id = OrderId.parse(input.order_id)
            amount = await absorb_loss(
                session, context.actor, str(input.dispute_id), order_id, reason=input.reason,
                clock=context.clock, payee_id=payee_id,
            )  # fmt: skip
            return {"amountMinor": amount}

        body = [input.dispute_id, input.order_id, payee_id, input.reason]
        await _once(context, "disputeAbsorb", input.idempotency_key, body, run)
        return await _payload(context, input.dispute_id)


async def _once(context: Context, operation: str, key: str, body: Any, run: Any) -> None:
    await run_once(context, operation=operation, key=key, body=body, run=run, as_actor=SYSTEM)


async def _payload(context: Context, dispute_id: strawberry.ID) -> DisputePayload:
    async with context.db.reading(context.actor) as session:
        found = await queries.dispute(session, context.actor, str(dispute_id))
    return DisputePayload(dispute=Dispute.of(found))
