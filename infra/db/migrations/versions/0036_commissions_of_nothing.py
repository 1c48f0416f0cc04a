"""Commission lines with nothing to pay are found by an index, so that they end.

Revision ID: 0036
Revises: 0035
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
_EMPTIED = (
    "status IN ('PENDING', 'CONFIRMED', 'PAYABLE')"
    " AND (commission_minor = 0 OR reversed_minor + denied_minor > 0)"
)


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    op.create_index(
        "ix_commission_lines_emptied",
        "commission_lines",
        ["expected_pay_at"],
        postgresql_where=sa.text(_EMPTIED),
    )


def downgrade() -> None:
    op.drop_index("ix_commission_lines_emptied", "commission_lines")
