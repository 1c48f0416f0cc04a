"""Units of a return that went back on the shelf.

Revision ID: 0020
Revises: 0019
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0020_returned_stock.sql")


def downgrade() -> None:
    op.drop_constraint("ck_return_lines_restocked", "return_lines")
    op.drop_column("return_lines", "restocked")
