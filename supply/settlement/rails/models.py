"""Who is who on a rail, the orders paid there, and what the rail was told."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import BrandId, OrderId, RefundId, TenantId
from infra.db.base import Row, currency_field, id_field, minor_field, one_of, utc_field
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.split_plan import PayeeKind


class RequestStatus(StrEnum):
    PLANNED = "planned"
    SENDING = "sending"
    """Sent at least once; whether the rail got it is not known."""
    ACCEPTED = "accepted"
    """The rail works on it."""
    FINISHED = "finished"
    REFUSED = "refused"
    """A definite no; an operator retries or abandons it."""
    ABANDONED = "abandoned"
    LOST = "lost"
    """The freeze ended first."""


class InstructionStatus(StrEnum):
    PLANNED = "planned"
    INSTRUCTED = "instructed"
    PAID = "paid"
    FAILED = "failed"
    """This receiver was not paid; a later request may name it again."""


class RailRefundStatus(StrEnum):
    RESERVED = "reserved"
    """Shares of it are being taken back."""
    SENDING = "sending"
    SETTLED = "settled"
    REFUSED = "refused"
    """A definite no; an operator retries or voids it."""
    VOIDED = "voided"


class RailReturnStatus(StrEnum):
    ASKED = "asked"
    DONE = "done"
    FAILED = "failed"


class RailAccount(Row, table=True):
    """A party's account on a rail. The platform's own is the party ``platform``."""

    __tablename__ = "rail_accounts"
    __table_args__ = (Index("ix_rail_accounts_tenant_id", "tenant_id"), one_of("kind", PayeeKind))

    rail: str = Field(primary_key=True)
    payee_id: str = Field(primary_key=True)
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    kind: PayeeKind = Field(sa_type=String)
    account_id: str
    updated_at: datetime = utc_field()


class RailOrder(Row, table=True):
    """An order whose payment lies frozen with its merchant on a rail. Its row is the lock of all of it."""

    __tablename__ = "rail_orders"
    __table_args__ = (Index("ix_rail_orders_merchant_id", "merchant_id"),)

    order_id: OrderId = id_field(OrderId, primary_key=True)
    merchant_id: BrandId = id_field(BrandId)
    rail: str
    merchant_account: str
    payment_id: str
    currency: str = currency_field()
    paid_minor: int = minor_field()
    fee_minor: int = minor_field()
    merchant_minor: int = minor_field()
    """The merchant's part after the rail's fee, tax included."""
    paid_at: datetime = utc_field()
    return_window_days: int
    undelivered: dict[str, int] = Field(sa_column=Column(JSONB, nullable=False))
    """Units still to be delivered, by order line."""
    delivered_at: datetime | None = utc_field(default=None, nullable=True)
    closed_at: datetime | None = utc_field(default=None, nullable=True)
    """When the rest went to the merchant."""
    split: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    """Every party's part of every line, and what refunds took of it (splits.py)."""


class RailRequest(Row, table=True):
    """One request to the rail: some receivers, or (``finish``) the rest for the merchant."""

    __tablename__ = "rail_requests"
    __table_args__ = (
        Index("uq_rail_requests_order_id_number", "order_id", "number", unique=True),
        Index("ix_rail_requests_merchant_id", "merchant_id"),
        Index(
            "ix_rail_requests_open",
            "status",
            "next_try_at",
            postgresql_where=text("status IN ('planned', 'sending', 'accepted', 'refused')"),
        ),
        one_of("status", RequestStatus),
    )

    id: RailRequestId = id_field(RailRequestId, primary_key=True)
    order_id: OrderId = id_field(OrderId, foreign_key="rail_orders.order_id")
    merchant_id: BrandId = id_field(BrandId)
    rail: str
    number: int
    attempt: int
    """Above one: receivers of an earlier request that were not paid are named again."""
    finish: bool
    status: RequestStatus = Field(sa_type=String)
    send_at: datetime = utc_field()
    send_before: datetime | None = utc_field(default=None, nullable=True)
    tries: int
    next_try_at: datetime = utc_field()
    failure: str | None = None
    ended_at: datetime | None = utc_field(default=None, nullable=True)


class RailInstruction(Row, table=True):
    """One payee of a request. ``days`` after delivery is when its share is due by its terms."""

    __tablename__ = "rail_instructions"
    __table_args__ = (
        Index("ix_rail_instructions_order_id", "order_id"),
        Index("ix_rail_instructions_payee_id", "payee_id"),
        one_of("kind", PayeeKind),
        one_of("status", InstructionStatus),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    request_id: RailRequestId = id_field(
        RailRequestId, primary_key=True, foreign_key="rail_requests.id", ondelete="CASCADE"
    )
    payee_id: str = Field(primary_key=True)
    order_id: OrderId = id_field(OrderId)
    merchant_id: BrandId = id_field(BrandId)
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    kind: PayeeKind = Field(sa_type=String)
    account_id: str
    currency: str = currency_field()
    amount_minor: int = minor_field()
    days: int
    status: InstructionStatus = Field(sa_type=String)
    failure: str | None = None
    detail_ref: str | None = None
    ended_at: datetime | None = utc_field(default=None, nullable=True)


class RailRefund(Row, table=True):
    """Money back to a customer on a rail. ``taken`` is whose part of the frozen money it is, by payee."""

    __tablename__ = "rail_refunds"
    __table_args__ = (
        Index("ix_rail_refunds_order_id", "order_id"),
        Index("ix_rail_refunds_merchant_id", "merchant_id"),
        Index(
            "ix_rail_refunds_open",
            "next_try_at",
            postgresql_where=text("status IN ('reserved', 'sending')"),
        ),
        one_of("status", RailRefundStatus),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    refund_id: RefundId = id_field(RefundId, primary_key=True)
    order_id: OrderId = id_field(OrderId, foreign_key="rail_orders.order_id")
    merchant_id: BrandId = id_field(BrandId)
    rail: str
    amount_minor: int = minor_field()
    returned_minor: int = minor_field()
    """Of it, what businesses give back of shares they were paid."""
    fee_back_minor: int = minor_field()
    taken: dict[str, int] = Field(sa_column=Column(JSONB, nullable=False))
    request_hash: str | None = None
    changes: dict[str, Any] | None = Field(default=None, sa_column=Column(JSONB, nullable=True))
    """Of a composed refund: who bears it, and what it changed in the order's split."""
    status: RailRefundStatus = Field(sa_type=String)
    next_try_at: datetime = utc_field()
    failure: str | None = None
    reserved_at: datetime = utc_field()
    ended_at: datetime | None = utc_field(default=None, nullable=True)


class RailReturn(Row, table=True):
    """A business gives back a part of one share for one refund."""

    __tablename__ = "rail_returns"
    __table_args__ = (one_of("status", RailReturnStatus), CheckConstraint("amount_minor > 0", name="amount"))

    refund_id: RefundId = id_field(RefundId, primary_key=True, foreign_key="rail_refunds.refund_id")
    request_id: RailRequestId = id_field(RailRequestId, primary_key=True)
    payee_id: str = Field(primary_key=True)
    merchant_id: BrandId = id_field(BrandId)
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    account_id: str
    amount_minor: int = minor_field()
    attempt: int
    """Part of its number at the rail."""
    status: RailReturnStatus = Field(sa_type=String)
    failure: str | None = None
