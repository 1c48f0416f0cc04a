"""What is owed for sales whose money the merchant has, and how far it came; payments of what a party owes."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, String, UniqueConstraint, text
from sqlmodel import Field

from core.ids import BrandId, OrderId, OrderLineId, TenantId
from infra.db.base import Row, currency_field, id_field, minor_field, one_of, utc_field
from supply.settlement.at_source.ids import DebtPaymentId


class CommissionDue(Row, table=True):
    """The commission of one order line that its merchant owes: what stands of it, and how much of that came.

    It lies in 1120 until it is claimed and in 1100 from then on. A line's commission is not released while less
    is covered than owed.
    """

    __tablename__ = "commission_dues"
    __table_args__ = (
        Index("ix_commission_dues_order_id", "order_id"),
        Index(
            "ix_commission_dues_uncovered",
            "payee_id",
            "currency",
            "claimed_at",
            postgresql_where=text("covered_minor < owed_minor"),
        ),
        CheckConstraint("covered_minor BETWEEN 0 AND owed_minor", name="covered"),
        CheckConstraint("covered_minor = 0 OR claimed_at IS NOT NULL", name="claimed_first"),
    )

    order_line_id: OrderLineId = id_field(OrderLineId, primary_key=True)
    order_id: OrderId = id_field(OrderId)
    merchant_id: BrandId = id_field(BrandId)
    payee_id: str
    """The merchant, as settlement names parties."""
    currency: str = currency_field()
    owed_minor: int = minor_field()
    covered_minor: int = minor_field()
    taken_back_minor: int = minor_field(default=0)
    """Of what is not covered, what had come and a bank took back: covered again when the bank gives it back."""
    opened_at: datetime = utc_field()
    claimed_at: datetime | None = utc_field(default=None, nullable=True)
    """When the return window was over and nothing held it."""


class DebtPaymentStatus(StrEnum):
    OPEN = "open"
    PAID = "paid"
    CANCELLED = "cancelled"
    """Another one was asked for instead. Paid all the same, it counts."""


class DebtPayment(Row, table=True):
    """One intent at the provider by which a party pays what it owes; at most one is open in a currency."""

    __tablename__ = "debt_payments"
    __table_args__ = (
        one_of("status", DebtPaymentStatus),
        Index(
            "uq_debt_payments_open",
            "payee_id",
            "currency",
            unique=True,
            postgresql_where=text("status = 'open'"),
        ),
        Index("ix_debt_payments_charge_id", "charge_id"),
        Index("ix_debt_payments_quiet", "created_at", postgresql_where=text("status = 'open'")),
        UniqueConstraint("intent_id"),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    id: DebtPaymentId = id_field(DebtPaymentId, primary_key=True)
    payee_id: str
    tenant_id: TenantId = id_field(TenantId)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    status: DebtPaymentStatus = Field(sa_type=String)
    intent_id: str | None = None
    client_secret: str | None = None
    charge_id: str | None = None
    covered_minor: int | None = minor_field(default=None, nullable=True)
    """How much of it paid off what was owed when it came; the rest is available to the party."""
    created_at: datetime = utc_field()
    paid_at: datetime | None = utc_field(default=None, nullable=True)
