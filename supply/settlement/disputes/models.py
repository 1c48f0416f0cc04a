"""Disputes: what a cardholder's bank took back or asks about, whose money is frozen for it, what was answered."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import BrandId, OrderId, TenantId
from infra.db.base import Row, currency_field, id_field, minor_field, one_of, utc_field
from supply.settlement.disputes.stages import Stage
from supply.settlement.ids import EvidenceId, SplitLineId


class EvidenceStatus(StrEnum):
    QUEUED = "queued"
    """The provider has not answered yet."""
    SENT = "sent"
    REFUSED = "refused"


class Dispute(Row, table=True):
    """One dispute at the provider, under the provider's id. Its row is the lock of everything done to it.

    ``amount_minor`` is in the customer's currency; ``platform_minor`` of it belongs to no order (a payment that
    came late), and losing it brought the customer ``owed_minor`` that it was owed. ``fee_minor`` is what was booked
    of the provider's fee, in ``settled_currency``.
    """

    __tablename__ = "disputes"
    __table_args__ = (
        one_of("stage", Stage),
        Index("ix_disputes_charge_id", "charge_id"),
        Index(
            "ix_disputes_due",
            "next_look_at",
            postgresql_where=text("stage IN ('noticed', 'inquiry', 'open')"),
        ),
        CheckConstraint("amount_minor > 0 AND platform_minor >= 0", name="amounts"),
    )

    id: str = Field(primary_key=True)
    provider: str
    charge_id: str
    stage: Stage = Field(sa_type=String)
    provider_status: str
    reason: str
    currency: str = currency_field()
    amount_minor: int = minor_field()
    platform_minor: int = minor_field()
    owed_minor: int = minor_field(default=0)
    settled_currency: str = currency_field()
    settled_minor: int = minor_field()
    """What the provider withdrew, without its fee."""
    fee_minor: int = minor_field()
    evidence_due_at: datetime | None = utc_field(default=None, nullable=True)
    evidence_submissions: int
    opened_at: datetime = utc_field()
    looked_at: datetime = utc_field()
    next_look_at: datetime = utc_field()
    ended_at: datetime | None = utc_field(default=None, nullable=True)


class DisputeOrder(Row, table=True):
    """One order's part of a dispute. ``lost`` is what losing it took from whom, so that it can be undone."""

    __tablename__ = "dispute_orders"
    __table_args__ = (
        Index("ix_dispute_orders_order_id", "order_id"),
        Index("ix_dispute_orders_merchant_id", "merchant_id"),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    dispute_id: str = Field(primary_key=True, foreign_key="disputes.id")
    order_id: OrderId = id_field(OrderId, primary_key=True)
    merchant_id: BrandId = id_field(BrandId)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    freezes: int
    """How often its shares were frozen: part of the journals' keys."""
    absorbed: list[dict[str, Any]] = Field(sa_column=Column(JSONB, nullable=False))
    """What the platform took over of what parties owe after the loss (R9e), decision by decision."""
    lost: dict[str, Any] | None = Field(sa_column=Column(JSONB, nullable=True))


class DisputeShare(Row, table=True):
    """What of one cell lies in 2030 for a dispute: ``pending_minor`` came from 2000, ``available_minor`` from 2010.

    A cell may have gained what another one of the same party gave; a party's sum is never below zero.
    """

    __tablename__ = "dispute_shares"
    __table_args__ = (
        Index("ix_dispute_shares_order_id", "order_id"),
        Index("ix_dispute_shares_tenant_id", "tenant_id"),
    )

    dispute_id: str = Field(primary_key=True, foreign_key="disputes.id")
    line_id: SplitLineId = id_field(SplitLineId, primary_key=True)
    seat: str = Field(primary_key=True)
    order_id: OrderId = id_field(OrderId)
    merchant_id: BrandId = id_field(BrandId)
    payee_id: str
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    currency: str = currency_field()
    pending_minor: int = minor_field()
    available_minor: int = minor_field()


class DisputeEvidence(Row, table=True):
    """What a merchant or operator answers the bank, in the provider's field names."""

    __tablename__ = "dispute_evidence"
    __table_args__ = (one_of("status", EvidenceStatus), Index("ix_dispute_evidence_dispute_id", "dispute_id"))

    id: EvidenceId = id_field(EvidenceId, primary_key=True)
    dispute_id: str = Field(foreign_key="disputes.id")
    merchant_id: BrandId | None = id_field(BrandId, default=None, nullable=True)
    """The merchant that answered; none when an operator did."""
    fields: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    final: bool
    """Submitted to the bank; otherwise only kept at the provider."""
    status: EvidenceStatus = Field(sa_type=String)
    failure: str | None = None
    submitted_by: str
    created_at: datetime = utc_field()
    sent_at: datetime | None = utc_field(default=None, nullable=True)
