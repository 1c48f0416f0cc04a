"""Settlement: splits, refunds, payees, payouts, statements.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0010_settlement.sql")


def downgrade() -> None:
    for table in (
        "statements",
        "payouts",
        "payout_batches",
        "payees",
        "provider_charges",
        "split_refunds",
        "split_parts",
        "split_lines",
        "split_orders",
    ):
        op.drop_table(table)
