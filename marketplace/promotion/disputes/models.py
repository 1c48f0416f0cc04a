"""A dispute of two brands about a commission."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, String, UniqueConstraint, text
from sqlmodel import Field

from core.ids import AgreementId, BrandId, CommissionLineId, OrderId, TouchId, TypedId
from infra.db.base import Row, currency_field, id_field, minor_field, one_of, utc_field
from marketplace.promotion.fraud.ids import HoldId


class CommissionDisputeId(TypedId):
    prefix = "cds"


class DisputeSubject(StrEnum):
    INVALID = "INVALID"
    """A line that was found not earned."""
    HOLD = "HOLD"
    TOUCH = "TOUCH"
    """A touch that earns nothing of an order."""
    AMOUNT = "AMOUNT"
    """What a line earned: too little for the promoter, too much for the advertiser."""


class DisputeStatus(StrEnum):
    OPEN = "OPEN"
    ADVERTISER_REPLY = "ADVERTISER_REPLY"
    """The other side, nearly always the advertiser, has said why not."""
    ESCALATED = "ESCALATED"
    UPHELD = "UPHELD"
    REJECTED = "REJECTED"
    RULED = "RULED"


class CommissionDispute(Row, table=True):
    """``about`` names what is disputed: each side may dispute it once. ``claimed_minor`` is 0 where the claim is that
    something be undone; what undoing it moves is told in ``granted_minor`` then, which no claim limits."""

    __tablename__ = "commission_disputes"
    __table_args__ = (
        UniqueConstraint("about", "opener_id", name="uq_commission_disputes_about_opener_id"),
        one_of("subject", DisputeSubject, name="known_subject"),
        one_of("status", DisputeStatus, name="known_status"),
        CheckConstraint("opener_id IN (advertiser_id, promoter_brand_id)", name="opener"),
        CheckConstraint("granted_minor >= 0 AND claimed_minor >= 0", name="amounts"),
        Index(
            "ix_commission_disputes_due_at",
            "due_at",
            postgresql_where=text("status IN ('OPEN', 'ADVERTISER_REPLY')"),
        ),
        Index("ix_commission_disputes_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_commission_disputes_promoter_brand_id_id", "promoter_brand_id", "id"),
    )

    id: CommissionDisputeId = id_field(CommissionDisputeId, primary_key=True)
    subject: DisputeSubject = Field(sa_type=String)
    about: str
    order_id: OrderId = id_field(OrderId)
    commission_line_id: CommissionLineId | None = id_field(CommissionLineId, default=None, nullable=True)
    hold_id: HoldId | None = id_field(HoldId, default=None, nullable=True)
    touch_id: TouchId | None = id_field(TouchId, default=None, nullable=True)
    agreement_id: AgreementId = id_field(AgreementId)
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    opener_id: BrandId = id_field(BrandId)
    currency: str = currency_field()
    claimed_minor: int = minor_field()
    granted_minor: int = minor_field()
    answer_days: int
    """Working days for each step, as agreed."""
    status: DisputeStatus = Field(sa_type=String)
    reason: str
    reply: str
    escalation: str
    ruling: str
    decided_by: str
    opened_at: datetime = utc_field()
    due_at: datetime = utc_field()
    ended_at: datetime | None = utc_field(default=None, nullable=True)
