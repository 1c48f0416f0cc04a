"""What is done about parties that owe: reversals asked of the provider, debts given up."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, String, text
from sqlmodel import Field

from core.ids import PayoutId, TenantId
from infra.db.base import Row, currency_field, id_field, minor_field, one_of, utc_field
from supply.settlement.ids import RecoveryId, WriteOffId


class RecoveryStatus(StrEnum):
    SENDING = "sending"
    """Asked of the provider at least once; what became of it is not known."""
    DONE = "done"
    REFUSED = "refused"
    """The debt stays, and is netted against the next earnings."""


class WriteOffStatus(StrEnum):
    ASKED = "asked"
    APPROVED = "approved"
    DECLINED = "declined"


class Recovery(Row, table=True):
    """R7a: one transfer reversal. A party has at most one under way in a currency, so that none is taken twice."""

    __tablename__ = "recoveries"
    __table_args__ = (
        one_of("status", RecoveryStatus),
        Index("ix_recoveries_open", "next_try_at", postgresql_where=text("status = 'sending'")),
        Index(
            "uq_recoveries_one_at_a_time",
            "payee_id",
            "currency",
            unique=True,
            postgresql_where=text("status = 'sending'"),
        ),
        Index("ix_recoveries_payout_id", "payout_id"),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    id: RecoveryId = id_field(RecoveryId, primary_key=True)
    payout_id: PayoutId = id_field(PayoutId, foreign_key="payouts.id")
    payee_id: str
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    currency: str = currency_field()
    transfer_id: str
    amount_minor: int = minor_field()
    status: RecoveryStatus = Field(sa_type=String)
    attempt: int
    """Part of the provider's key; raised only after a look-up found nothing."""
    tries: int
    created_at: datetime = utc_field()
    first_sent_at: datetime = utc_field()
    next_try_at: datetime = utc_field()
    reversal_id: str | None = None
    failure: str | None = None
    ended_at: datetime | None = utc_field(default=None, nullable=True)


class WriteOff(Row, table=True):
    """R7c: a debt given up. One operator asks, another one decides."""

    __tablename__ = "write_offs"
    __table_args__ = (
        one_of("status", WriteOffStatus),
        Index("ix_write_offs_payee_id", "payee_id"),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    id: WriteOffId = id_field(WriteOffId, primary_key=True)
    payee_id: str
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    reason: str
    asked_by: str
    asked_at: datetime = utc_field()
    status: WriteOffStatus = Field(sa_type=String)
    decided_by: str | None = None
    decided_at: datetime | None = utc_field(default=None, nullable=True)
