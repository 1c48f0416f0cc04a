"""What was bought by whom through which community, and what was proposed on the strength of it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, String
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import AgreementId, BrandId, CommunityId, OrderId, OrderLineId, ProductId, ProposalId
from infra.db.base import Row, id_field, utc_field


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
