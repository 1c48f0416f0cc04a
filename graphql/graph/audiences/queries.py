from __future__ import annotations

import strawberry

from core.ids import CommunityId
from core.pagination import PageRequest
from graph.audiences.types import Community
from graph.context import Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from marketplace.audiences import queries


@strawberry.type
class AudienceQueries:
    @strawberry.field(permission_classes=[scope("audiences:read")], description="One of the own communities.")
    async def community(self, info: Info, id: strawberry.ID) -> Community:
        context = info.context
        async with context.reading() as session:
            return Community.of(await queries.community(session, context.actor, CommunityId.parse(id)))

    @strawberry.field(permission_classes=[scope("audiences:read")], description="Own ones, oldest first.")
    async def communities(self, info: Info, first: First = 20, after: After = None) -> Connection[Community]:
        context = info.context
        async with context.reading() as session:
            page = await queries.communities_page(session, context.actor, PageRequest(first, after))

        async def count() -> int:
            async with context.reading() as session:
                return await queries.communities_count(session, context.actor)

        return connection(page, Community.of, count)
