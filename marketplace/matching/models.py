"""What was bought by whom through which community, and what was proposed on the strength of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import AgreementId, BrandId, CommunityId, OrderId, OrderLineId, ProductId, ProposalId
from infra.db.base import Row, id_field, utc_field
from marketplace.matching.ids import HoldoutId


class Direction(StrEnum):
    PRODUCTS_FOR_COMMUNITY = "products_for_community"
    COMMUNITIES_FOR_PRODUCT = "communities_for_product"


class Lane(StrEnum):
    REPEAT = "repeat"
    """What this community buys again."""
    DISCOVER = "discover"
    """What is new to it."""


class Purchase(Row, table=True):
    """One line of a paid order. ``buyer`` is a keyed digest: the same person, never which."""

    __tablename__ = "purchase_facts"
    __table_args__ = (
        CheckConstraint("quantity > 0", name="sane_quantity"),
        Index("ix_purchase_facts_community_id_product_id", "community_id", "product_id"),
        Index("ix_purchase_facts_merchant_id_product_id", "merchant_id", "product_id"),
        Index("ix_purchase_facts_seller_id_product_id", "seller_id", "product_id"),
        Index("ix_purchase_facts_buyer", "buyer"),
    )

    order_line_id: OrderLineId = id_field(OrderLineId, primary_key=True)
    order_id: OrderId = id_field(OrderId)
    merchant_id: BrandId = id_field(BrandId)
    seller_id: BrandId = id_field(BrandId)
    community_id: CommunityId | None = id_field(CommunityId, default=None, nullable=True)
    buyer: str
    product_id: ProductId = id_field(ProductId)
    quantity: int
    bought_at: datetime = utc_field()


class Proposal(Row, table=True):
    """One product shown to a brand for one community; ``parts`` recompute to ``score_ppm``.

    The row is the impression's log as well: ``rank`` from 1, ``propensity_ppm`` how likely it was to be shown.
    """

    __tablename__ = "proposals"
    __table_args__ = (
        CheckConstraint(
            "direction IN ('products_for_community','communities_for_product')", name="known_direction"
        ),
        CheckConstraint("lane IN ('repeat','discover')", name="known_lane"),
        Index("ix_proposals_brand_id_id", "brand_id", "id"),
    )

    id: ProposalId = id_field(ProposalId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    direction: Direction = Field(sa_type=String)
    community_id: CommunityId = id_field(CommunityId)
    community_brand_id: BrandId = id_field(BrandId)
    product_id: ProductId = id_field(ProductId)
    product_brand_id: BrandId = id_field(BrandId)
    agreement_id: AgreementId | None = id_field(AgreementId, default=None, nullable=True)
    lane: Lane = Field(sa_type=String)
    rank: int
    propensity_ppm: int
    score_ppm: int = Field(sa_type=BigInteger)
    parts: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    proposed_at: datetime = utc_field()


class Holdout(Row, table=True):
    """Members of a community who are not shown what an agreement is about, to learn what showing it brings.

    ``share_ppm`` of them, drawn by a keyed hash of ``draw`` and the member (holdouts.py): two holdouts of one draw
    hold out the same people, of two draws unrelated ones.
    """

    __tablename__ = "holdouts"
    __table_args__ = (
        CheckConstraint("share_ppm BETWEEN 10000 AND 500000", name="share"),
        CheckConstraint("set_by IN (advertiser_id, promoter_brand_id)", name="set_by_a_side"),
        CheckConstraint("ended_at IS NULL OR ended_at >= started_at", name="ended"),
        Index(
            "uq_holdouts_running",
            "community_id",
            "agreement_id",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_holdouts_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_holdouts_promoter_brand_id_id", "promoter_brand_id", "id"),
    )

    id: HoldoutId = id_field(HoldoutId, primary_key=True)
    community_id: CommunityId = id_field(CommunityId)
    agreement_id: AgreementId = id_field(AgreementId)
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    set_by: BrandId = id_field(BrandId)
    share_ppm: int
    draw: UUID
    started_at: datetime = utc_field()
    ended_at: datetime | None = utc_field(default=None, nullable=True)
