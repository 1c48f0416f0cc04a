"""What a storefront with a checkout of its own signs its messages with."""

from __future__ import annotations

from datetime import datetime

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import SigningSecretId, StorefrontId
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.permissions import scope
from infra.suppliers.secrets import SecretBox
from marketplace.brands import signing_secrets
from marketplace.brands.signing_secrets import SecretView


@strawberry.type(description="The secret itself is shown only when it is made.")
class SigningSecret:
    id: strawberry.ID
    storefront_id: strawberry.ID
    created_at: datetime
    valid_until: datetime | None = strawberry.field(description="Set when another one took its place.")
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: SecretView) -> SigningSecret:
        return cls(
            id=strawberry.ID(str(row.id)),
            storefront_id=strawberry.ID(str(row.storefront_id)),
            created_at=row.created_at,
            valid_until=row.valid_until,
            revoked_at=row.revoked_at,
        )


@strawberry.type
class SigningSecretQueries:
    @strawberry.field(
        permission_classes=[scope("tokens:write")],
        description="Of one of your storefronts, oldest first, those that are valid no longer included.",
    )
    async def signing_secrets(self, info: Info, storefront_id: strawberry.ID) -> list[SigningSecret]:
        context = info.context
        async with context.reading() as session:
            rows = await signing_secrets.secrets_of(session, context.actor, StorefrontId.parse(storefront_id))
        return [SigningSecret.of(row) for row in rows]


@strawberry.input(description="Rotated, the secret before is valid for another day.")
class SigningSecretCreateInput:
    storefront_id: strawberry.ID
    rotate: bool = False


@strawberry.input
class SigningSecretRevokeInput:
    id: strawberry.ID


@strawberry.type(description="`secret` is shown this once.")
class SigningSecretPayload:
    signing_secret: SigningSecret | None = None
    secret: str | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type
class SigningSecretMutations:
    @strawberry.mutation(
        description="What a storefront with a checkout of its own signs its orders with: at most two valid at once."
    )
    @expected(SigningSecretPayload)
    async def signing_secret_create(
        self, info: Info, input: SigningSecretCreateInput
    ) -> SigningSecretPayload:
        context, storefront_id = info.context, StorefrontId.parse(input.storefront_id)
        make = signing_secrets.rotate if input.rotate else signing_secrets.issue
        async with context.db.unit_of_work(context.actor) as session:
            made = await make(session, context.actor, storefront_id, box=_box(context), clock=context.clock)
            view = await _view(session, context, storefront_id, made.id)
        return SigningSecretPayload(signing_secret=view, secret=made.secret)

    @strawberry.mutation(description="At once.")
    @expected(SigningSecretPayload)
    async def signing_secret_revoke(
        self, info: Info, input: SigningSecretRevokeInput
    ) -> SigningSecretPayload:
        context, secret_id = info.context, SigningSecretId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            storefront_id = await signing_secrets.revoke(
                session, context.actor, secret_id, clock=context.clock
            )
            view = await _view(session, context, storefront_id, secret_id)
        return SigningSecretPayload(signing_secret=view)


def _box(context: Context) -> SecretBox:
    return SecretBox(context.gateways.settings.secret_key.get_secret_value())


async def _view(
    session: AsyncSession, context: Context, storefront_id: StorefrontId, secret_id: SigningSecretId
) -> SigningSecret:
    rows = await signing_secrets.secrets_of(session, context.actor, storefront_id)
    return next(SigningSecret.of(row) for row in rows if row.id == secret_id)
