from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, String
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlmodel import Field

from core.ids import BrandId, ProductId
from infra.db.base import Row, id_field, utc_field


class GenerationStatus(StrEnum):
    LIVE = "live"
    BUILDING = "building"


class SearchGeneration(Row, table=True):
    __tablename__ = "search_generations"
    __table_args__ = (
        Index("uq_search_generations_status", "status", unique=True),
        CheckConstraint("status IN ('live', 'building')", name="status"),
    )

    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    status: GenerationStatus = Field(sa_type=String)


class SearchDocument(Row, table=True):
    """A product as it is found. ``categories`` are its category and every ancestor; ``prices``: currency to
    ``[lowest, highest]`` in minor units; ``tokens`` are made by infra/search/text.py, not by PostgreSQL."""

    __tablename__ = "search_documents"
    __table_args__ = (
        Index("ix_search_documents_generation_brand_id", "generation", "brand_id"),
        Index("ix_search_documents_tokens", "tokens", postgresql_using="gin"),
    )

    generation: int = Field(primary_key=True)
    product_id: ProductId = id_field(ProductId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    title_zh: str
    title_en: str
    categories: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    tags: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    skus: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    prices: dict[str, list[int]] = Field(sa_column=Column(JSONB, nullable=False))
    in_stock: bool
    popularity: int
    tokens: str = Field(sa_column=Column(TSVECTOR, nullable=False))
    created_at: datetime = utc_field()
    version: int = Field(sa_type=BigInteger)
