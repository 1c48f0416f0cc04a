"""Visits that fraud keeps from earning.

Revision ID: 0027
Revises: 0023
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0027"
down_revision = "0023"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0027_excluded_visits.sql")


def downgrade() -> None:
    op.execute("DELETE FROM performance_counted WHERE source = 'exclusions'")
    op.execute("ALTER TABLE performance_counted DROP CONSTRAINT ck_performance_counted_known_source")
    op.execute(
        "ALTER TABLE performance_counted ADD CONSTRAINT ck_performance_counted_known_source"
        " CHECK (source IN ('touches', 'sales'))"
    )
    op.execute("DROP TRIGGER note_change ON excluded_touches")
    op.drop_index("ix_excluded_touches_txid", "excluded_touches")
    op.drop_column("excluded_touches", "txid")
    op.drop_column("link_performance", "excluded_visits")
