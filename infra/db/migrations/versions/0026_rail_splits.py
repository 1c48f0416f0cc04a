"""The split of an order on a sharing rail, so that its refunds can be composed.

Revision ID: 0026
Revises: 0025
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0026_rail_splits.sql")


def downgrade() -> None:
    op.drop_column("rail_instructions", "currency")
    op.drop_column("rail_refunds", "changes")
    op.drop_column("rail_refunds", "request_hash")
    op.drop_column("rail_orders", "split")
