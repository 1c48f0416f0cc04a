"""Tables of what an advertiser puts out: campaigns with their budgets, offers with their published versions."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, String, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlmodel import Field

from core.ids import BrandId, CommissionLineId
from infra.db.base import IdColumn, Row, currency_field, id_field, minor_field, one_of, utc_field
from marketplace.promotion.commission.rules import CapMode
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId, CampaignOfferId


class CampaignStatus(StrEnum):
    DRAFT = "DRAFT"
    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ENDED = "ENDED"


class OfferStatus(StrEnum):
    DRAFT = "DRAFT"
    PUBLISHED = "PUBLISHED"
    RETIRED = "RETIRED"


class OfferVisibility(StrEnum):
    PUBLIC = "PUBLIC"
    """Every brand of the directory may find it and apply."""
    INVITED = "INVITED"


class Campaign(Row, table=True):
    """What an advertiser does in a period of time. ``used_up``: of its budget nothing is left now."""

    __tablename__ = "campaigns"
    __table_args__ = (
        one_of("status", CampaignStatus, name="known_status"),
        one_of("model", AttributionModel, name="known_model"),
        CheckConstraint("starts_at < ends_at OR status = 'ENDED'", name="starts_before_it_ends"),
        CheckConstraint("status <> 'ENDED' OR ends_at IS NOT NULL", name="ended_at_a_moment"),
        Index("ix_campaigns_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_campaigns_ends_at", "ends_at", postgresql_where=text("ends_at IS NOT NULL")),
    )

    id: CampaignId = id_field(CampaignId, primary_key=True)
    advertiser_id: BrandId = id_field(BrandId)
    name: str
    currency: str = currency_field()
    model: AttributionModel = Field(sa_type=String)
    status: CampaignStatus = Field(sa_type=String)
    starts_at: datetime = utc_field()
    ends_at: datetime | None = utc_field(default=None, nullable=True)
    used_up: bool
    created_at: datetime = utc_field()


class CampaignStatusChange(Row, table=True):
    """What the campaign was at any moment: a touch is judged by the state at its own time."""

    __tablename__ = "campaign_status_log"

    campaign_id: CampaignId = Field(
        sa_type=IdColumn(CampaignId), primary_key=True, foreign_key="campaigns.id"
    )
    position: int = Field(primary_key=True)
    status: CampaignStatus = Field(sa_type=String)
    reason: str
    changed_by: str
    changed_at: datetime = utc_field()


class CampaignBudget(Row, table=True):
    """Commission a campaign may come to over all its agreements, in minor units of its currency (cps.md R4).

    ``reserved_minor`` is earned and waits for its return window, ``spent_minor`` is confirmed.
    """

    __tablename__ = "campaign_budgets"
    __table_args__ = (
        one_of("mode", CapMode, name="known_mode"),
        CheckConstraint("limit_minor >= 0 AND reserved_minor >= 0 AND spent_minor >= 0", name="not_negative"),
    )

    campaign_id: CampaignId = Field(
        sa_type=IdColumn(CampaignId), primary_key=True, foreign_key="campaigns.id"
    )
    advertiser_id: BrandId = id_field(BrandId)
    limit_minor: int = minor_field()
    mode: CapMode = Field(sa_type=String)
    reserved_minor: int = minor_field()
    spent_minor: int = minor_field()


class BudgetReservation(Row, table=True):
    """What one commission line still takes of its campaign's budget, and on which side it counts."""

    __tablename__ = "budget_reservations"
    __table_args__ = (
        CheckConstraint("amount_minor >= 0", name="not_negative"),
        Index("ix_budget_reservations_campaign_id", "campaign_id"),
    )

    commission_line_id: CommissionLineId = Field(
        sa_type=IdColumn(CommissionLineId), primary_key=True, foreign_key="commission_lines.id"
    )
    campaign_id: CampaignId = id_field(CampaignId, foreign_key="campaign_budgets.campaign_id")
    amount_minor: int = minor_field()
    spent: bool


class Offer(Row, table=True):
    """``current_version`` is the latest published; 0 before the first."""

    __tablename__ = "offers"
    __table_args__ = (
        one_of("status", OfferStatus, name="known_status"),
        one_of("visibility", OfferVisibility, name="known_visibility"),
        CheckConstraint("(status = 'DRAFT') = (current_version = 0)", name="published_has_a_version"),
        Index("ix_offers_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_offers_campaign_id", "campaign_id"),
        Index(
            "ix_offers_public",
            "published_at",
            "id",
            postgresql_where=text("visibility = 'PUBLIC' AND status = 'PUBLISHED'"),
        ),
    )

    id: CampaignOfferId = id_field(CampaignOfferId, primary_key=True)
    advertiser_id: BrandId = id_field(BrandId)
    campaign_id: CampaignId = id_field(CampaignId, foreign_key="campaigns.id")
    visibility: OfferVisibility = Field(sa_type=String)
    status: OfferStatus = Field(sa_type=String)
    current_version: int
    created_at: datetime = utc_field()
    published_at: datetime | None = utc_field(default=None, nullable=True)
    """When the current version was."""


class OfferDraft(Row, table=True):
    """What the next version of an offer would say; only its advertiser sees it."""

    __tablename__ = "offer_drafts"

    offer_id: CampaignOfferId = Field(
        sa_type=IdColumn(CampaignOfferId), primary_key=True, foreign_key="offers.id"
    )
    advertiser_id: BrandId = id_field(BrandId)
    name: str
    summary: str
    terms: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    updated_at: datetime = utc_field()


class OfferVersion(Row, table=True):
    """A published version under its content hash; never changed. The last six columns are what it is found by."""

    __tablename__ = "offer_versions"
    __table_args__ = (
        CheckConstraint("version >= 1", name="sane_version"),
        Index("ix_offer_versions_category_paths", "category_paths", postgresql_using="gin"),
        Index("ix_offer_versions_tokens", "tokens", postgresql_using="gin"),
    )

    offer_id: CampaignOfferId = Field(
        sa_type=IdColumn(CampaignOfferId), primary_key=True, foreign_key="offers.id"
    )
    version: int = Field(primary_key=True)
    advertiser_id: BrandId = id_field(BrandId)
    name: str
    summary: str
    terms: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    content_hash: str
    published_at: datetime = utc_field()
    published_by: str
    rate_min_ppm: int
    rate_max_ppm: int
    window_s: int
    covers_everything: bool
    category_paths: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    tokens: str = Field(sa_column=Column(TSVECTOR, nullable=False))
