"""Splits, refunds, payees, payouts and statements. Amounts owed are in the ledger; these rows say why."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, String, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import (
    BrandId,
    OrderId,
    OrderLineId,
    PayoutBatchId,
    PayoutId,
    RefundId,
    StatementId,
    SupplierId,
    TenantId,
)
from infra.db.base import Row, Xid8, currency_field, id_field, minor_field, one_of, utc_field
from supply.settlement.composition import Part
from supply.settlement.ids import SplitLineId


class LineKind(StrEnum):
    GOODS = "goods"
    SHIPPING = "shipping"
    ADJUSTMENT = "adjustment"
    """Nothing the customer paid for: what the order owes a promoter for earlier ones (cps.md R5)."""


class RefundStatus(StrEnum):
    RESERVED = "reserved"
    """Taken from the parties, not confirmed by the provider yet."""
    SETTLED = "settled"
    VOIDED = "voided"


class PayeeStatus(StrEnum):
    PENDING = "pending"
    """The provider's account is not ready to receive transfers."""
    ACTIVE = "active"
    BLOCKED = "blocked"


class PayoutStatus(StrEnum):
    RESERVED = "reserved"
    SENDING = "sending"
    """Sent at least once; what became of it is not known."""
    PAID = "paid"
    REFUSED = "refused"


class SplitOrder(Row, table=True):
    """A captured order. Its row is the lock of everything settlement does to the order."""

    __tablename__ = "split_orders"
    __table_args__ = (Index("ix_split_orders_merchant_id", "merchant_id"),)

    order_id: OrderId = id_field(OrderId, primary_key=True)
    merchant_id: BrandId = id_field(BrandId)
    currency: str = currency_field()
    provider: str
    charge_id: str = Field(index=True)
    tax_jurisdiction: str
    paid_at: datetime = utc_field()
    return_window_days: int
    captured_minor: int = minor_field()
    refunded_minor: int = minor_field()
    releases: int
    """How many release journals it has: part of their keys."""
    goodwill_minor: int = minor_field()
    """Given to the customer by the platform, and not repaid by a refund of the parties' shares since."""
    number: str


class SplitLine(Row, table=True):
    """What one supplier delivers of one order line (``goods``), or the shipping charged for that.

    ``charged_minor`` is what the customer paid for it without tax, after discounts; the next five count what
    refunds took (composition.Returned).
    """

    __tablename__ = "split_lines"
    __table_args__ = (
        Index("ix_split_lines_order_id", "order_id"),
        one_of("kind", LineKind),
        CheckConstraint("quantity >= 0 AND delivered_quantity >= 0", name="quantity"),
    )

    id: SplitLineId = id_field(SplitLineId, primary_key=True)
    order_id: OrderId = id_field(OrderId, foreign_key="split_orders.order_id")
    order_line_id: OrderLineId = id_field(OrderLineId)
    merchant_id: BrandId = id_field(BrandId)
    supplier_id: SupplierId | None = id_field(SupplierId, default=None, nullable=True)
    kind: LineKind = Field(sa_type=String)
    quantity: int
    charged_minor: int = minor_field()
    basis_minor: int = minor_field()
    settlement_days: int
    """The supplier is due this long after delivery."""
    returned_quantity: int
    accepted_quantity: int
    by_quantity_minor: int = minor_field()
    by_value_minor: int = minor_field()
    delivered_quantity: int
    delivered_at: datetime | None = utc_field(default=None, nullable=True)
    open_holds: int
    """After-sales cases on the line: none of its parts is released while there is one."""
    sku: str
    captured_minor: int = minor_field()
    """``charged_minor`` at capture; it and the next never change."""
    discounts: dict[str, int] = Field(sa_column=Column(JSONB, nullable=False))


class SplitPart(Row, table=True):
    """One payee's part of one split line: a cell of the composition, which ``seat`` names (composition.Seat).

    ``pending_minor`` of it lies in 2000 (2400 for the platform), ``released_minor`` went on to 2010 (4000)
    and was not taken back. ``due_at`` is when the pending rest is released; tax has none.
    """

    __tablename__ = "split_parts"
    __table_args__ = (
        Index("ix_split_parts_order_id", "order_id"),
        Index(
            "ix_split_parts_due_at",
            "due_at",
            postgresql_where=text("pending_minor > 0 AND due_at IS NOT NULL"),
        ),
        Index("ix_split_parts_payee_id", "payee_id"),
        one_of("part", Part),
        CheckConstraint("pending_minor >= 0 AND released_minor >= 0", name="not_negative"),
        CheckConstraint("seat = part OR seat LIKE part || '.%'", name="seat"),
    )

    line_id: SplitLineId = id_field(SplitLineId, primary_key=True, foreign_key="split_lines.id")
    seat: str = Field(primary_key=True)
    part: Part = Field(sa_type=String)
    order_id: OrderId = id_field(OrderId)
    merchant_id: BrandId = id_field(BrandId)
    payee_id: str
    """Outer id of the party; empty for platform and tax."""
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    amount_minor: int = minor_field()
    by_line_minor: int = minor_field()
    by_amount_minor: int = minor_field()
    pending_minor: int = minor_field()
    released_minor: int = minor_field()
    due_at: datetime | None = utc_field(default=None, nullable=True)
    captured_minor: int = minor_field()
    """Its part of the capture journal and whose it was; these four never change."""
    captured_payee: str
    agreement: str
    rate_ppm: int


