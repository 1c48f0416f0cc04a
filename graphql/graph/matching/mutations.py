from __future__ import annotations

import strawberry

from core.ids import CommunityId, PlacementId, ProductId, PromoterId, ProposalId
from graph.context import Info
from graph.errors import UserError, expected
from graph.matching.types import Proposal
from graph.promotion.mutations import LinkPayload, policy_of
from graph.promotion.types import TrackedLink
from marketplace.matching import service
from marketplace.promotion import queries as promotion


@strawberry.input
class ProductsProposeInput:
    community_id: strawberry.ID
    first: int = strawberry.field(default=10, description="1 to 50.")


@strawberry.input
class CommunitiesProposeInput:
    product_id: strawberry.ID
    first: int = strawberry.field(default=10, description="1 to 50.")


@strawberry.type(
    description="Best first. Stored, so that a link can be made of each and its reason looked up."
)
class ProposalsPayload:
    proposals: list[Proposal] = strawberry.field(default_factory=list)
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class LinkCreateFromProposalInput:
    proposal_id: strawberry.ID
    placement_id: strawberry.ID
    destination: str
    promoter_id: strawberry.ID | None = None


@strawberry.type
class MatchingMutations:
    @strawberry.mutation(description="What to show in an own community, and why.")
    @expected(ProposalsPayload)
    async def products_propose(self, info: Info, input: ProductsProposeInput) -> ProposalsPayload:
        context, actor, community_id = info.context, info.context.actor, CommunityId.parse(input.community_id)
        async with context.db.unit_of_work(actor) as session:
            found = await service.propose_products(
                session, actor, community_id, limit=input.first, clock=context.clock
            )
        return ProposalsPayload(proposals=[Proposal.of(row) for row in found])

    @strawberry.mutation(description="Where to show a product, among own and partners' communities, and why.")
    @expected(ProposalsPayload)
    async def communities_propose(self, info: Info, input: CommunitiesProposeInput) -> ProposalsPayload:
        context, actor, product_id = info.context, info.context.actor, ProductId.parse(input.product_id)
        async with context.db.unit_of_work(actor) as session:
            found = await service.propose_communities(
                session, actor, product_id, limit=input.first, clock=context.clock
            )
        return ProposalsPayload(proposals=[Proposal.of(row) for row in found])

    @strawberry.mutation(description="From a proposal to a tracked link in one step.")
    @expected(LinkPayload)
    async def link_create_from_proposal(self, info: Info, input: LinkCreateFromProposalInput) -> LinkPayload:
        context, actor = info.context, info.context.actor
        promoter_id = PromoterId.parse(input.promoter_id) if input.promoter_id else None
        async with context.db.unit_of_work(actor) as session:
            created = await service.link_from_proposal(
                session,
                actor,
                ProposalId.parse(input.proposal_id),
                placement_id=PlacementId.parse(input.placement_id),
                destination=input.destination,
                promoter_id=promoter_id,
                policy=policy_of(context),
                clock=context.clock,
            )
            row = await promotion.link(session, actor, created.id)
        return LinkPayload(link=TrackedLink.of(row))
