from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import CHAR
from sqlmodel import Field

from core.ids import BrandId, SigningSecretId, StorefrontId, TenantId, TokenId, UserId
from infra.db.base import Row, currency_field, id_field, utc_field


class TenantKind(StrEnum):
    BRAND = "brand"
    SUPPLIER = "supplier"
    PLATFORM = "platform"


class TenantStatus(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class StorefrontChannel(StrEnum):
    MINI_PROGRAM = "mini_program"
    WEB = "web"
    APP = "app"
    LIVE = "live"
    STORE = "store"


class StorefrontStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


class Tenant(Row, table=True):
    """Whoever owns rows. A brand's and a supplier's id is its tenant id."""

    __tablename__ = "tenants"
    __table_args__ = (
        UniqueConstraint("slug", name="uq_tenants_slug"),
        CheckConstraint("kind IN ('brand', 'supplier', 'platform')", name="kind"),
        CheckConstraint("status IN ('active', 'suspended', 'closed')", name="status"),
    )

    id: TenantId = id_field(TenantId, primary_key=True)
    kind: TenantKind = Field(sa_type=String)
    name: str
    slug: str
    status: TenantStatus = Field(sa_type=String)
    country: str = Field(sa_type=CHAR(2))
    currency: str = currency_field()
    created_at: datetime = utc_field()


class User(Row, table=True):
    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("email", name="uq_users_email"),)

    id: UserId = id_field(UserId, primary_key=True)
    email: str
    name: str
    created_at: datetime = utc_field()


class Membership(Row, table=True):
    __tablename__ = "memberships"
    __table_args__ = (
        ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_memberships_user_id_users"),
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_memberships_tenant_id_tenants"),
        Index("ix_memberships_tenant_id", "tenant_id"),
        CheckConstraint(
            "role IN ('owner', 'marketing', 'sales', 'service', 'finance', 'developer', 'read_only')",
            name="role",
        ),
    )

    user_id: UserId = id_field(UserId, primary_key=True)
    tenant_id: TenantId = id_field(TenantId, primary_key=True)
    role: str


class ApiToken(Row, table=True):
    """A secret of a tenant, kept only as the SHA-256 of its 238 random bits."""

    __tablename__ = "api_tokens"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_api_tokens_tenant_id_tenants"),
        ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_tokens_user_id_users"),
        UniqueConstraint("token_hash", name="uq_api_tokens_token_hash"),
        Index("ix_api_tokens_tenant_id", "tenant_id"),
        CheckConstraint("octet_length(token_hash) = 32", name="token_hash"),
    )

    id: TokenId = id_field(TokenId, primary_key=True)
    tenant_id: TenantId = id_field(TenantId)
    user_id: UserId | None = id_field(UserId, nullable=True)
    name: str
    token_hash: bytes = Field(sa_type=LargeBinary)
    shown_prefix: str
    scopes: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    created_at: datetime = utc_field()
    expires_at: datetime | None = utc_field(nullable=True)
    last_used_at: datetime | None = utc_field(nullable=True)
    revoked_at: datetime | None = utc_field(nullable=True)


class BrandProfile(Row, table=True):
    """What a brand tells possible partners. Only a discoverable one is seen by others."""

    __tablename__ = "brand_profiles"
    __table_args__ = (
        ForeignKeyConstraint(["brand_id"], ["tenants.id"], name="fk_brand_profiles_brand_id_tenants"),
        Index("ix_brand_profiles_discoverable", "brand_id", postgresql_where=text("discoverable")),
    )

    brand_id: BrandId = id_field(BrandId, primary_key=True)
    name_zh: str = ""
    name_en: str = ""
    description: str = ""
    categories: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    regions: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    discoverable: bool = False
    updated_at: datetime = utc_field()


class Storefront(Row, table=True):
    """A mini-program or shop site of a brand. Its key is public: it opens only what a shopper may see."""

    __tablename__ = "storefronts"
    __table_args__ = (
        ForeignKeyConstraint(["brand_id"], ["tenants.id"], name="fk_storefronts_brand_id_tenants"),
        UniqueConstraint("publishable_key", name="uq_storefronts_publishable_key"),
        Index("ix_storefronts_brand_id", "brand_id"),
        CheckConstraint("channel IN ('mini_program', 'web', 'app', 'live', 'store')", name="channel"),
        CheckConstraint("status IN ('active', 'paused')", name="status"),
    )

    id: StorefrontId = id_field(StorefrontId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    name: str
    publishable_key: str
    channel: StorefrontChannel = Field(sa_type=String)
    currency: str = currency_field()
    country: str = Field(sa_type=CHAR(2))
    locale: str
    status: StorefrontStatus = Field(sa_type=String)
    created_at: datetime = utc_field()


class SigningSecret(Row, table=True):
    """What a storefront signs its messages with. ``sealed`` opens only with the platform's own secret."""

    __tablename__ = "signing_secrets"
    __table_args__ = (
        ForeignKeyConstraint(
            ["storefront_id"], ["storefronts.id"], name="fk_signing_secrets_storefront_id_storefronts"
        ),
        Index("ix_signing_secrets_storefront_id", "storefront_id"),
    )

    id: SigningSecretId = id_field(SigningSecretId, primary_key=True)
    storefront_id: StorefrontId = id_field(StorefrontId)
    brand_id: BrandId = id_field(BrandId)
    sealed: bytes = Field(sa_type=LargeBinary)
    created_at: datetime = utc_field()
    valid_until: datetime | None = utc_field(nullable=True, default=None)
    """Set when another one took its place."""
    revoked_at: datetime | None = utc_field(nullable=True, default=None)
