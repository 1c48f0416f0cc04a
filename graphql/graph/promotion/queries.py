from __future__ import annotations

import strawberry

from core.ids import AgreementId, InvitationId, LinkId, OrderId
from core.pagination import PageRequest
from graph.context import Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.promotion.explained import ExplainedAttribution
from graph.promotion.types import Agreement, Invitation, Promoter, TrackedLink
from marketplace.promotion import queries
from marketplace.promotion.decisions.explanation import explain_attribution
from marketplace.promotion.models import AgreementStatus

_READ = scope("promotion:read")


@strawberry.type
class PromotionQueries:
    @strawberry.field(permission_classes=[_READ])
    async def invitation(self, info: Info, id: strawberry.ID) -> Invitation:
        context = info.context
        async with context.reading() as session:
            row = await queries.invitation(
                session, context.actor, InvitationId.parse(id), at=context.clock.now()
            )
        return Invitation.of(row)

    @strawberry.field(permission_classes=[_READ], description="Sent and received, newest first.")
    async def invitations(self, info: Info, first: First = 20, after: After = None) -> Connection[Invitation]:
        context = info.context
        async with context.reading() as session:
            page = await queries.invitations_page(
                session, context.actor, PageRequest(first, after), at=context.clock.now()
            )
        return connection(page, Invitation.of)

    @strawberry.field(permission_classes=[_READ], description="One of the caller's, on either side.")
    async def agreement(self, info: Info, id: strawberry.ID) -> Agreement:
        context = info.context
        async with context.reading() as session:
            return Agreement.of(await queries.agreement(session, context.actor, AgreementId.parse(id)))

    @strawberry.field(permission_classes=[_READ], description="On either side, newest first.")
    async def agreements(
        self, info: Info, first: First = 20, after: After = None, status: AgreementStatus | None = None
    ) -> Connection[Agreement]:
        context = info.context
        async with context.reading() as session:
            page = await queries.agreements_page(
                session, context.actor, PageRequest(first, after), status=status
            )

        async def count() -> int:
            async with context.reading() as session:
                return await queries.agreements_count(session, context.actor, status=status)

        return connection(page, Agreement.of, count)

    @strawberry.field(permission_classes=[_READ])
    async def link(self, info: Info, id: strawberry.ID) -> TrackedLink:
        context = info.context
        async with context.reading() as session:
            return TrackedLink.of(await queries.link(session, context.actor, LinkId.parse(id)))

    @strawberry.field(permission_classes=[_READ], description="Own ones and partners', newest first.")
    async def links(self, info: Info, first: First = 20, after: After = None) -> Connection[TrackedLink]:
        context = info.context
        async with context.reading() as session:
            page = await queries.links_page(session, context.actor, PageRequest(first, after))

        async def count() -> int:
            async with context.reading() as session:
                return await queries.links_count(session, context.actor)

        return connection(page, TrackedLink.of, count)

    @strawberry.field(permission_classes=[_READ], description="The people who promote for the own brand.")
    async def promoters(self, info: Info, first: First = 20, after: After = None) -> Connection[Promoter]:
        context = info.context
        async with context.reading() as session:
            page = await queries.promoters_page(session, context.actor, PageRequest(first, after))
        return connection(page, Promoter.of)

    @strawberry.field(
        permission_classes=[_READ],
        description="Who sold an order and why: every touch with its fate, rules, amounts, and the proof.",
    )
    async def explain_attribution(self, info: Info, order_id: strawberry.ID) -> ExplainedAttribution:
        context = info.context
        async with context.reading() as session:
            told = await explain_attribution(session, context.actor, OrderId.parse(order_id))
        return ExplainedAttribution.of(told)
