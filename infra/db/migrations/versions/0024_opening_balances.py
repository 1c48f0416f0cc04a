"""Reconciliation that begins at a moment, with what the provider held then.

Revision ID: 0024
Revises: 0022
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0024"
down_revision = "0022"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0024_opening_balances.sql")


def downgrade() -> None:
    # The chart keeps its account: entries may name it, and the functions only ask whether a code is known.
    op.drop_table("psp_openings")
    op.drop_column("psp_cursors", "opened_at")
    op.drop_column("psp_cursors", "starts_at")
