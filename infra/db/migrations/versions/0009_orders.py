"""Carts, checkouts, orders, payments and refunds.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0009"
down_revision = "0008"

TABLES = (
    "provider_events",
    "refunds",
    "payments",
    "order_lines",
    "orders",
    "checkouts",
    "cart_lines",
    "carts",
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0009_orders.sql")


def downgrade() -> None:
    for table in TABLES:
        op.drop_table(table)
