"""Buyers of a brand's own checkout, as a partner that holds members out would know them.

Revision ID: 0038
Revises: 0037
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0038_told_buyers.sql")


def downgrade() -> None:
    op.drop_table("told_buyers")
    op.drop_column("holdout_results", "comparable_ppm")
