"""Fraud signals, holds of commissions, disputes of them.

Revision ID: 0022
Revises: 0021
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0022"
down_revision = "0021"

_TABLES = (
    "commission_disputes", "commission_holds", "excluded_touches", "fraud_signals",
    "fraud_progress", "click_days", "credited_sales", "commission_denials", "denied_shares", "release_holds",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0022_fraud.sql")


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
    op.execute("DROP PROCEDURE show_to_both_parties(regclass)")
    op.drop_column("touches", "ad_parameters")
    op.drop_index("ix_commission_shares_touch_id", "commission_shares")
    op.drop_column("commission_shares", "denied_minor")
    op.drop_column("commission_lines", "denied_minor")
