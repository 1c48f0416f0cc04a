"""Orders of a brand's own checkout.

Revision ID: 0029
Revises: 0028
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0029"
down_revision = "0028"

_TABLES = (
    "debt_payments", "commission_dues", "lead_matches", "told_events", "told_orders", "signing_secrets",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0029_own_checkout.sql")


def downgrade() -> None:
    # The chart keeps its account and the columns stay loose: rows may need both.
    for table in _TABLES:
        op.drop_table(table)
