from __future__ import annotations

from datetime import datetime

import strawberry

from core.actor import SYSTEM
from core.ids import StorefrontId, TokenId
from graph.brands.sign_up_limit import SignUpLimit
from graph.brands.types import (
    ApiToken,
    Brand,
    SignUpKind,
    Storefront,
)
from graph.context import Context, Info
from graph.errors import UserError, expected
from marketplace.brands import queries, service
from marketplace.brands.models import StorefrontChannel, StorefrontStatus
from marketplace.brands.onboarding import onboard

_limit = SignUpLimit()


@strawberry.input
class SignUpInput:
    kind: SignUpKind
    name: str
    email: str
    country: str = strawberry.field(description="ISO 3166-1 alpha-2.")
    currency: str = strawberry.field(description="ISO 4217; what the tenant keeps its books in.")


@strawberry.type(description="`token` has every scope of the tenant and is shown this once.")
class SignUpPayload:
    id: strawberry.ID | None = None
    slug: str | None = None
    token: str | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input(description="What is left out stays as it is.")
class BrandProfileUpdateInput:
    name_zh: str | None = None
    name_en: str | None = None
    description: str | None = None
    categories: list[str] | None = None
    regions: list[str] | None = None
    discoverable: bool | None = strawberry.field(
        default=None, description="Whether other brands find this profile."
    )


@strawberry.type
class BrandProfileUpdatePayload:
    brand: Brand | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class ApiTokenCreateInput:
    name: str
    scopes: list[str]
    expires_at: datetime | None = None


@strawberry.input
class ApiTokenInput:
    id: strawberry.ID


@strawberry.type(description="`secret` is shown this once.")
class ApiTokenPayload:
    token: ApiToken | None = None
    secret: str | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class StorefrontCreateInput:
    name: str
    channel: StorefrontChannel
    currency: str
    country: str
    locale: str = "zh-CN"


@strawberry.input(description="What is left out stays; currency and country always do.")
class StorefrontUpdateInput:
    id: strawberry.ID
    name: str | None = None
    locale: str | None = None
    status: StorefrontStatus | None = None
    new_key: bool = strawberry.field(default=False, description="Replace the publishable key at once.")


@strawberry.type
class StorefrontPayload:
    storefront: Storefront | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class BrandMutations:
    @strawberry.mutation(description="Needs no token. Makes a brand or a supplier with its owner.")
    @expected(SignUpPayload)
    async def sign_up(self, info: Info, input: SignUpInput) -> SignUpPayload:
        context = info.context
        _limit.take(_address(context))
        async with context.db.unit_of_work(SYSTEM) as session:
            made = await onboard(
                session,
                kind=input.kind.value,
                name=input.name,
                email=input.email,
                country=input.country,
                currency=input.currency,
                clock=context.clock,
            )
        return SignUpPayload(id=strawberry.ID(str(made.tenant_id)), slug=made.slug, token=made.token)

    @strawberry.mutation
    @expected(BrandProfileUpdatePayload)
    async def brand_profile_update(
        self, info: Info, input: BrandProfileUpdateInput
    ) -> BrandProfileUpdatePayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            await service.update_profile(
                session,
                actor,
                name_zh=input.name_zh,
                name_en=input.name_en,
                description=input.description,
                categories=input.categories,
                regions=input.regions,
                discoverable=input.discoverable,
                clock=context.clock,
            )
            brand = await queries.brand(session, actor, actor.brand_id)
        return BrandProfileUpdatePayload(brand=Brand.of(brand))

    @strawberry.mutation(description="A further token, with no scope its maker lacks.")
    @expected(ApiTokenPayload)
    async def api_token_create(self, info: Info, input: ApiTokenCreateInput) -> ApiTokenPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            made = await service.issue_token(
                session,
                actor,
                name=input.name,
                scopes=input.scopes,
                expires_at=input.expires_at,
                clock=context.clock,
            )
            row = await queries.token(session, actor, made.id)
        return ApiTokenPayload(token=ApiToken.of(row), secret=made.token)

    @strawberry.mutation(description="A new secret with the same scopes and end; the old one stops.")
    @expected(ApiTokenPayload)
    async def api_token_rotate(self, info: Info, input: ApiTokenInput) -> ApiTokenPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            made = await service.rotate_token(session, actor, TokenId.parse(input.id), clock=context.clock)
            row = await queries.token(session, actor, made.id)
        return ApiTokenPayload(token=ApiToken.of(row), secret=made.token)

    @strawberry.mutation
    @expected(ApiTokenPayload)
    async def api_token_revoke(self, info: Info, input: ApiTokenInput) -> ApiTokenPayload:
        context, actor, token_id = info.context, info.context.actor, TokenId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.revoke_token(session, actor, token_id, clock=context.clock)
            row = await queries.token(session, actor, token_id)
        return ApiTokenPayload(token=ApiToken.of(row))

    @strawberry.mutation
    @expected(StorefrontPayload)
    async def storefront_create(self, info: Info, input: StorefrontCreateInput) -> StorefrontPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            made = await service.create_storefront(
                session,
                actor,
                name=input.name,
                channel=input.channel,
                currency=input.currency,
                country=input.country,
                locale=input.locale,
                clock=context.clock,
            )
            row = await queries.storefront(session, actor, made.id)
        return StorefrontPayload(storefront=Storefront.of(row))

    @strawberry.mutation
    @expected(StorefrontPayload)
    async def storefront_update(self, info: Info, input: StorefrontUpdateInput) -> StorefrontPayload:
        context, actor, storefront_id = info.context, info.context.actor, StorefrontId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.update_storefront(
                session,
                actor,
                storefront_id,
                name=input.name,
                locale=input.locale,
                status=input.status,
                new_key=input.new_key,
            )
            row = await queries.storefront(session, actor, storefront_id)
        return StorefrontPayload(storefront=Storefront.of(row))


def _address(context: Context) -> str:
    client = context.request.client if context.request else None
    return client.host if client else "local"
