from __future__ import annotations

import strawberry

from core.ids import ProposalId
from graph.context import Info
from graph.matching.types import Proposal
from graph.permissions import scope
from marketplace.matching import service


@strawberry.type
class MatchingQueries:
    @strawberry.field(permission_classes=[scope("matching:read")], description="One of the own proposals.")
    async def proposal(self, info: Info, id: strawberry.ID) -> Proposal:
        context = info.context
        async with context.reading() as session:
            return Proposal.of(await service.proposal(session, context.actor, ProposalId.parse(id)))
