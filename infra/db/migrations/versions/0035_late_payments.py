"""A payment that came late is sent back until it stays with the customer.

Revision ID: 0035
Revises: 0034
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in ("came_late_at", "give_back_at"):
        op.add_column("payments", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_payments_charge_id", "payments", ["charge_id"])
    op.create_index(
        "ix_payments_give_back",
        "payments",
        ["give_back_at"],
        postgresql_where=sa.text("give_back_at IS NOT NULL"),
    )


def downgrade() -> None:
    for name in ("ix_payments_give_back", "ix_payments_charge_id"):
        op.drop_index(name, table_name="payments")
    for name in ("give_back_at", "came_late_at"):
        op.drop_column("payments", name)
