"""Orders of outside storefronts: what they were called there, and what was paid there.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0012_external_orders.sql")


def downgrade() -> None:
    for table in ("external_payments", "external_orders"):
        op.drop_table(table)
