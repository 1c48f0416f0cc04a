"""Codes that belong to a promoter's link, and what was entered of them.

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0019"
down_revision = "0018"

_COLUMNS = ("leaked_since", "exclusive", "promoter_brand_id", "advertiser_id", "link_id")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0019_promoter_codes.sql")


def downgrade() -> None:
    op.drop_table("coupon_entries")
    op.execute("DROP POLICY sides_may_end_it ON coupons")
    op.execute("DROP POLICY sides_of_its_link ON coupons")
    for column in _COLUMNS:
        op.drop_column("coupons", column)
