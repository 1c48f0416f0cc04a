"""What retroactive tiers owed for earlier orders, at the order that reached them and in its link's figures.

Revision ID: 0031
Revises: 0030
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
_TABLES = ("commission_lines", "link_performance")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in _TABLES:
        op.add_column(
            table, sa.Column("adjustment_minor", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
        )


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "adjustment_minor")
