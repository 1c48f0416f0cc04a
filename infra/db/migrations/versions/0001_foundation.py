"""Who acts, the outbox, the inbox and idempotency keys.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from infra.db.migrations.statements import run_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0001_foundation.sql")
    now = sa.DateTime(timezone=True)
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("body", JSONB, nullable=False),
        sa.Column("request_id", sa.String, nullable=False, server_default=""),
        sa.Column("recorded_at", now, nullable=False),
        sa.Column("available_at", now, nullable=False),
        sa.Column("published_at", now),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("handled_at", now),
    )
    op.create_index(
        "ix_outbox_unpublished",
        "outbox",
        ["available_at", "id"],
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_index(
        "ix_outbox_unhandled",
        "outbox",
        ["published_at"],
        postgresql_where=sa.text("published_at IS NOT NULL AND handled_at IS NULL"),
    )
    op.create_table(
        "handled_messages",
        sa.Column("message_id", sa.Uuid, primary_key=True),
        sa.Column("handler", sa.String, primary_key=True),
        sa.Column("handled_at", now, nullable=False),
    )
    op.create_table(
        "failed_messages",
        sa.Column("message_id", sa.Uuid, primary_key=True),
        sa.Column("handler", sa.String, primary_key=True),
        sa.Column("error", sa.String, nullable=False),
        sa.Column("failed_at", now, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="1"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("owner", sa.String, primary_key=True),
        sa.Column("operation", sa.String, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("body_hash", sa.String, nullable=False),
        sa.Column("answer", JSONB),
        sa.Column("created_at", now, nullable=False),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO lianyu_app")


def downgrade() -> None:
    for table in ("idempotency_keys", "failed_messages", "handled_messages", "outbox"):
        op.drop_table(table)
    op.execute("DROP PROCEDURE protect_platform_rows(regclass)")
    op.execute("DROP PROCEDURE protect_tenant_rows(regclass, name)")
    op.execute("DROP FUNCTION app_sees_everything()")
    op.execute("DROP FUNCTION app_tenant()")
    op.execute("DROP FUNCTION app_kind()")
