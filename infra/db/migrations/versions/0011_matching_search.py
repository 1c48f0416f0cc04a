"""The search index in PostgreSQL, and matching.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

from infra.db.migrations.statements import run_sql

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _search()
    _matching()


def _search() -> None:
    op.create_table(
        "search_generations",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("status", sa.String, nullable=False),
        sa.CheckConstraint("status IN ('live', 'building')", name="status"),
    )
    # One generation is searched and at most one is being built.
    op.create_index("uq_search_generations_status", "search_generations", ["status"], unique=True)
    op.create_table(
        "search_documents",
        sa.Column("generation", sa.Integer, primary_key=True),
        sa.Column("product_id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("title_zh", sa.String, nullable=False),
        sa.Column("title_en", sa.String, nullable=False),
        sa.Column("categories", ARRAY(sa.String), nullable=False),
        sa.Column("tags", ARRAY(sa.String), nullable=False),
        sa.Column("skus", ARRAY(sa.String), nullable=False),
        sa.Column("prices", JSONB, nullable=False),
        sa.Column("in_stock", sa.Boolean, nullable=False),
        sa.Column("popularity", sa.Integer, nullable=False),
        sa.Column("tokens", TSVECTOR, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_search_documents_generation_brand_id", "search_documents", ["generation", "brand_id"])
    op.create_index("ix_search_documents_tokens", "search_documents", ["tokens"], postgresql_using="gin")
    op.execute("CREATE SEQUENCE search_document_versions")
    run_sql("0011_search.sql")


def _matching() -> None:
    now = sa.DateTime(timezone=True)
    op.create_table(
        "purchase_facts",
        sa.Column("order_line_id", sa.Uuid, primary_key=True),
        sa.Column("order_id", sa.Uuid, nullable=False),
        sa.Column("merchant_id", sa.Uuid, nullable=False),
        sa.Column("seller_id", sa.Uuid, nullable=False),
        sa.Column("community_id", sa.Uuid),
        sa.Column("buyer", sa.String, nullable=False),
        sa.Column("product_id", sa.Uuid, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
        sa.Column("bought_at", now, nullable=False),
        sa.CheckConstraint("quantity > 0", name="sane_quantity"),
    )
    for columns in (
        ["community_id", "product_id"],
        ["merchant_id", "product_id"],
        ["seller_id", "product_id"],
    ):
        op.create_index(f"ix_purchase_facts_{'_'.join(columns)}", "purchase_facts", columns)
    op.create_index("ix_purchase_facts_buyer", "purchase_facts", ["buyer"])
    op.create_table(
        "proposals",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("direction", sa.String, nullable=False),
        sa.Column("community_id", sa.Uuid, nullable=False),
        sa.Column("community_brand_id", sa.Uuid, nullable=False),
        sa.Column("product_id", sa.Uuid, nullable=False),
        sa.Column("product_brand_id", sa.Uuid, nullable=False),
        sa.Column("agreement_id", sa.Uuid),
        sa.Column("lane", sa.String, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("propensity_ppm", sa.Integer, nullable=False),
        sa.Column("score_ppm", sa.BigInteger, nullable=False),
        sa.Column("parts", JSONB, nullable=False),
        sa.Column("proposed_at", now, nullable=False),
        sa.CheckConstraint(
            "direction IN ('products_for_community','communities_for_product')", name="known_direction"
        ),
        sa.CheckConstraint("lane IN ('repeat','discover')", name="known_lane"),
    )
    op.create_index("ix_proposals_brand_id_id", "proposals", ["brand_id", "id"])
    # A sale is known to the brand whose product it was and to the brand that sold it.
    op.execute("ALTER TABLE purchase_facts ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY both_parties ON purchase_facts USING (merchant_id = (SELECT app_tenant())"
        " OR seller_id = (SELECT app_tenant()) OR (SELECT app_sees_everything()))"
    )
    op.execute("CALL protect_tenant_rows('proposals'::regclass, 'brand_id')")


def downgrade() -> None:
    op.drop_table("proposals")
    op.drop_table("purchase_facts")
    op.execute("DROP SEQUENCE search_document_versions")
    op.drop_table("search_documents")
    op.drop_table("search_generations")
