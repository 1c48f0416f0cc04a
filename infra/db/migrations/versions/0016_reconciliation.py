"""The provider's book beside ours, the platform's payouts, fee policies and coupons.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0016"
down_revision = "0015"

_TABLES = (
    "psp_txn", "psp_postings", "psp_cursors", "reconciliation_runs", "platform_payouts",
    "processing_fee_policies", "currency_rates", "coupon_redemptions", "coupons",
    "payout_costs",
)  # fmt: skip
_COLUMNS = {
    "provider_charges": ("settled_currency", "ask_again_at", "asked"),
    "carts": ("coupon_code",),
    "checkouts": ("discount_minor",),
    "orders": ("discount_minor",),
    "order_lines": ("discount_funder",),
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0016_reconciliation.sql")


def downgrade() -> None:
    for table, columns in _COLUMNS.items():
        for column in columns:
            op.drop_column(table, column)
    for table in _TABLES:
        op.drop_table(table)
