"""Tables of fraud: what the rules look at, what they found, and what follows from it."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    Date,
    FetchedValue,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import (
    AgreementId,
    BrandId,
    CommissionLineId,
    LinkId,
    OrderId,
    OrderLineId,
    PlacementId,
    TouchId,
)
from infra.db.base import Row, Xid8, id_field, one_of, utc_field
from marketplace.promotion.coupons.models import CouponId
from marketplace.promotion.fraud.ids import HoldId, SignalId
from marketplace.promotion.fraud.signals import Action, Rule


class SignalStatus(StrEnum):
    OPEN = "OPEN"
    DISMISSED = "DISMISSED"
    """A person found it wrong: what it did is undone."""
    UPHELD = "UPHELD"
    """A person found it right: the held lines are INVALID."""
    CLEARED = "CLEARED"
    """Thirty days passed and nobody said anything: the holds are off."""


class HoldStatus(StrEnum):
    OPEN = "OPEN"
    RELEASED = "RELEASED"
    UPHELD = "UPHELD"


def _marked(name: str) -> Index:
    """Sales at the new-customer rate of one promoter by one kind of digest."""
    where = text(f"at_new_rate AND {name} IS NOT NULL")
    return Index(f"ix_credited_sales_{name}", "promoter", name, "paid_at", postgresql_where=where)


class CreditedSale(Row, table=True):
    """What the rules look at of a credited order, per agreement that earns from it.

    ``promoter`` is whose sale it is: the individual, or the promoter brand. ``device`` is the key of the browser that
    clicked; buyer, instrument and address are keyed digests.
    """

    __tablename__ = "credited_sales"
    __table_args__ = (
        Index("ix_credited_sales_paid_at", "paid_at"),
        Index("ix_credited_sales_agreement_id_promoter", "agreement_id", "promoter", "paid_at"),
        Index("ix_credited_sales_advertiser_id", "advertiser_id", "paid_at"),
        Index("ix_credited_sales_placement_id", "placement_id", "touch_at"),
        _marked("device"),
        _marked("instrument"),
        _marked("address"),
        Index("ix_credited_sales_click_awaited", "paid_at", postgresql_where=text("click_awaited")),
    )

    order_id: OrderId = id_field(OrderId, primary_key=True)
    agreement_id: AgreementId = id_field(AgreementId, primary_key=True)
    agreement_version: int
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    promoter: UUID = Field(sa_type=Uuid)
    placement_id: PlacementId = id_field(PlacementId)
    touch_id: TouchId = id_field(TouchId)
    touch_at: datetime = utc_field()
    ordered_at: datetime = utc_field()
    paid_at: datetime = utc_field()
    window_s: int
    at_new_rate: bool
    """Earned at a rate that only new customers bring."""
    buyer: str
    device: bytes | None = Field(default=None, sa_type=LargeBinary)
    instrument: str | None = None
    address: str | None = None
    click_awaited: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    """The click that won still lay in the edge's spool: what its row shows is looked at when it comes home."""


class ClickDay(Row, table=True):
    """Clicks of a placement under an agreement on a day (UTC), bots and repeats left out."""

    __tablename__ = "click_days"
    __table_args__ = (CheckConstraint("clicks > 0", name="clicks"),)

    placement_id: PlacementId = id_field(PlacementId, primary_key=True)
    agreement_id: AgreementId = id_field(AgreementId, primary_key=True)
    day: date = Field(sa_type=Date, primary_key=True)
    clicks: int


class FraudProgress(Row, table=True):
    """How far a sweep has looked."""

    __tablename__ = "fraud_progress"

    sweep: str = Field(primary_key=True)
    looked_until: datetime = utc_field()


