"""Proposals with their reasons: the counts a score is made of."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import strawberry

from core.ids import AgreementId, CommunityId
from graph.audiences import loaders as audiences
from graph.audiences.types import Community
from graph.catalog.types import Product
from graph.context import Context, Info
from graph.promotion import loaders
from graph.promotion.types import Agreement
from graph.scalars import Money, Ppm
from marketplace.matching import holdouts
from marketplace.matching.models import Direction, Lane
from marketplace.matching.proposing import Proposed
from marketplace.matching.scoring import Parts, lift_ppm

strawberry.enum(Direction, name="ProposalDirection")
strawberry.enum(Lane, name="ProposalLane", description="REPEAT: bought here before. DISCOVER: new here.")


@strawberry.type(description="A tag the product and the community share.")
class TagReason:
    tag: str
    members_with: int
    contacts_with: int = strawberry.field(description="In the brand's whole audience.")
    declared: bool = strawberry.field(description="The community says it of itself.")
    lift_ppm: Ppm = strawberry.field(description="How much more common here than in the whole audience.")


@strawberry.type(description="A product bought here that is often bought by the same people.")
class CompanionReason:
    product_id: strawberry.ID
    community_buyers: int
    bought_both: int
    bought_companion: int
    bought_proposed: int


@strawberry.type(description="All that the score is made of; recomputing it gives the score.")
class ProposalReason:
    rule_version: str
    members: int
    brand_contacts: int
    product_tags: int
    tags: list[TagReason]
    community_buyers: int
    bought_here: int
    all_buyers: int
    bought_anywhere: int
    companions: list[CompanionReason]
    commission_ppm: Ppm = strawberry.field(
        description="What the agreement pays of the product's price; an amount a piece as what it comes to there."
    )
    commission_fixed: Money | None = strawberry.field(description="That amount a piece, where one is agreed.")
    tags_ppm: Ppm
    again_ppm: Ppm
    together_ppm: Ppm

    @classmethod
    def of(cls, row: Proposed) -> ProposalReason:
        parts: Parts = row.parts
        score = row.score
        return cls(
            rule_version=parts.rule_version,
            members=parts.members,
            brand_contacts=parts.brand_contacts,
            product_tags=parts.product_tags,
            tags=[
                TagReason(
                    tag=part.tag,
                    members_with=part.members_with,
                    contacts_with=part.contacts_with,
                    declared=part.declared,
                    lift_ppm=Ppm(lift_ppm(part, parts)),
                )
                for part in parts.tags
            ],
            community_buyers=parts.community_buyers,
            bought_here=parts.bought_here,
            all_buyers=parts.all_buyers,
            bought_anywhere=parts.bought_anywhere,
            companions=[
                CompanionReason(
                    product_id=strawberry.ID(part.product_id),
                    community_buyers=part.community_buyers,
                    bought_both=part.bought_both,
                    bought_companion=part.bought_companion,
                    bought_proposed=part.bought_proposed,
                )
                for part in parts.companions
            ],
            commission_ppm=Ppm(parts.commission_ppm),
            commission_fixed=None if parts.commission_fixed is None else Money.of(parts.commission_fixed),
            tags_ppm=Ppm(score.tags_ppm),
            again_ppm=Ppm(score.again_ppm),
            together_ppm=Ppm(score.together_ppm),
        )


async def _held_out(context: Context, pairs: Sequence[tuple[CommunityId, AgreementId]]) -> list[int]:
    async with context.reading() as session:
        found = await holdouts.shares_of(session, pairs)
    return [found.get(pair, 0) for pair in pairs]


@strawberry.type(description="One product for one community. Make it a link with `linkCreateFromProposal`.")
class Proposal:
    id: strawberry.ID
    direction: Direction
    lane: Lane
    rank: int
    score_ppm: Ppm
    community_id: strawberry.ID
    product_id: strawberry.ID
    agreement_id: strawberry.ID | None = strawberry.field(description="Null for an own product.")
    reason: ProposalReason
    proposed_at: datetime
    row: strawberry.Private[Proposed]

    @classmethod
    def of(cls, row: Proposed) -> Proposal:
        return cls(
            id=strawberry.ID(str(row.id)),
            direction=row.direction,
            lane=row.lane,
            rank=row.rank,
            score_ppm=Ppm(row.score_ppm),
            community_id=strawberry.ID(str(row.community_id)),
            product_id=strawberry.ID(str(row.product_id)),
            agreement_id=None if row.agreement_id is None else strawberry.ID(str(row.agreement_id)),
            reason=ProposalReason.of(row),
            proposed_at=row.proposed_at,
            row=row,
        )

    @strawberry.field
    async def community(self, info: Info) -> Community | None:
        row = await info.context.loader(audiences.communities).load(self.row.community_id)
        return None if row is None else Community.of(row)

    @strawberry.field
    async def product(self, info: Info) -> Product | None:
        row = await info.context.loader(loaders.products).load(self.row.product_id)
        return None if row is None else Product.of(row)

    @strawberry.field(
        description="Of the members, who are not shown it while a holdout runs: see placementAudience."
    )
    async def held_out_ppm(self, info: Info) -> Ppm:
        if self.row.agreement_id is None:
            return Ppm(0)
        pair = (self.row.community_id, self.row.agreement_id)
        return Ppm(await info.context.loader(_held_out).load(pair))

    @strawberry.field
    async def agreement(self, info: Info) -> Agreement | None:
        if self.row.agreement_id is None:
            return None
        row = await info.context.loader(loaders.agreements).load(self.row.agreement_id)
        return None if row is None else Agreement.of(row)
