"""Settlement cycles, and what commission settlement keeps.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0015_statements.sql")


def downgrade() -> None:
    for table in ("statement_contests", "commission_counters", "bank_payouts", "settlement_terms"):
        op.drop_table(table)
    for column in (
        "counters", "expected_pay_at", "confirmed_at", "confirmed_txid", "payable_at", "paid_at",
        "invalid_reason",
    ):  # fmt: skip
        op.drop_column("commission_lines", column)
