"""What had come of a commission and a bank took back.

Revision ID: 0037
Revises: 0036
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    taken_back = sa.Column("taken_back_minor", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    op.add_column("commission_dues", taken_back)


def downgrade() -> None:
    op.drop_column("commission_dues", "taken_back_minor")
