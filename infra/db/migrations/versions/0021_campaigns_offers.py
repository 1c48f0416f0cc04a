"""Campaigns with budgets, versioned offers, drafts of invitations, notice at the end of agreements.

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

from alembic import op

from infra.db.migrations.statements import run_sql

revision = "0021"
down_revision = "0020"

_PROVENANCE = ("campaign_id", "offer_id", "offer_version")
_TABLES = (
    "offer_versions", "offer_drafts", "offers", "budget_reservations", "campaign_budgets", "campaign_status_log",
    "campaigns",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    run_sql("0021_campaigns_offers.sql")


def downgrade() -> None:
    op.execute("DROP POLICY partners_read ON campaigns")
    op.execute("DROP POLICY offered_to_me ON offers")
    op.execute("DROP POLICY both_parties ON invitations")
    op.execute("DELETE FROM invitations WHERE sent_at IS NULL")
    op.execute("ALTER TABLE invitations DROP CONSTRAINT ck_invitations_sent_unless_a_draft")
    for table in ("invitations", "agreements"):
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT ck_{table}_offer_of_a_campaign")
        for column in _PROVENANCE:
            op.drop_column(table, column)
    op.drop_column("agreement_versions", "offer_version")
    op.drop_column("agreements", "ends_at")
    op.drop_column("agreements", "ended_by")
    op.drop_column("agreements", "end_reason")
    op.alter_column("invitations", "sent_at", nullable=False)
    op.alter_column("invitations", "expires_at", nullable=False)
    op.execute(
        "CREATE POLICY both_parties ON invitations USING (advertiser_id = (SELECT app_tenant())"
        " OR promoter_brand_id = (SELECT app_tenant()) OR (SELECT app_sees_everything()))"
    )
    for table in _TABLES:
        op.drop_table(table)
    op.execute("DROP PROCEDURE protect_advertisers_rows(regclass)")
    op.execute("DROP FUNCTION keep_published_offer()")
    op.execute("DROP FUNCTION keep_campaign()")
