from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import CHAR
from sqlmodel import Field

from core.ids import BrandId, ImportId, ProductId, VariantId
from infra.db.base import Row, currency_field, id_field, minor_field, utc_field


class ProductStatus(StrEnum):
    DRAFT = "draft"
    PUBLISHED = "published"
    ARCHIVED = "archived"


class ImportFormat(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


class ErrorPolicy(StrEnum):
    REJECT_EVERYTHING = "reject_everything"
    """One bad row and nothing is taken."""
    REJECT_FAILED_ROWS = "reject_failed_rows"
    """Good rows are taken, a row with any error is not."""
    IGNORE_FAILED = "ignore_failed"
    """A row is taken without its bad fields; only a row that means nothing without them is not."""


class ImportStatus(StrEnum):
    DONE = "done"
    REJECTED = "rejected"


class Product(Row, table=True):
    """``version`` grows with every change of the product, its variants or their prices."""

    __tablename__ = "products"
    __table_args__ = (
        UniqueConstraint("brand_id", "handle", name="uq_products_brand_id_handle"),
        Index("ix_products_brand_id_id", "brand_id", "id"),
        CheckConstraint("status IN ('draft', 'published', 'archived')", name="status"),
        CheckConstraint("version > 0", name="version"),
    )

    id: ProductId = id_field(ProductId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    handle: str
    status: ProductStatus = Field(sa_type=String)
    title_zh: str = ""
    title_en: str = ""
    description_zh: str = ""
    description_en: str = ""
    category: str = ""
    tags: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    media: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    attributes: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    version: int = 1
    created_at: datetime = utc_field()
    updated_at: datetime = utc_field()


class Variant(Row, table=True):
    """What is sold and stocked. ``listed`` follows the product's status by a trigger (migration 0004)."""

    __tablename__ = "variants"
    __table_args__ = (
        ForeignKeyConstraint(["product_id"], ["products.id"], name="fk_variants_product_id_products"),
        UniqueConstraint("brand_id", "sku", name="uq_variants_brand_id_sku"),
        Index("ix_variants_product_id_position_id", "product_id", "position", "id"),
        CheckConstraint("weight_g >= 0", name="weight_g"),
    )

    id: VariantId = id_field(VariantId, primary_key=True)
    product_id: ProductId = id_field(ProductId)
    brand_id: BrandId = id_field(BrandId)
    sku: str
    gtin: str | None = Field(default=None, nullable=True)
    title: str = ""
    options: dict[str, str] = Field(sa_column=Column(JSONB, nullable=False))
    weight_g: int = 0
    position: int = 0
    listed: bool = False
    created_at: datetime = utc_field()


class Price(Row, table=True):
    """What one piece costs, tax included or not as the country's rate says."""

    __tablename__ = "prices"
    __table_args__ = (
        ForeignKeyConstraint(["variant_id"], ["variants.id"], name="fk_prices_variant_id_variants"),
        CheckConstraint("amount_minor > 0", name="amount_minor"),
        CheckConstraint("compare_at_minor > amount_minor", name="compare_at_minor"),
    )

    variant_id: VariantId = id_field(VariantId, primary_key=True)
    currency: str = currency_field(primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    amount_minor: int = minor_field()
    compare_at_minor: int | None = minor_field(nullable=True)
    listed: bool = False
    updated_at: datetime = utc_field()


class TaxRateRow(Row, table=True):
    """The rate on goods sold to a country; the longest ``category_prefix`` wins, '' is the standard rate."""

    __tablename__ = "tax_rates"
    __table_args__ = (CheckConstraint("rate_ppm BETWEEN 0 AND 1000000", name="rate_ppm"),)

    country: str = Field(sa_type=CHAR(2), primary_key=True)
    category_prefix: str = Field(primary_key=True)
    rate_ppm: int
    included: bool


class CatalogImport(Row, table=True):
    __tablename__ = "imports"
    __table_args__ = (
        Index("ix_imports_brand_id_id", "brand_id", "id"),
        CheckConstraint("format IN ('csv', 'jsonl')", name="format"),
        CheckConstraint(
            "policy IN ('reject_everything', 'reject_failed_rows', 'ignore_failed')", name="policy"
        ),
        CheckConstraint("status IN ('done', 'rejected')", name="status"),
    )

    id: ImportId = id_field(ImportId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    format: ImportFormat = Field(sa_type=String)
    policy: ErrorPolicy = Field(sa_type=String)
    status: ImportStatus = Field(sa_type=String)
    rows_read: int
    rows_failed: int
    products_created: int
    products_changed: int
    products_unchanged: int
    created_at: datetime = utc_field()


class ImportComplaint(Row, table=True):
    """One thing wrong with one row of a file."""

    __tablename__ = "import_errors"
    __table_args__ = (
        ForeignKeyConstraint(["import_id"], ["imports.id"], name="fk_import_errors_import_id_imports"),
    )

    import_id: ImportId = id_field(ImportId, primary_key=True)
    number: int = Field(primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    row: int
    sku: str
    field: str
    code: str
    message: str
