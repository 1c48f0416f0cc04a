"""Disputes, returns, recovery, and what refunds and notices of the provider need besides.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0014"
down_revision = "0013"

TABLES = (
    "write_offs",
    "recoveries",
    "settlement_policies",
    "dispute_evidence",
    "dispute_shares",
    "dispute_orders",
    "disputes",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0014_disputes.sql")


def downgrade() -> None:
    # The policy of disputes reads dispute_orders.
    op.execute("DROP POLICY merchants_of_its_orders ON disputes")
    for table in TABLES:
        op.drop_table(table)
    op.drop_column("split_orders", "goodwill_minor")
