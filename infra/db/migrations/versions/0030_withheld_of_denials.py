"""What a denial's undoing withheld, refund by refund.

Revision ID: 0030
Revises: 0029
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    empty = sa.text("'[]'::jsonb")
    op.add_column("denied_shares", sa.Column("withheld", JSONB, nullable=False, server_default=empty))


def downgrade() -> None:
    op.drop_column("denied_shares", "withheld")
