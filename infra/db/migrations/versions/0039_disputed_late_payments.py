"""What a lost dispute brought a customer that was owed it; indexes of charges, denials and slots that are looked up by.

Revision ID: 0039
Revises: 0038
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column("disputes", sa.Column("owed_minor", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_debt_payments_charge_id", "debt_payments", ["charge_id"])
    op.create_index("ix_denied_shares_order_id", "denied_shares", ["order_id"])
    op.create_index("ix_tracked_links_placement_id", "tracked_links", ["placement_id"])


def downgrade() -> None:
    op.drop_index("ix_tracked_links_placement_id", table_name="tracked_links")
    op.drop_index("ix_denied_shares_order_id", table_name="denied_shares")
    op.drop_index("ix_debt_payments_charge_id", table_name="debt_payments")
    op.drop_column("disputes", "owed_minor")
