"""Where parties are paid: their accounts at the provider."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import TenantId
from supply.settlement.models import PayeeStatus
from supply.settlement.parties import tenant_of

_REGISTER = text(
    "INSERT INTO payees"
    " (payee_id, currency, tenant_id, provider, account_id, status, minimum_minor, updated_at)"
    " VALUES (:payee_id, :currency, :tenant_id, :provider, :account_id, :status, :minimum_minor, :now)"
    " ON CONFLICT (payee_id, currency) DO UPDATE SET provider = excluded.provider,"
    " account_id = excluded.account_id, status = excluded.status, minimum_minor = excluded.minimum_minor,"
    " updated_at = excluded.updated_at"
)
_OF = text("SELECT * FROM payees WHERE payee_id = ANY(:ids) ORDER BY payee_id, currency")


@dataclass(frozen=True, slots=True)
class PayeeFacts:
    payee_id: str
    currency: str
    provider: str
    account_id: str
    status: PayeeStatus
    minimum_minor: int


async def register_payee(
    session: AsyncSession,
    payee_id: str,
    *,
    currency: str,
    account_id: str,
    now: datetime,
    provider: str = "stripe",
    status: PayeeStatus = PayeeStatus.ACTIVE,
    minimum_minor: int = 0,
    tenant_id: TenantId | None = None,
) -> None:
    """Set where a party is paid in a currency. Below ``minimum_minor`` nothing is paid and all is carried."""
    values = {
        "payee_id": payee_id, "currency": currency, "tenant_id": tenant_id or tenant_of(payee_id),
        "provider": provider, "account_id": account_id, "status": status.value,
        "minimum_minor": minimum_minor, "now": now,
    }  # fmt: skip
    await session.execute(_REGISTER, values)


async def payees_of(session: AsyncSession, payee_ids: list[str]) -> list[PayeeFacts]:
    rows = await session.execute(_OF, {"ids": payee_ids})
    return [
        PayeeFacts(
            row.payee_id,
            row.currency,
            row.provider,
            row.account_id,
            PayeeStatus(row.status),
            row.minimum_minor,
        )
        for row in rows
    ]
