"""Partner directory, deep links, QR batches, touches told by servers.

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0018"
down_revision = "0017"

_TABLES = (
    "touch_events", "qr_assets", "qr_batches", "deep_links", "partner_records", "partner_profiles",
    "partner_listings",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0018_partners.sql")


def downgrade() -> None:
    op.execute("DROP TRIGGER hide_inactive_partner ON tenants")
    for table in _TABLES:
        op.drop_table(table)
    op.execute("DROP FUNCTION hide_inactive_partner()")
    op.drop_index("ix_touches_at", "touches")
    op.drop_index("ix_commission_lines_created_at", "commission_lines")
    op.drop_index("ix_tracked_links_expires_at", "tracked_links")
    op.drop_column("tracked_links", "in_app_destination")
