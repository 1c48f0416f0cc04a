"""Tables of the partner directory: what brands say of themselves, and what the facts say of them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, String
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlmodel import Field

from core.ids import BrandId
from infra.db.base import Row, id_field, minor_field, one_of, utc_field


class PartnerRole(StrEnum):
    """A side of an agreement: the brand that pays, or the one whose communities sell."""

    ADVERTISER = "ADVERTISER"
    PROMOTER = "PROMOTER"


class ProfileStatus(StrEnum):
    LISTED = "LISTED"
    WITHDRAWN = "WITHDRAWN"


class AudienceBand(StrEnum):
    """How many people a brand reaches, by powers of ten: nobody needs a partner's exact number."""

    UNDER_1K = "UNDER_1K"
    FROM_1K = "FROM_1K"
    FROM_10K = "FROM_10K"
    FROM_100K = "FROM_100K"
    FROM_1M = "FROM_1M"


class PartnerProfileVersion(Row, table=True):
    """One state of a brand's profile; never rewritten."""

    __tablename__ = "partner_profiles"
    __table_args__ = (
        one_of("status", ProfileStatus, name="known_status"),
        CheckConstraint("version >= 1", name="sane_version"),
    )

    brand_id: BrandId = id_field(BrandId, primary_key=True)
    version: int = Field(primary_key=True)
    status: ProfileStatus = Field(sa_type=String)
    profile: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    published_at: datetime = utc_field()
    published_by: str


class PartnerListing(Row, table=True):
    """A brand as the directory shows it now. ``*_paths`` hold each entry with its ancestors; ``tokens`` are
    made by infra/search/text.py. ``record`` is the track record as it may be shown; the ranks are what lists are
    sorted by, the higher the better, -1 where nothing may be shown."""

    __tablename__ = "partner_listings"
    __table_args__ = (
        one_of("audience_band", AudienceBand, name="known_band"),
        CheckConstraint("rate_min_ppm BETWEEN 0 AND rate_max_ppm", name="rates"),
        Index("ix_partner_listings_updated_at", "updated_at", "brand_id"),
        Index("ix_partner_listings_conversion_rank", "conversion_rank", "brand_id"),
        Index("ix_partner_listings_refund_rank", "refund_rank", "brand_id"),
        Index("ix_partner_listings_punctuality_rank", "punctuality_rank", "brand_id"),
        Index("ix_partner_listings_category_paths", "category_paths", postgresql_using="gin"),
        Index("ix_partner_listings_region_paths", "region_paths", postgresql_using="gin"),
        Index("ix_partner_listings_tokens", "tokens", postgresql_using="gin"),
    )

    brand_id: BrandId = id_field(BrandId, primary_key=True)
    version: int
    name: str
    headline: str
    offers: str
    seeks: str
    roles: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    categories: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    sought_categories: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    regions: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    audience_band: AudienceBand | None = Field(default=None, sa_type=String)
    rate_min_ppm: int | None = None
    rate_max_ppm: int | None = None
    window_s: int
    return_window_days: int
    category_paths: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    region_paths: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    tokens: str = Field(sa_column=Column(TSVECTOR, nullable=False))
    brand_active: bool
    listed_at: datetime = utc_field()
    updated_at: datetime = utc_field()
    record: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    conversion_rank: int
    refund_rank: int
    punctuality_rank: int


class PartnerRecord(Row, table=True):
    """Counts over the last 90 days of a brand in one role: the brand itself sees them, others only rates."""

    __tablename__ = "partner_records"
    __table_args__ = (one_of("role", PartnerRole, name="known_role"),)

    brand_id: BrandId = id_field(BrandId, primary_key=True)
    role: PartnerRole = Field(sa_type=String, primary_key=True)
    clicks: int = minor_field()
    orders: int
    refunded_orders: int
    disputed_orders: int
    commissions_due: int
    commissions_in_time: int
    partners: int
    members: int
    computed_at: datetime = utc_field()
