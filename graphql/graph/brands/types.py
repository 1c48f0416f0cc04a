"""Tenants, their tokens and storefronts, as the brand API shows them."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import strawberry

from marketplace.brands import queries
from marketplace.brands.models import StorefrontChannel, StorefrontStatus

strawberry.enum(StorefrontChannel, name="StorefrontChannel")
strawberry.enum(StorefrontStatus, name="StorefrontStatus")


@strawberry.enum(description="Who signs up. Operators are made by the platform itself.")
class SignUpKind(Enum):
    BRAND = "brand"
    SUPPLIER = "supplier"


@strawberry.type(description="A brand: its facts and what it tells possible partners.")
class Brand:
    id: strawberry.ID
    name: str
    slug: str
    country: str
    currency: str
    name_zh: str
    name_en: str
    description: str
    categories: list[str]
    regions: list[str]
    discoverable: bool
    created_at: datetime

    @classmethod
    def of(cls, row: queries.Brand) -> Brand:
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            slug=row.slug,
            country=row.country,
            currency=row.currency,
            name_zh=row.name_zh,
            name_en=row.name_en,
            description=row.description,
            categories=list(row.categories),
            regions=list(row.regions),
            discoverable=row.discoverable,
            created_at=row.created_at,
        )


@strawberry.type(description="A counterparty, by name.")
class TenantName:
    id: strawberry.ID
    kind: str
    name: str


@strawberry.type(description="An API token as its owner sees it again; the secret is shown only when made.")
class ApiToken:
    id: strawberry.ID
    name: str
    shown_prefix: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = strawberry.field(description="To the minute.")
    revoked_at: datetime | None

    @classmethod
    def of(cls, row: queries.TokenRow) -> ApiToken:
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            shown_prefix=row.shown_prefix,
            scopes=list(row.scopes),
            created_at=row.created_at,
            expires_at=row.expires_at,
            last_used_at=row.last_used_at,
            revoked_at=row.revoked_at,
        )


@strawberry.type(
    description="A mini-program or shop site. Its key is public: it opens what a shopper may see."
)
class Storefront:
    id: strawberry.ID
    name: str
    publishable_key: str
    channel: StorefrontChannel
    currency: str
    country: str
    locale: str
    status: StorefrontStatus

    @classmethod
    def of(cls, row: queries.StorefrontRow) -> Storefront:
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            publishable_key=row.publishable_key,
            channel=StorefrontChannel(row.channel),
            currency=row.currency,
            country=row.country,
            locale=row.locale,
            status=StorefrontStatus(row.status),
        )


@strawberry.type(description="A person of the tenant.")
class Member:
    user_id: strawberry.ID
    email: str
    name: str
    role: str


@strawberry.type(description="Who asks: the tenant behind the token and what the token may do.")
class Me:
    id: strawberry.ID
    kind: str
    name: str
    slug: str
    status: str
    country: str
    currency: str
    scopes: list[str]
    token_id: strawberry.ID | None
