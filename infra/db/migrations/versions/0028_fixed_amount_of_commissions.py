"""The amount a piece that a commission line earns, where its rule says one.

Revision ID: 0028
Revises: 0027
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("commission_lines", sa.Column("fixed_minor", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("commission_lines", "fixed_minor")
