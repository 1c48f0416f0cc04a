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
    pass


def downgrade() -> None:
    op.execute("DROP SEQUENCE search_document_versions")
    op.drop_table("search_documents")
    op.drop_table("search_generations")
