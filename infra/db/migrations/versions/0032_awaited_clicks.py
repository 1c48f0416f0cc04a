"""Which credited sales were won by a click that had not come home from the edge's spool.

Revision ID: 0032
Revises: 0031
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    awaited: sa.Column[bool] = sa.Column(
        "click_awaited", sa.Boolean(), nullable=False, server_default=sa.text("false")
    )
    op.add_column("credited_sales", awaited)
    op.create_index(
        "ix_credited_sales_click_awaited",
        "credited_sales",
        ["paid_at"],
        postgresql_where=sa.text("click_awaited"),
    )


def downgrade() -> None:
    op.drop_index("ix_credited_sales_click_awaited", "credited_sales")
    op.drop_column("credited_sales", "click_awaited")
