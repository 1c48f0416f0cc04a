from __future__ import annotations

import strawberry

from core.ids import BrandId
from core.pagination import PageRequest
from graph.brands.types import ApiToken, Brand, Me, Member, Storefront
from graph.context import Info
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from marketplace.brands import queries


@strawberry.type
class BrandQueries:
    @strawberry.field(description="The tenant behind this token, and what the token may do.")
    async def me(self, info: Info) -> Me:
        actor = info.context.actor
        async with info.context.reading() as session:
            tenant = await queries.tenant(session, actor)
        return Me(
            id=strawberry.ID(str(actor.tenant_id)),
            kind=tenant.kind,
            name=tenant.name,
            slug=tenant.slug,
            status=tenant.status,
            country=tenant.country,
            currency=tenant.currency,
            scopes=sorted(actor.scopes),
            token_id=strawberry.ID(str(actor.token_id)) if actor.token_id else None,
        )

    @strawberry.field(description="The own brand, or one that is discoverable.")
    async def brand(self, info: Info, id: strawberry.ID) -> Brand:
        context = info.context
        async with context.reading() as session:
            return Brand.of(await queries.brand(session, context.actor, BrandId.parse(id)))

    @strawberry.field(description="Brands that want to be found, and the own one; the oldest first.")
    async def brands(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        category: str | None = None,
        region: str | None = None,
    ) -> Connection[Brand]:
        context = info.context
        async with context.reading() as session:
            page = await queries.brands_page(
                session, context.actor, PageRequest(first, after), category=category, region=region
            )

        async def count() -> int:
            async with context.reading() as session:
                return await queries.brands_count(session, context.actor, category=category, region=region)

        return connection(page, Brand.of, count)

    @strawberry.field(permission_classes=[scope("tokens:write")], description="Newest first.")
    async def api_tokens(self, info: Info) -> list[ApiToken]:
        async with info.context.reading() as session:
            return [ApiToken.of(row) for row in await queries.tokens_of(session, info.context.actor)]

    @strawberry.field(permission_classes=[scope("catalog:read")])
    async def storefronts(self, info: Info) -> list[Storefront]:
        async with info.context.reading() as session:
            return [Storefront.of(row) for row in await queries.storefronts_of(session, info.context.actor)]

    @strawberry.field(permission_classes=[scope("tokens:write")], description="The people of the tenant.")
    async def members(self, info: Info) -> list[Member]:
        async with info.context.reading() as session:
            rows = await queries.members_of(session, info.context.actor)
        return [
            Member(user_id=strawberry.ID(str(row.user_id)), email=row.email, name=row.name, role=row.role)
            for row in rows
        ]