class SplitRefund(Row, table=True):
    """One refund: what it took from whom (``changes``), so that a failed one can be undone exactly."""

    __tablename__ = "split_refunds"
    __table_args__ = (Index("ix_split_refunds_order_id", "order_id"), one_of("status", RefundStatus))

    refund_id: RefundId = id_field(RefundId, primary_key=True)
    order_id: OrderId = id_field(OrderId)
    merchant_id: BrandId = id_field(BrandId)
    status: RefundStatus = Field(sa_type=String)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    request_hash: str
    changes: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    reserved_at: datetime = utc_field()
    ended_at: datetime | None = utc_field(default=None, nullable=True)
    provider_ref: str | None = None


class ProviderCharge(Row, table=True):
    """A captured charge at the provider: its fee, and when its money becomes available."""

    __tablename__ = "provider_charges"
    __table_args__ = (
        Index(
            "ix_provider_charges_open",
            "available_on",
            "captured_at",
            postgresql_where=text("NOT available"),
        ),
    )

    charge_id: str = Field(primary_key=True)
    provider: str
    currency: str = currency_field()
    captured_at: datetime = utc_field()
    transaction_id: str | None = None
    fee_minor: int | None = minor_field(default=None, nullable=True)
    net_minor: int | None = minor_field(default=None, nullable=True)
    available_on: datetime | None = utc_field(default=None, nullable=True)
    available: bool
    settled_currency: str | None = currency_field(default=None, nullable=True)
    """What the provider keeps it in; another one than ``currency`` when it converts (R10)."""
    asked: int = 0
    ask_again_at: datetime | None = utc_field(default=None, nullable=True)
    """When to look for its fee again, after the provider refused to show it."""


class PayeeAccount(Row, table=True):
    """Where a party is paid."""

    __tablename__ = "payees"
    __table_args__ = (
        Index("ix_payees_tenant_id", "tenant_id"),
        one_of("status", PayeeStatus),
        CheckConstraint("minimum_minor >= 0", name="minimum"),
    )

    payee_id: str = Field(primary_key=True)
    currency: str = currency_field(primary_key=True)
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    provider: str
    account_id: str
    status: PayeeStatus = Field(sa_type=String)
    minimum_minor: int = minor_field()
    updated_at: datetime = utc_field()


class PayoutBatch(Row, table=True):
    """One payout cycle; whoever starts a cycle again continues the same batch."""

    __tablename__ = "payout_batches"
    __table_args__ = (Index("uq_payout_batches_cycle", "cycle", unique=True),)

    id: PayoutBatchId = id_field(PayoutBatchId, primary_key=True)
    cycle: str
    created_at: datetime = utc_field()
    completed_at: datetime | None = utc_field(default=None, nullable=True)
    """When every party had been gone through; a batch without it was cut short and is to be continued."""


class Payout(Row, table=True):
    """One party's payout in a batch: at most one, whatever fails."""

    __tablename__ = "payouts"
    __table_args__ = (
        Index("uq_payouts_batch_id_payee_id_currency", "batch_id", "payee_id", "currency", unique=True),
        Index(
            "ix_payouts_open",
            "status",
            "next_try_at",
            postgresql_where=text("status IN ('reserved', 'sending')"),
        ),
        Index("ix_payouts_payee_id", "payee_id", "created_at"),
        one_of("status", PayoutStatus),
        CheckConstraint("amount_minor > 0", name="amount"),
    )

    id: PayoutId = id_field(PayoutId, primary_key=True)
    batch_id: PayoutBatchId = id_field(PayoutBatchId, foreign_key="payout_batches.id")
    payee_id: str
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    provider: str
    account_id: str
    status: PayoutStatus = Field(sa_type=String)
    attempt: int
    """Part of the provider's idempotency key; raised only after a look-up found nothing."""
    tries: int
    created_at: datetime = utc_field()
    first_sent_at: datetime | None = utc_field(default=None, nullable=True)
    next_try_at: datetime = utc_field()
    transfer_id: str | None = None
    reversed_minor: int = minor_field()
    failure: str | None = None
    ended_at: datetime | None = utc_field(default=None, nullable=True)


class Statement(Row, table=True):
    """A closed statement: its bytes never change. ``cutoff`` is the ledger's horizon when it was closed."""

    __tablename__ = "statements"
    __table_args__ = (
        Index(
            "uq_statements_payee_id_currency_period_from", "payee_id", "currency", "period_from", unique=True
        ),
        Index("uq_statements_payee_id_currency_number", "payee_id", "currency", "number", unique=True),
        Index("ix_statements_tenant_id", "tenant_id"),
        Index(
            "ix_statements_undecided",
            "payee_id",
            "currency",
            postgresql_where=text("decided_at IS NULL"),
        ),
        CheckConstraint("period_from < period_to", name="period"),
    )

    id: StatementId = id_field(StatementId, primary_key=True)
    payee_id: str
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    currency: str = currency_field()
    number: int
    period_from: datetime = utc_field()
    period_to: datetime = utc_field()
    opening_minor: int = minor_field()
    closing_minor: int = minor_field()
    pending_minor: int = minor_field()
    """The closing balance, split; each above zero on its normal side."""
    available_minor: int = minor_field()
    in_payout_minor: int = minor_field()
    reserved_minor: int = minor_field()
    receivable_minor: int = minor_field()
    cutoff: int = Field(sa_type=Xid8)
    resume: int = Field(sa_type=Xid8)
    """No entry from before it can belong to the next statement."""
    cycle: str
    time_zone: str
    legal_name: str
    tax_id: str
    """As the header has them."""
    previous_hash: str
    hash: str
    document: str
    """Canonical JSON."""
    closed_at: datetime = utc_field()
    decided_at: datetime | None = utc_field(default=None, nullable=True)
    """When it was decided what of it is paid out, if anything."""
