"""Tables of the ledger. The functions of 0002_ledger_posting.sql alone write them; reads select columns."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, LargeBinary, SmallInteger, text
from sqlmodel import Field

from core.ids import AccountId, JournalId, OrderId, TenantId
from infra.db.base import Row, Xid8, currency_field, id_field, minor_field, utc_field


class LedgerAccount(Row, table=True):
    """``side`` is 1 for a debit account, -1 for a credit account; ``strict`` may not go below zero on it.

    ``tenant_id`` is whose account it is; the platform's own have none.
    """

    __tablename__ = "ledger_accounts"
    __table_args__ = (
        Index("uq_ledger_accounts_code_owner_currency", "code", "owner", "currency", unique=True),
        Index("ix_ledger_accounts_tenant_id", "tenant_id", postgresql_where=text("tenant_id IS NOT NULL")),
        Index("ix_ledger_accounts_owner", "owner"),
        CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        CheckConstraint("side IN (1, -1)", name="side"),
    )

    id: AccountId = id_field(AccountId, primary_key=True)
    code: int
    owner: str
    currency: str = currency_field()
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    side: int = Field(sa_type=SmallInteger)
    strict: bool


class LedgerJournal(Row, table=True):
    """One event in the books. ``effective_at`` is when it happened, ``posted_at`` when it was written."""

    __tablename__ = "ledger_journals"
    __table_args__ = (
        Index("uq_ledger_journals_idem", "idem", unique=True),
        Index("ix_ledger_journals_order_id", "order_id", postgresql_where=text("order_id IS NOT NULL")),
    )

    id: JournalId = id_field(JournalId, primary_key=True)
    idem: str
    body_hash: bytes = Field(sa_type=LargeBinary)
    kind: str
    order_id: OrderId | None = id_field(OrderId, default=None, nullable=True)
    provider_ref: str | None = None
    memo: str | None = None
    effective_at: datetime = utc_field()
    posted_at: datetime = utc_field()


class LedgerEntry(Row, table=True):
    """One leg: debit above zero, credit below. No foreign keys: the functions resolve both ids, and key-share
    locks of the few hot accounts by every posting would queue them behind each other. Partitioned by month of the
    journal's id; 0002_ledger_partitions.sql makes the partitions."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        Index("ix_ledger_entries_account_id_txid", "account_id", "txid", postgresql_include=["amount_minor"]),
        CheckConstraint("amount_minor <> 0", name="amount_not_zero"),
        {"postgresql_partition_by": "RANGE (journal_id)"},
    )

    journal_id: JournalId = id_field(JournalId, primary_key=True)
    leg: int = Field(sa_type=SmallInteger, primary_key=True)
    account_id: AccountId = id_field(AccountId)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    txid: int = Field(sa_type=Xid8)
    balance_after: int | None = minor_field(default=None, nullable=True)
    account_version: int | None = minor_field(default=None, nullable=True)


class LedgerBalance(Row, table=True):
    """``posted_minor`` on the account's normal side: everything of a strict account, and of a deferred one
    all entries of transactions below ``rolled_to``."""

    __tablename__ = "ledger_balances"
    __table_args__ = (
        CheckConstraint("NOT strict OR posted_minor >= 0", name="not_overdrawn"),
        {"postgresql_with": {"fillfactor": "40"}},
    )

    account_id: AccountId = id_field(AccountId, primary_key=True, foreign_key="ledger_accounts.id")
    side: int = Field(sa_type=SmallInteger)
    strict: bool
    posted_minor: int = minor_field()
    version: int = minor_field()
    rolled_to: int = Field(sa_type=Xid8)


class LedgerCarried(Row, table=True):
    """What entries that were detached for an archive came to: debit above zero, with how many they were."""

    __tablename__ = "ledger_carried"

    account_id: AccountId = id_field(AccountId, primary_key=True, foreign_key="ledger_accounts.id")
    amount_minor: int = minor_field()
    entries: int = minor_field()
