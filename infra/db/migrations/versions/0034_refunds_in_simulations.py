"""What refunds take of commissions, in simulations too.

Revision ID: 0034
Revises: 0033
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
_COLUMNS = ("before_reversed_minor", "after_reversed_minor")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for name in _COLUMNS:
        sums = sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))
        op.add_column("offer_simulation_payees", sums)


def downgrade() -> None:
    for name in _COLUMNS:
        op.drop_column("offer_simulation_payees", name)
