"""What a rail that pays by instruction was told.

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0017_rails.sql")


def downgrade() -> None:
    for table in (
        "rail_returns",
        "rail_refunds",
        "rail_instructions",
        "rail_requests",
        "rail_orders",
        "rail_accounts",
    ):
        op.drop_table(table)
