"""The provider's book and our own postings on its accounts, side by side, and every run that compared them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Column, Index, String, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

from core.ids import BrandId, JournalId, PayoutId
from infra.db.base import Row, Xid8, currency_field, id_field, minor_field, one_of, utc_field
from supply.settlement.ids import PlatformPayoutId, ReconciliationRunId


class State(StrEnum):
    OPEN = "open"
    SUSPENDED = "suspended"
    """Unexplained for too long: a provider's row whose money lies in suspense (R12)."""
    MATCHED = "matched"


class Role(StrEnum):
    """What a posting on the provider's accounts stands for."""

    AMOUNT = "amount"
    FEE = "fee"
    CONVERSION = "conversion"


class Bearer(StrEnum):
    PLATFORM = "platform"
    MERCHANT = "merchant"


class PlatformPayoutStatus(StrEnum):
    REQUESTED = "requested"
    """Wanted; the provider was not asked yet, or did not answer."""
    IN_TRANSIT = "in_transit"
    ARRIVED = "arrived"
    RETURNED = "returned"
    """The bank sent it back; the money is at the provider again."""
    REFUSED = "refused"


class ProviderTransaction(Row, table=True):
    """One row of the provider's own book (Stripe: a balance transaction), signed from our side.

    ``ref`` is what it is about (the source, or the row itself), ``inward`` whether money came: both together
    are the group it is matched in.
    """

    __tablename__ = "psp_txn"
    __table_args__ = (
        one_of("state", State),
        Index("ix_psp_txn_ref", "provider", "ref"),
        Index("ix_psp_txn_created_at", "provider", "created_at"),
        Index("ix_psp_txn_unmatched", "provider", "created_at", postgresql_where=text("state <> 'matched'")),
    )

    provider: str = Field(primary_key=True)
    id: str = Field(primary_key=True)
    type: str
    reporting_category: str
    source_id: str | None = None
    ref: str
    inward: bool
    amount_minor: int = minor_field()
    fee_minor: int = minor_field()
    net_minor: int = minor_field()
    currency: str = currency_field()
    exchange_rate: str | None = None
    created_at: datetime = utc_field()
    available_on: datetime = utc_field()
    read_at: datetime = utc_field()
    state: State = Field(sa_type=String)
    finding: str | None = None
    suspended_in: int | None = None
    """The account, 1000 or 1010, that R12 booked ``suspended_minor`` on."""
    suspended_minor: int = minor_field(default=0)
    matched_at: datetime | None = utc_field(default=None, nullable=True)


class ProviderPosting(Row, table=True):
    """What one journal did to the provider's accounts (1000 and 1010 together) in one currency."""

    __tablename__ = "psp_postings"
    __table_args__ = (
        one_of("role", Role),
        one_of("state", State),
        Index("ix_psp_postings_ref", "provider", "ref"),
        Index(
            "ix_psp_postings_unmatched", "provider", "posted_at", postgresql_where=text("state <> 'matched'")
        ),
    )

    journal_id: JournalId = id_field(JournalId, primary_key=True)
    currency: str = currency_field(primary_key=True)
    provider: str
    key: str
    kind: str
    role: Role = Field(sa_type=String)
    ref: str
    inward: bool
    amount_minor: int = minor_field()
    available_minor: int = minor_field()
    """The part of it on 1010."""
    posted_at: datetime = utc_field()
    state: State = Field(sa_type=String)
    finding: str | None = None


class ReconciliationCursor(Row, table=True):
    """How far each side was read; locked by the run that matches."""

    __tablename__ = "psp_cursors"

    provider: str = Field(primary_key=True)
    rows_to: datetime | None = utc_field(default=None, nullable=True)
    postings_to: int = Field(sa_type=Xid8)
    starts_at: datetime | None = utc_field(default=None, nullable=True)
    """Rows created before are not read: the account's life before our books. None: from its beginning."""
    opened_at: datetime | None = utc_field(default=None, nullable=True)
    """When the opening balance was booked."""


class OpeningBalance(Row, table=True):
    """What a provider held by rows before the cut-off, in one currency; booked against 3000."""

    __tablename__ = "psp_openings"

    provider: str = Field(primary_key=True)
    currency: str = currency_field(primary_key=True)
    starts_at: datetime = utc_field()
    available_minor: int = minor_field()
    pending_minor: int = minor_field()
    booked_at: datetime = utc_field()
    booked_by: str


class ReconciliationRun(Row, table=True):
    __tablename__ = "reconciliation_runs"
    __table_args__ = (Index("ix_reconciliation_runs_provider", "provider", "id"),)

    id: ReconciliationRunId = id_field(ReconciliationRunId, primary_key=True)
    provider: str
    cause: str
    """What started it: schedule, payout or demand."""
    started_at: datetime = utc_field()
    ended_at: datetime = utc_field()
    rows_from: datetime | None = utc_field(default=None, nullable=True)
    rows_to: datetime = utc_field()
    rows_read: int
    rows_new: int
    matched: int
    differences: int
    ok: bool
    report: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))


class PlatformPayout(Row, table=True):
    """R11: the platform's own money on its way from the provider to its bank."""

    __tablename__ = "platform_payouts"
    __table_args__ = (
        one_of("status", PlatformPayoutStatus),
        UniqueConstraint("reference"),
        Index("uq_platform_payouts_payout_id", "payout_id", unique=True),
        Index(
            "ix_platform_payouts_open",
            "next_try_at",
            postgresql_where=text("status IN ('requested', 'in_transit')"),
        ),
    )

    id: PlatformPayoutId = id_field(PlatformPayoutId, primary_key=True)
    provider: str
    currency: str = currency_field()
    amount_minor: int = minor_field()
    reference: str
    """The operator's own name of it: asked for again under it, nothing happens twice."""
    requested_by: str
    status: PlatformPayoutStatus = Field(sa_type=String)
    payout_id: str | None = None
    failure: str | None = None
    tries: int
    next_try_at: datetime = utc_field()
    requested_at: datetime = utc_field()
    arrives_at: datetime | None = utc_field(default=None, nullable=True)
    ended_at: datetime | None = utc_field(default=None, nullable=True)


class ProcessingFeePolicy(Row, table=True):
    """R2b: whether a merchant bears the provider's fee on its orders. Without a row the platform does."""

    __tablename__ = "processing_fee_policies"
    __table_args__ = (one_of("bearer", Bearer),)

    merchant_id: BrandId = id_field(BrandId, primary_key=True)
    bearer: Bearer = Field(sa_type=String)
    reason: str
    decided_by: str
    decided_at: datetime = utc_field()


class PayoutCost(Row, table=True):
    """What is transferred for a payout whose money is kept in another currency; settled before it is first sent."""

    __tablename__ = "payout_costs"
    __table_args__ = (CheckConstraint("amount_minor > 0", name="amount"),)

    payout_id: PayoutId = id_field(PayoutId, primary_key=True)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    rate: str


class CurrencyRate(Row, table=True):
    """The last rate seen or set: settlement units for one unit of ``currency``, a decimal string."""

    __tablename__ = "currency_rates"

    currency: str = currency_field(primary_key=True)
    settled_currency: str = currency_field(primary_key=True)
    rate: str
    source: str
    observed_at: datetime = utc_field()
