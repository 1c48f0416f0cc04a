"""Who buys for the first time is asked at every payment: a buyer's orders are found by an index.

Revision ID: 0033
Revises: 0032
"""

from __future__ import annotations

from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index("ix_orders_buyer_key", "orders", ["buyer_key"])


def downgrade() -> None:
    op.drop_index("ix_orders_buyer_key", "orders")
