"""Tables of what is counted, replayed and measured."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    Index,
    LargeBinary,
    SmallInteger,
    String,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from core.ids import BrandId, LinkId, OrderId
from infra.db.base import Row, currency_field, id_field, minor_field, one_of, utc_field
from marketplace.insights.ids import SimulationId
from marketplace.matching.ids import HoldoutId
from marketplace.promotion.ids import CampaignOfferId
from marketplace.promotion.models import ShareRole


class Source(StrEnum):
    """What is counted, each from its own snapshot on."""

    TOUCHES = "touches"
    SALES = "sales"
    EXCLUSIONS = "exclusions"


def _count() -> Any:
    return Field(default=0, sa_column_kwargs={"server_default": text("0")})


def _sum() -> Any:
    return minor_field(default=0, sa_column_kwargs={"server_default": text("0")})


class LinkPerformance(Row, table=True):
    """What one link brought on one day (UTC), in one currency; visits, which have none, under ``XXX``.

    All columns but the first five are sums: rows of any links and days add up (docs/rules/cps.md §7).
    """

    __tablename__ = "link_performance"
    __table_args__ = (
        Index("ix_link_performance_advertiser_id_day", "advertiser_id", "day"),
        Index("ix_link_performance_promoter_brand_id_day", "promoter_brand_id", "day"),
        Index("ix_link_performance_day", "day"),
    )

    link_id: LinkId = id_field(LinkId, primary_key=True)
    day: date = Field(sa_type=Date, primary_key=True)
    currency: str = currency_field(primary_key=True)
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    clicks: int = _count()
    unique_clicks: int = _count()
    scans: int = _count()
    leads: int = _count()
    bots: int = _count()
    excluded_visits: int = _count()
    """Among the clicks and scans, those that fraud keeps from earning."""
    orders: int = _count()
    assisted_orders: int = _count()
    new_customer_orders: int = _count()
    refunded_orders: int = _count()
    gross_minor: int = _sum()
    basis_minor: int = _sum()
    refunded_basis_minor: int = _sum()
    pending_minor: int = _sum()
    confirmed_minor: int = _sum()
    paid_minor: int = _sum()
    invalid_minor: int = _sum()
    reversed_minor: int = _sum()
    fee_minor: int = _sum()
    adjustment_minor: int = _sum()
    """What retroactive tiers owed for earlier orders, beside the states of commission."""


class PerformanceCounted(Row, table=True):
    """``seen`` is the snapshot (pg_snapshot) that was counted last: what it showed is in the sums."""

    __tablename__ = "performance_counted"
    __table_args__ = (CheckConstraint("source IN ('touches', 'sales', 'exclusions')", name="known_source"),)

    source: str = Field(primary_key=True)
    seen: str


class SimulationStatus(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"


class OfferSimulation(Row, table=True):
    """Orders credited in [since, until) replayed under ``terms``; ``agreement_ids`` are whose, all when absent.

    ``attempt`` is of the worker that runs it: one that was given up writes nothing any more.
    """

    __tablename__ = "offer_simulations"
    __table_args__ = (
        one_of("status", SimulationStatus, name="known_status"),
        CheckConstraint("(status = 'DONE') = (finished_at IS NOT NULL)", name="finished"),
        CheckConstraint("since < until", name="period"),
        Index("ix_offer_simulations_advertiser_id_id", "advertiser_id", "id"),
    )

    id: SimulationId = id_field(SimulationId, primary_key=True)
    advertiser_id: BrandId = id_field(BrandId)
    requested_by: str
    status: SimulationStatus = Field(sa_type=String)
    terms: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    offer_id: CampaignOfferId | None = id_field(CampaignOfferId, default=None, nullable=True)
    offer_version: int | None = None
    agreement_ids: list[UUID] | None = Field(default=None, sa_column=Column(ARRAY(Uuid), nullable=True))
    since: datetime = utc_field()
    until: datetime = utc_field()
    orders_total: int
    orders_done: int = 0
    attempt: int = 0
    orders_changed: int = 0
    orders_won: int = 0
    orders_lost: int = 0
    orders_unreadable: int = 0
    requested_at: datetime = utc_field()
    finished_at: datetime | None = utc_field(default=None, nullable=True)


class OfferSimulationPayee(Row, table=True):
    """What one payee earned through one promoter brand, what of it went back with refunds; and what would have."""

    __tablename__ = "offer_simulation_payees"
    __table_args__ = (one_of("role", ShareRole, name="known_role"),)

    simulation_id: SimulationId = id_field(SimulationId, primary_key=True, foreign_key="offer_simulations.id")
    currency: str = currency_field(primary_key=True)
    role: ShareRole = Field(sa_type=String, primary_key=True)
    payee: str = Field(primary_key=True)
    promoter_brand_id: BrandId = id_field(BrandId, primary_key=True)
    before_minor: int = minor_field()
    after_minor: int = minor_field()
    before_reversed_minor: int = _sum()
    after_reversed_minor: int = _sum()
    orders_before: int
    orders_after: int


class HoldoutResult(Row, table=True):
    """What showing brought, as one side of the agreement may know it; measured anew while the holdout runs."""

    __tablename__ = "holdout_results"

    holdout_id: HoldoutId = id_field(HoldoutId, primary_key=True, foreign_key="holdouts.id")
    brand_id: BrandId = id_field(BrandId, primary_key=True)
    measured_at: datetime = utc_field()
    measured_until: datetime = utc_field()
    members_shown: int
    members_held_out: int
    buyers_shown: int
    buyers_held_out: int
    held_out_visitors: int
    """Held-out members who came through a link of the agreement all the same: they dilute the difference."""
    comparable_ppm: int | None = None
    """Of the advertiser's orders, those whose buyer could be looked for among the members."""
    estimates: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    attributed: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))


class ToldBuyer(Row, table=True):
    """Who bought an order of a brand's own checkout, as a partner that holds out would know it: the platform's
    knowledge alone, for as long as the holdout is measured."""

    __tablename__ = "told_buyers"
    __table_args__ = (
        CheckConstraint("octet_length(subject_key) = 32", name="whole_key"),
        Index("ix_told_buyers_brand_id_advertiser_id", "brand_id", "advertiser_id"),
    )

    order_id: OrderId = id_field(OrderId, primary_key=True)
    brand_id: BrandId = id_field(BrandId, primary_key=True)
    """The promoter brand under whose keys it is."""
    place: int = Field(sa_type=SmallInteger, primary_key=True)
    """The e-mail address before the phone number."""
    advertiser_id: BrandId = id_field(BrandId)
    subject_key: bytes = Field(sa_type=LargeBinary)
