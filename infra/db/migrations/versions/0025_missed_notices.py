"""Notices that never came are found in the provider's list of events.

Revision ID: 0025
Revises: 0024
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0025_missed_notices.sql")


def downgrade() -> None:
    op.drop_table("provider_event_cursors")
