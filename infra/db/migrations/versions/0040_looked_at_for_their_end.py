"""When a commission line is looked at for its end is apart from when its payment is expected.

Revision ID: 0040
Revises: 0039
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"
_INDEX, _TABLE = "ix_commission_lines_emptied", "commission_lines"
_EMPTIED = sa.text(
    "status IN ('PENDING', 'CONFIRMED', 'PAYABLE')"
    " AND (commission_minor = 0 OR reversed_minor + denied_minor > 0)"
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.add_column(_TABLE, sa.Column("next_look_at", sa.DateTime(timezone=True), nullable=True))
    op.drop_index(_INDEX, _TABLE)
    looked_at = sa.text("coalesce(next_look_at, expected_pay_at)")
    op.create_index(_INDEX, _TABLE, [looked_at], postgresql_where=_EMPTIED)


def downgrade() -> None:
    op.drop_index(_INDEX, _TABLE)
    op.create_index(_INDEX, _TABLE, ["expected_pay_at"], postgresql_where=_EMPTIED)
    op.drop_column(_TABLE, "next_look_at")
