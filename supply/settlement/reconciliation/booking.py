"""What only the provider's rows can tell: a charge's fee, the provider's own charges, reserves, conversions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.money import Money
from infra.db.session import Database
from infra.payments.gateway import BalanceTransaction
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.currency_positions import Conversion, record_conversion
from supply.settlement.kinds import Kind
from supply.settlement.parties import platform_account, provider_account
from supply.settlement.provider_funds import ChargeFee, record_fees

OWN_CHARGES = ("stripe_fee", "tax_fee", "stripe_fx_fee")
RESERVES = ("reserve_transaction", "reserve_hold", "reserve_release", "reserved_funds")
_FEES = text(
    "SELECT t.*, c.currency AS presented, (SELECT sum(o.captured_minor) FROM split_orders o"
    "  WHERE o.charge_id = c.charge_id) AS presented_minor"
    " FROM psp_txn t JOIN provider_charges c ON c.charge_id = t.source_id AND c.provider = t.provider"
    " WHERE t.provider = :provider AND t.state <> 'matched' AND t.type IN ('charge', 'payment')"
    " AND c.transaction_id IS NULL ORDER BY t.created_at, t.id"
)
_OF_TYPES = text(
    "SELECT * FROM psp_txn WHERE provider = :provider AND state = 'open' AND type = ANY(:types)"
    " AND net_minor <> 0 ORDER BY created_at, id"
)
# A group of one row whose journals are in another currency than the row, and not converted yet.
_TO_CONVERT = text(
    "SELECT t.id, t.currency, t.amount_minor, t.created_at, t.exchange_rate, p.currency AS presented,"
    " sum(p.amount_minor)::bigint AS presented_minor, sum(p.available_minor) <> 0 AS available"
    " FROM psp_txn t JOIN psp_postings p ON p.provider = t.provider AND p.ref = t.ref AND p.inward = t.inward"
    "  AND p.role = 'amount' AND p.currency <> t.currency"
    " WHERE t.provider = :provider AND t.state <> 'matched'"
    " AND NOT EXISTS (SELECT FROM psp_postings c WHERE c.provider = t.provider AND c.ref = t.ref"
    "  AND c.inward = t.inward AND c.role = 'conversion')"
    " AND NOT EXISTS (SELECT FROM psp_txn o WHERE o.provider = t.provider AND o.ref = t.ref"
    "  AND o.inward = t.inward AND o.id <> t.id)"
    " GROUP BY t.id, t.currency, t.amount_minor, t.created_at, t.exchange_rate, p.currency ORDER BY t.id"
)


async def book_fees(db: Database, provider: str, *, now: datetime) -> int:
    """R2 (and R10, R2b) of charges that are ours and whose fee nobody asked for yet."""
    async with db.reading(SYSTEM) as session:
        rows = (await session.execute(_FEES, {"provider": provider})).all()
    fees = [
        ChargeFee(row.source_id, _transaction(row), Money(int(row.presented_minor), row.presented))
        if row.presented != row.currency and row.presented_minor
        else ChargeFee(row.source_id, _transaction(row), Money(row.amount_minor, row.currency))
        for row in rows
    ]
    await record_fees(db, provider, fees, now=now)
    return len(rows)


async def book_own_charges(session: AsyncSession, provider: str, *, now: datetime) -> int:
    """What the provider charges us for itself is an expense (5000); what it holds back stays ours (1040)."""
    journals = []
    for row in await session.execute(_OF_TYPES, {"provider": provider, "types": list(OWN_CHARGES)}):
        expense = platform_account(Code.PROVIDER_FEE, row.currency)
        journals.append(_moved(row, f"fee:{row.id}", Kind.PROVIDER_CHARGE, expense))
    for row in await session.execute(_OF_TYPES, {"provider": provider, "types": list(RESERVES)}):
        reserve = provider_account(Code.PROVIDER_RESERVED, provider, row.currency)
        journals.append(_moved(row, f"reserve:{row.id}", Kind.PROVIDER_RESERVE, reserve))
    await ledger.post_together(session, journals, now=now)
    return len(journals)


async def book_conversions(session: AsyncSession, provider: str, *, now: datetime) -> int:
    """R10 and R10b of whatever was booked in the customer's currency and settled in another."""
    rows = (await session.execute(_TO_CONVERT, {"provider": provider})).all()
    for row in rows:
        conversion = Conversion(
            transaction_id=row.id,
            provider=provider,
            presented=Money(row.presented_minor, row.presented),
            settled=Money(row.amount_minor, row.currency),
            account=Code.PROVIDER_AVAILABLE if row.available else Code.PROVIDER_PENDING,
            at=row.created_at,
            rate=row.exchange_rate,
        )
        await record_conversion(session, conversion, now=now)
    return len(rows)


def _moved(row: Any, key: str, kind: Kind, other: Any) -> Journal:
    """``net`` of the row on the available account against ``other``; either sign."""
    legs = (
        debit(provider_account(Code.PROVIDER_AVAILABLE, row.provider, row.currency), row.net_minor),
        credit(other, row.net_minor),
    )
    return Journal(key, kind, legs, row.created_at, None, row.id)


def _transaction(row: Any) -> BalanceTransaction:
    return BalanceTransaction(
        id=row.id,
        type=row.type,
        reporting_category=row.reporting_category,
        source_id=row.source_id,
        amount_minor=row.amount_minor,
        fee_minor=row.fee_minor,
        net_minor=row.net_minor,
        currency=row.currency,
        status="",
        exchange_rate=row.exchange_rate,
        created_at=row.created_at,
        available_on=row.available_on,
    )
