"""promotion

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from infra.db.migrations.statements import run_sql

revision = "0007"
down_revision = "0006"

_NOW = sa.DateTime(timezone=True)
_TABLES = (
    "commission_reversals", "commission_shares", "commission_lines", "attribution_decisions", "touches",
    "tracked_links", "promoters", "agreement_status_log", "agreement_signatures", "agreement_versions",
    "agreements", "invitations",
)  # fmt: skip


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _agreements()
    _links()
    _commissions()
    run_sql("0007_promotion.sql")


def _agreements() -> None:
    op.create_table(
        "invitations",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("advertiser_id", sa.Uuid, nullable=False),
        sa.Column("promoter_brand_id", sa.Uuid, nullable=False),
        sa.Column("sender_id", sa.Uuid, nullable=False),
        sa.Column("supersedes", sa.Uuid, sa.ForeignKey("invitations.id")),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("terms", JSONB, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("sent_at", _NOW, nullable=False),
        sa.Column("expires_at", _NOW, nullable=False),
        sa.Column("answered_at", _NOW),
        sa.CheckConstraint(
            "status IN ('DRAFT','SENT','ACCEPTED','DECLINED','EXPIRED','WITHDRAWN')", name="known_status"
        ),
        sa.CheckConstraint("advertiser_id <> promoter_brand_id", name="two_brands"),
        sa.CheckConstraint("sender_id IN (advertiser_id, promoter_brand_id)", name="sender_is_a_party"),
    )
    op.create_index("ix_invitations_advertiser_id_id", "invitations", ["advertiser_id", "id"])
    op.create_index("ix_invitations_promoter_brand_id_id", "invitations", ["promoter_brand_id", "id"])
    op.create_table(
        "agreements",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("invitation_id", sa.Uuid, sa.ForeignKey("invitations.id"), nullable=False),
        sa.Column("advertiser_id", sa.Uuid, nullable=False),
        sa.Column("promoter_brand_id", sa.Uuid, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("current_version", sa.Integer, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.CheckConstraint(
            "status IN ('PENDING_SIGNATURE','ACTIVE','PAUSED','ENDED','TERMINATED')", name="known_status"
        ),
        sa.CheckConstraint("advertiser_id <> promoter_brand_id", name="two_brands"),
        sa.UniqueConstraint("invitation_id"),
    )
    op.create_index("ix_agreements_advertiser_id_id", "agreements", ["advertiser_id", "id"])
    op.create_index("ix_agreements_promoter_brand_id_id", "agreements", ["promoter_brand_id", "id"])
    op.create_table(
        "agreement_versions",
        sa.Column("agreement_id", sa.Uuid, sa.ForeignKey("agreements.id"), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("effective_at", _NOW, nullable=False),
        sa.Column("terms", JSONB, nullable=False),
        sa.Column("content_hash", sa.String, nullable=False),
        sa.Column("proposed_by", sa.Uuid, nullable=False),
        sa.Column("proposed_at", _NOW, nullable=False),
        sa.Column("in_force_from", _NOW),
        sa.Column("withdrawn_at", _NOW),
        sa.CheckConstraint("version >= 1", name="sane_version"),
        sa.CheckConstraint("num_nonnulls(in_force_from, withdrawn_at) <= 1", name="one_outcome"),
    )
    op.create_table(
        "agreement_signatures",
        sa.Column("agreement_id", sa.Uuid, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("brand_id", sa.Uuid, primary_key=True),
        sa.Column("content_hash", sa.String, nullable=False),
        sa.Column("signed_by", sa.String, nullable=False),
        sa.Column("signed_at", _NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["agreement_id", "version"], ["agreement_versions.agreement_id", "agreement_versions.version"]
        ),
    )
    op.create_table(
        "agreement_status_log",
        sa.Column("agreement_id", sa.Uuid, sa.ForeignKey("agreements.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("changed_by", sa.String, nullable=False),
        sa.Column("changed_at", _NOW, nullable=False),
    )


def _links() -> None:
    op.create_table(
        "promoters",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("person_keys", ARRAY(sa.String), nullable=False),
        sa.Column("payout_hash", sa.String),
        sa.Column("instrument_hashes", ARRAY(sa.String), nullable=False),
        sa.Column("address_hashes", ARRAY(sa.String), nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.CheckConstraint("kind IN ('koc','kol','staff')", name="known_kind"),
    )
    op.create_index("ix_promoters_brand_id_id", "promoters", ["brand_id", "id"])
    op.create_index("ix_promoters_person_keys", "promoters", ["person_keys"], postgresql_using="gin")
    op.create_table(
        "tracked_links",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("agreement_id", sa.Uuid, sa.ForeignKey("agreements.id")),
        sa.Column("advertiser_id", sa.Uuid, nullable=False),
        sa.Column("promoter_brand_id", sa.Uuid, nullable=False),
        sa.Column("community_id", sa.Uuid, nullable=False),
        sa.Column("placement_id", sa.Uuid, nullable=False),
        sa.Column("promoter_id", sa.Uuid, sa.ForeignKey("promoters.id")),
        sa.Column("product_id", sa.Uuid),
        sa.Column("proposal_id", sa.Uuid),
        sa.Column("destination", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.Column("disabled_at", _NOW),
        sa.Column("expires_at", _NOW),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("code"),
        sa.CheckConstraint("status IN ('ACTIVE','DISABLED','EXPIRED')", name="known_status"),
        sa.CheckConstraint(
            "agreement_id IS NOT NULL OR advertiser_id = promoter_brand_id", name="agreed_or_own"
        ),
    )
    op.create_index("ix_tracked_links_revision", "tracked_links", ["revision"])
    op.create_index("ix_tracked_links_agreement_id", "tracked_links", ["agreement_id"])
    op.create_index("ix_tracked_links_promoter_brand_id_id", "tracked_links", ["promoter_brand_id", "id"])
    op.create_index("ix_tracked_links_advertiser_id_id", "tracked_links", ["advertiser_id", "id"])
    op.create_table(
        "touches",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("link_id", sa.Uuid, nullable=False),
        sa.Column("agreement_id", sa.Uuid),
        sa.Column("advertiser_id", sa.Uuid, nullable=False),
        sa.Column("promoter_brand_id", sa.Uuid, nullable=False),
        sa.Column("at", _NOW, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("session_key", sa.LargeBinary),
        sa.Column("contact_id", sa.Uuid),
        sa.Column("is_bot", sa.Boolean, nullable=False),
        sa.Column("duplicate_of", sa.Uuid),
        sa.Column("ip_prefix_hash", sa.LargeBinary),
        sa.Column("user_agent_hash", sa.LargeBinary),
        sa.Column("referrer_host", sa.String),
        sa.CheckConstraint("kind IN ('click','scan','coupon','lead')", name="known_kind"),
    )
    op.create_index("ix_touches_link_id_at", "touches", ["link_id", "at"])
    op.create_index(
        "ix_touches_session_key_at",
        "touches",
        ["session_key", "at"],
        postgresql_where=sa.text("session_key IS NOT NULL"),
    )
    op.create_index(
        "ix_touches_contact_id_at",
        "touches",
        ["contact_id", "at"],
        postgresql_where=sa.text("contact_id IS NOT NULL"),
    )


def _commissions() -> None:
    op.create_table(
        "attribution_decisions",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("advertiser_id", sa.Uuid, nullable=False),
        sa.Column("promoter_brand_ids", ARRAY(sa.Uuid), nullable=False),
        sa.Column("rule_version", sa.String, nullable=False),
        sa.Column("input", sa.String, nullable=False),
        sa.Column("input_hash", sa.String, nullable=False),
        sa.Column("amounts", sa.String, nullable=False),
        sa.Column("amounts_hash", sa.String, nullable=False),
        sa.Column("result", sa.String, nullable=False),
        sa.Column("result_hash", sa.String, nullable=False),
        sa.Column("decided_at", _NOW, nullable=False),
        sa.UniqueConstraint("order_id"),
    )
    op.create_index(
        "ix_attribution_decisions_advertiser_id_id", "attribution_decisions", ["advertiser_id", "id"]
    )
    op.create_table(
        "commission_lines",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("decision_id", sa.Uuid, sa.ForeignKey("attribution_decisions.id"), nullable=False),
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("order_line_id", sa.Uuid, nullable=False),
        sa.Column("agreement_id", sa.Uuid, sa.ForeignKey("agreements.id"), nullable=False),
        sa.Column("agreement_version", sa.Integer, nullable=False),
        sa.Column("advertiser_id", sa.Uuid, nullable=False),
        sa.Column("promoter_brand_id", sa.Uuid, nullable=False),
        sa.Column("touch_id", sa.Uuid, nullable=False),
        sa.Column("link_id", sa.Uuid, sa.ForeignKey("tracked_links.id"), nullable=False),
        sa.Column("rule_id", sa.String, nullable=False),
        sa.Column("rate_ppm", sa.Integer, nullable=False),
        sa.Column("currency", sa.CHAR(3), nullable=False),
        sa.Column("basis_minor", sa.BigInteger, nullable=False),
        sa.Column("commission_minor", sa.BigInteger, nullable=False),
        sa.Column("refunded_basis_minor", sa.BigInteger, nullable=False),
        sa.Column("reversed_minor", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("return_window_days", sa.Integer, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.UniqueConstraint("order_line_id"),
        sa.CheckConstraint(
            "status IN ('PENDING','CONFIRMED','PAYABLE','PAID','INVALID','REVERSED')", name="known_status"
        ),
        sa.CheckConstraint("refunded_basis_minor BETWEEN 0 AND basis_minor", name="refund_within_basis"),
        sa.CheckConstraint(
            "reversed_minor BETWEEN 0 AND commission_minor", name="reversed_within_commission"
        ),
    )
    op.create_index("ix_commission_lines_order_id", "commission_lines", ["order_id"])
    op.create_index("ix_commission_lines_link_id", "commission_lines", ["link_id"])
    op.create_index("ix_commission_lines_agreement_id_id", "commission_lines", ["agreement_id", "id"])
    op.create_table(
        "commission_shares",
        sa.Column("commission_line_id", sa.Uuid, sa.ForeignKey("commission_lines.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("payee", sa.String, nullable=False),
        sa.Column("touch_id", sa.Uuid, nullable=False),
        sa.Column("earned_minor", sa.BigInteger, nullable=False),
        sa.Column("reversed_minor", sa.BigInteger, nullable=False),
        sa.CheckConstraint("role IN ('individual','promoter_brand','platform')", name="known_role"),
        sa.CheckConstraint("reversed_minor BETWEEN 0 AND earned_minor", name="holds_no_less_than_nothing"),
    )
    op.create_index("ix_commission_shares_payee", "commission_shares", ["payee"])
    op.create_table(
        "commission_reversals",
        sa.Column("refund_id", sa.Uuid, primary_key=True),
        sa.Column("commission_line_id", sa.Uuid, sa.ForeignKey("commission_lines.id"), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("refunded_basis_minor", sa.BigInteger, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("reversed_at", _NOW, nullable=False),
    )


def downgrade() -> None:
    op.execute("DROP POLICY partners_read ON placements")
    op.execute("DROP POLICY partners_read ON communities")
    for table in _TABLES:
        op.drop_table(table)
    op.execute("DROP SEQUENCE link_revision")
    op.execute("DROP FUNCTION keep_version()")
    op.execute("DROP FUNCTION refuse_rewriting()")
    op.execute("DROP PROCEDURE protect_rows_of(regclass, regclass, name)")
    op.execute("DROP PROCEDURE protect_shared_rows(regclass)")
