"""Products, variants, prices, tax rates and catalogue imports.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from infra.db.migrations.statements import run_sql

revision = "0004"
down_revision = "0003"

_NOW = sa.DateTime(timezone=True)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=False, server_default="")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    _products()
    _variants_and_prices()
    _imports()
    op.create_table(
        "tax_rates",
        sa.Column("country", sa.CHAR(2), primary_key=True),
        sa.Column("category_prefix", sa.String, primary_key=True),
        sa.Column("rate_ppm", sa.Integer, nullable=False),
        sa.Column("included", sa.Boolean, nullable=False),
        sa.CheckConstraint("rate_ppm BETWEEN 0 AND 1000000", name="rate_ppm"),
    )
    run_sql("0004_catalog.sql")


def _products() -> None:
    op.create_table(
        "products",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("handle", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        _text("title_zh"),
        _text("title_en"),
        _text("description_zh"),
        _text("description_en"),
        _text("category"),
        sa.Column("tags", ARRAY(sa.String), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("media", JSONB, nullable=False, server_default=sa.text("'[]'")),
        sa.Column("attributes", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("created_at", _NOW, nullable=False),
        sa.Column("updated_at", _NOW, nullable=False),
        sa.UniqueConstraint("brand_id", "handle", name="uq_products_brand_id_handle"),
        sa.CheckConstraint("status IN ('draft', 'published', 'archived')", name="status"),
        sa.CheckConstraint("version > 0", name="version"),
    )
    op.create_index("ix_products_brand_id_id", "products", ["brand_id", "id"])


def _variants_and_prices() -> None:
    op.create_table(
        "variants",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("product_id", sa.Uuid, nullable=False),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("sku", sa.String, nullable=False),
        sa.Column("gtin", sa.String),
        _text("title"),
        sa.Column("options", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("weight_g", sa.Integer, nullable=False, server_default="0"),
        sa.Column("position", sa.Integer, nullable=False, server_default="0"),
        sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("created_at", _NOW, nullable=False),
        sa.ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_variants_product_id_products"),
        sa.UniqueConstraint("brand_id", "sku", name="uq_variants_brand_id_sku"),
        sa.CheckConstraint("weight_g >= 0", name="weight_g"),
    )
    op.create_index("ix_variants_product_id_position_id", "variants", ["product_id", "position", "id"])
    op.create_table(
        "prices",
        sa.Column("variant_id", sa.Uuid, primary_key=True),
        sa.Column("currency", sa.CHAR(3), primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("amount_minor", sa.BigInteger, nullable=False),
        sa.Column("compare_at_minor", sa.BigInteger),
        sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("updated_at", _NOW, nullable=False),
        sa.ForeignKeyConstraint(["variant_id"], ["variants.id"], name="fk_prices_variant_id_variants"),
        sa.CheckConstraint("amount_minor > 0", name="amount_minor"),
        sa.CheckConstraint("compare_at_minor > amount_minor", name="compare_at_minor"),
    )


def _imports() -> None:
    op.create_table(
        "imports",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("format", sa.String, nullable=False),
        sa.Column("policy", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("rows_read", sa.Integer, nullable=False),
        sa.Column("rows_failed", sa.Integer, nullable=False),
        sa.Column("products_created", sa.Integer, nullable=False),
        sa.Column("products_changed", sa.Integer, nullable=False),
        sa.Column("products_unchanged", sa.Integer, nullable=False),
        sa.Column("created_at", _NOW, nullable=False),
        sa.CheckConstraint("format IN ('csv', 'jsonl')", name="format"),
        sa.CheckConstraint(
            "policy IN ('reject_everything', 'reject_failed_rows', 'ignore_failed')", name="policy"
        ),
        sa.CheckConstraint("status IN ('done', 'rejected')", name="status"),
    )
    op.create_index("ix_imports_brand_id_id", "imports", ["brand_id", "id"])
    op.create_table(
        "import_errors",
        sa.Column("import_id", sa.Uuid, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("brand_id", sa.Uuid, nullable=False),
        sa.Column("row", sa.Integer, nullable=False),
        sa.Column("sku", sa.String, nullable=False),
        sa.Column("field", sa.String, nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("message", sa.String, nullable=False),
        sa.ForeignKeyConstraint(["import_id"], ["imports.id"], name="fk_import_errors_import_id_imports"),
    )


def downgrade() -> None:
    for table in ("import_errors", "imports", "tax_rates", "prices", "variants", "products"):
        op.drop_table(table)
    for function in ("list_new_price", "list_new_variant", "list_with_product"):
        op.execute(f"DROP FUNCTION {function}()")
