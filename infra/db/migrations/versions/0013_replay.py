"""How far a replay of recorded orders has come.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0013_replay.sql")


def downgrade() -> None:
    for table in ("replay_files", "replay_progress"):
        op.drop_table(table)
