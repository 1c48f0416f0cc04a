"""What links bring by day, past orders under other terms, and what showing things brings.

Revision ID: 0023
Revises: 0026
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0023"
down_revision = "0026"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0023_insights.sql")


def downgrade() -> None:
    op.drop_table("holdout_results")
    op.drop_table("holdouts")
    op.drop_table("offer_simulation_payees")
    op.drop_table("offer_simulations")
    op.drop_index("ix_attribution_decisions_advertiser_id_decided_at", "attribution_decisions")
    op.execute("DROP POLICY sides_read ON qr_assets")
    op.drop_table("performance_counted")
    op.drop_table("link_performance")
    op.drop_index("ix_commission_shares_link_id", "commission_shares")
    op.drop_column("commission_shares", "link_id")
    op.execute("DROP TRIGGER note_change ON commission_lines")
    op.execute("DROP FUNCTION note_change()")
    op.drop_index("ix_commission_lines_link_id_sold_at", "commission_lines")
    op.create_index("ix_commission_lines_link_id", "commission_lines", ["link_id"])
    op.drop_index("ix_commission_lines_txid", "commission_lines")
    for column in ("opens_order", "new_customer", "gross_minor", "sold_at", "txid"):
        op.drop_column("commission_lines", column)
    op.drop_index("ix_touches_txid", "touches")
    op.drop_column("touches", "txid")
