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
    "return_lines",
    "returns",
    "write_offs",
    "recoveries",
    "settlement_policies",
    "dispute_evidence",
    "dispute_shares",
    "dispute_orders",
    "disputes",
)
REFUND_COLUMNS = (
    "kind", "cause", "reference", "request", "retry_of", "attempt", "tries", "first_sent_at", "next_try_at",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0014_disputes.sql")


def downgrade() -> None:
    # The policy of disputes reads dispute_orders.
    op.execute("DROP POLICY merchants_of_its_orders ON disputes")
    for table in TABLES:
        op.drop_table(table)
    op.drop_column("split_orders", "goodwill_minor")
    op.drop_index("ix_provider_events_due")
    for column in ("account", "tries", "next_try_at", "applied_at", "parked"):
        op.drop_column("provider_events", column)
    for index in (
        "ix_refunds_pending",
        "uq_refunds_order_id_reference",
        "uq_refunds_retry_of",
        "ix_refunds_provider_id",
    ):
        op.drop_index(index)
    for column in REFUND_COLUMNS:
        op.drop_column("refunds", column)
    op.execute("CREATE INDEX ix_refunds_pending ON refunds (created_at) WHERE status = 'pending'")
