"""Tenants, their people, tokens, profiles and storefronts.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

from infra.db.migrations.statements import run_sql

revision = "0003"
down_revision = "0002"

_NOW = sa.DateTime(timezone=True)
_TEXTS = ARRAY(sa.String)
_NONE = sa.text("'{}'")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_table(
        "tenants",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("slug", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("country", sa.CHAR(2), nullable=False),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.UniqueConstraint("slug", name="uq_tenants_slug"),
        sa.CheckConstraint("kind IN ('brand', 'supplier', 'platform')", name="kind"),
        sa.CheckConstraint("status IN ('active', 'suspended', 'closed')", name="status"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("email", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.UniqueConstraint("email", name="uq_users_email"),
    )
    op.create_table(
        "memberships",
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("role", sa.String, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_memberships_user_id_users"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_memberships_tenant_id_tenants"),
        sa.CheckConstraint(
            "role IN ('owner', 'marketing', 'sales', 'service', 'finance', 'developer', 'read_only')",
            name="role",
        ),
    )
    op.create_index("ix_memberships_tenant_id", "memberships", ["tenant_id"])
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("token_hash", sa.LargeBinary, nullable=False),
        sa.Column("shown_prefix", sa.String, nullable=False),
        sa.Column("scopes", _TEXTS, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.Column("expires_at", _NOW),
        sa.Column("last_used_at", _NOW),
        sa.Column("revoked_at", _NOW),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_api_tokens_tenant_id_tenants"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_tokens_user_id_users"),
        sa.UniqueConstraint("token_hash", name="uq_api_tokens_token_hash"),
        sa.CheckConstraint("octet_length(token_hash) = 32", name="token_hash"),
    )
    op.create_index("ix_api_tokens_tenant_id", "api_tokens", ["tenant_id"])
    op.create_table(
        "brand_profiles",
        sa.Column("brand_id", sa.Uuid, primary_key=True),
        sa.Column("name_zh", sa.String, nullable=False, server_default=""),
        sa.Column("name_en", sa.String, nullable=False, server_default=""),
        sa.Column("description", sa.String, nullable=False, server_default=""),
        sa.Column("categories", _TEXTS, nullable=False, server_default=_NONE),
        sa.Column("regions", _TEXTS, nullable=False, server_default=_NONE),
        sa.Column("discoverable", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("updated_at", _NOW, nullable=False),
        sa.ForeignKeyConstraint(["brand_id"], ["tenants.id"], name="fk_brand_profiles_brand_id_tenants"),
    )
    op.create_index(
        "ix_brand_profiles_discoverable",
        "brand_profiles",
        ["brand_id"],
        postgresql_where=sa.text("discoverable"),
    )
    op.create_table(
        "storefronts",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("publishable_key", sa.String, nullable=False),
        sa.Column("channel", sa.String, nullable=False),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("country", sa.CHAR(2), nullable=False),
        sa.Column("locale", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.ForeignKeyConstraint(["brand_id"], ["tenants.id"], name="fk_storefronts_brand_id_tenants"),
        sa.UniqueConstraint("publishable_key", name="uq_storefronts_publishable_key"),
        sa.CheckConstraint("channel IN ('mini_program', 'web', 'app', 'live', 'store')", name="channel"),
        sa.CheckConstraint("status IN ('active', 'paused')", name="status"),
    )
    op.create_index("ix_storefronts_brand_id", "storefronts", ["brand_id"])
    run_sql("0003_brands.sql")


def downgrade() -> None:
    for function in ("tenant_names(uuid[])", "storefront_by_key(text)", "token_by_hash(bytea)"):
        op.execute(f"DROP FUNCTION {function}")
    op.execute("DROP POLICY discoverable ON tenants")
    op.execute("DROP POLICY fellow_members ON users")
    for table in ("storefronts", "brand_profiles", "api_tokens", "memberships", "users", "tenants"):
        op.drop_table(table)
