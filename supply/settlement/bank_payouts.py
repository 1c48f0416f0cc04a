"""What the provider does with a party's own balance: its payouts to the bank.

After a transfer the money is the party's (money.md §1), so that nothing is posted. A row says how each bank payout
stands, so that a party sees one that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import TenantId
from core.pagination import Page, PageRequest, page_of
from infra.db.base import Row, currency_field, id_field, minor_field, utc_field
from infra.db.session import Database
from infra.payments.gateway import PaymentGateway

_PAYEES = text(
    "SELECT payee_id, tenant_id FROM payees WHERE account_id = :account_id ORDER BY payee_id LIMIT 1"
)
_KEEP = text(
    "INSERT INTO bank_payouts (payout_id, account_id, payee_id, tenant_id, currency, amount_minor, status,"
    " failure, arrives_at, created_at, updated_at) VALUES (:payout_id, :account_id, :payee_id, :tenant_id,"
    " :currency, :amount_minor, :status, :failure, :arrives_at, :created_at, :now)"
    " ON CONFLICT (payout_id) DO UPDATE SET status = excluded.status, failure = excluded.failure,"
    " arrives_at = excluded.arrives_at, updated_at = excluded.updated_at"
)
_PAGE = text(
    "SELECT * FROM bank_payouts WHERE (CAST(:payee_id AS text) IS NULL OR payee_id = :payee_id)"
    " AND (CAST(:at AS timestamptz) IS NULL OR (created_at, payout_id) < (:at, :payout_id))"
    " ORDER BY created_at DESC, payout_id DESC LIMIT :limit"
)


class BankPayout(Row, table=True):
    """One payout of a connected account; ``status`` is the provider's word."""

    __tablename__ = "bank_payouts"
    __table_args__ = (
        Index("ix_bank_payouts_payee_id_created_at", "payee_id", "created_at"),
        Index("ix_bank_payouts_tenant_id", "tenant_id"),
    )

    payout_id: str = Field(primary_key=True)
    account_id: str
    payee_id: str
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    currency: str = currency_field()
    amount_minor: int = minor_field()
    status: str
    failure: str | None = None
    arrives_at: datetime = utc_field()
    created_at: datetime = utc_field()
    updated_at: datetime = utc_field()


@dataclass(frozen=True, slots=True)
class BankPayoutView:
    payout_id: str
    payee_id: str
    currency: str
    amount_minor: int
    status: str
    failure: str | None
    arrives_at: datetime
    created_at: datetime


async def refresh_bank_payout(
    db: Database, payout_id: str, *, account_id: str, payments: PaymentGateway, clock: Clock
) -> None:
    """Fetch a connected account's payout and keep how it stands. An account that is nobody's is left alone.

    Raises what the gateway raises.
    """
    payout = await payments.retrieve_payout(payout_id, account=account_id)
    async with db.unit_of_work(SYSTEM) as session:
        payee = (await session.execute(_PAYEES, {"account_id": account_id})).one_or_none()
        if payee is None:
            return
        values = {
            "payout_id": payout.id, "account_id": account_id, "payee_id": payee.payee_id,
            "tenant_id": payee.tenant_id, "currency": payout.currency, "amount_minor": payout.amount_minor,
            "status": payout.status, "failure": payout.failure_code, "arrives_at": payout.arrival_at,
            "created_at": payout.created_at, "now": clock.now(),
        }  # fmt: skip
        await session.execute(_KEEP, values)


async def bank_payouts_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, payee_id: str | None = None
) -> Page[BankPayoutView]:
    """Newest first. ``actor`` sees those of its own accounts."""
    at, last = (datetime.fromisoformat(page.key[0]), page.key[1]) if page.key else (None, None)
    where: dict[str, Any] = {"payee_id": payee_id, "at": at, "payout_id": last, "limit": page.first + 1}
    rows: Sequence[Any] = (await session.execute(_PAGE, where)).all()
    views = [
        BankPayoutView(
            row.payout_id, row.payee_id, row.currency, row.amount_minor, row.status, row.failure,
            row.arrives_at, row.created_at,
        )
        for row in rows
    ]  # fmt: skip
    return page_of(views, page, lambda view: (view.created_at.isoformat(), view.payout_id))