class FraudSignal(Row, table=True):
    """What a rule found. ``key`` names what it found it of, so that the same is found once and grows."""

    __tablename__ = "fraud_signals"
    __table_args__ = (
        UniqueConstraint("key"),
        one_of("rule", Rule, name="known_rule"),
        one_of("action", Action, name="known_action"),
        one_of("status", SignalStatus, name="known_status"),
        Index("ix_fraud_signals_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_fraud_signals_promoter_brand_id_id", "promoter_brand_id", "id"),
        Index("ix_fraud_signals_order_id", "order_id", postgresql_where=text("order_id IS NOT NULL")),
        Index(
            "ix_fraud_signals_longer_window",
            "agreement_id",
            "promoter",
            postgresql_where=text("window_until IS NOT NULL AND status <> 'DISMISSED'"),
        ),
    )

    id: SignalId = id_field(SignalId, primary_key=True)
    key: str
    rule: Rule = Field(sa_type=String)
    rule_version: str
    action: Action = Field(sa_type=String)
    status: SignalStatus = Field(sa_type=String)
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    agreement_id: AgreementId = id_field(AgreementId)
    promoter: UUID = Field(sa_type=Uuid)
    placement_id: PlacementId | None = id_field(PlacementId, default=None, nullable=True)
    link_id: LinkId | None = id_field(LinkId, default=None, nullable=True)
    touch_id: TouchId | None = id_field(TouchId, default=None, nullable=True)
    order_id: OrderId | None = id_field(OrderId, default=None, nullable=True)
    coupon_id: CouponId | None = id_field(CouponId, default=None, nullable=True)
    evidence: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    threshold: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    detected_at: datetime = utc_field()
    seen_at: datetime = utc_field()
    """When it was last found."""
    window_until: datetime | None = utc_field(default=None, nullable=True)
    """Orders of the promoter up to here have a longer return window."""
    decided_at: datetime | None = utc_field(default=None, nullable=True)
    decided_by: str | None = None
    decision: str | None = None


class ExcludedTouch(Row, table=True):
    """A click that qualifies for nothing from ``excluded_at`` on, until that is lifted."""

    __tablename__ = "excluded_touches"
    __table_args__ = (
        Index("ix_excluded_touches_signal_id", "signal_id"),
        Index("ix_excluded_touches_txid", "txid"),
    )

    touch_id: TouchId = id_field(TouchId, primary_key=True)
    signal_id: SignalId = id_field(SignalId, primary_key=True, foreign_key="fraud_signals.id")
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    excluded_at: datetime = utc_field()
    lifted_at: datetime | None = utc_field(default=None, nullable=True)
    txid: int = Field(sa_column=Column(Xid8, FetchedValue(), nullable=False))
    """The transaction that changed it last."""


class CommissionHold(Row, table=True):
    """One reason why a line waits. ``opened_by`` is the signal's id, or who laid it by hand: once each."""

    __tablename__ = "commission_holds"
    __table_args__ = (
        UniqueConstraint(
            "commission_line_id", "opened_by", name="uq_commission_holds_commission_line_id_opened_by"
        ),
        one_of("status", HoldStatus, name="known_status"),
        CheckConstraint("(status = 'OPEN') = (ended_at IS NULL)", name="ended"),
        Index("ix_commission_holds_clears_at", "clears_at", postgresql_where=text("status = 'OPEN'")),
        Index("ix_commission_holds_signal_id", "signal_id"),
        Index("ix_commission_holds_advertiser_id_id", "advertiser_id", "id"),
        Index("ix_commission_holds_promoter_brand_id_id", "promoter_brand_id", "id"),
    )

    id: HoldId = id_field(HoldId, primary_key=True)
    commission_line_id: CommissionLineId = id_field(CommissionLineId, foreign_key="commission_lines.id")
    order_id: OrderId = id_field(OrderId)
    order_line_id: OrderLineId = id_field(OrderLineId)
    advertiser_id: BrandId = id_field(BrandId)
    promoter_brand_id: BrandId = id_field(BrandId)
    signal_id: SignalId | None = id_field(
        SignalId, default=None, nullable=True, foreign_key="fraud_signals.id"
    )
    opened_by: str
    reason: str
    status: HoldStatus = Field(sa_type=String)
    opened_at: datetime = utc_field()
    clears_at: datetime = utc_field()
    ended_at: datetime | None = utc_field(default=None, nullable=True)
    ended_by: str | None = None
    decision: str | None = None
