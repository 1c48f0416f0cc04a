"""What a brand owes of the commission of its own checkout's sales."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, OrderId

_DEBT = text(
    "SELECT coalesce((SELECT n.balance_minor FROM ledger_balances_now n WHERE n.code = 1100"
    "  AND n.owner = 'party:' || :payee AND n.currency = :currency), 0)::bigint AS owed_minor,"
    " coalesce(sum(d.owed_minor - d.covered_minor) FILTER (WHERE d.claimed_at IS NOT NULL), 0)::bigint AS due_minor,"
    " coalesce(sum(d.owed_minor) FILTER (WHERE d.claimed_at IS NULL), 0)::bigint AS later_minor,"
    " min(d.claimed_at) FILTER (WHERE d.covered_minor < d.owed_minor) AS since"
    " FROM commission_dues d WHERE d.payee_id = :payee AND d.currency = :currency"
)
_OF_ORDERS = text(
    "SELECT order_id, sum(owed_minor)::bigint AS owed_minor, sum(covered_minor)::bigint AS covered_minor,"
    " min(claimed_at) AS claimed_at FROM commission_dues WHERE order_id = ANY(:orders) GROUP BY order_id"
)


@dataclass(frozen=True, slots=True)
class CommissionDebt:
    """``owed_minor``: what the brand owes in all, due now. ``commission_minor`` of it is commission whose payees wait
    for it, since ``since`` the oldest; ``later_minor`` is commission whose return window is still open."""

    currency: str
    owed_minor: int
    commission_minor: int
    later_minor: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class OrderDue:
    """Of one order: commission that stands, how much of it came, and since when it is due."""

    owed_minor: int
    covered_minor: int
    claimed_at: datetime | None


async def commission_debt(session: AsyncSession, brand_id: BrandId, currency: str) -> CommissionDebt:
    """Of the session's own brand, or of any for the platform."""
    row = (await session.execute(_DEBT, {"payee": str(brand_id), "currency": currency})).one()
    # What came and is not counted yet: commission is never more than all that is owed.
    commission = min(row.due_minor, row.owed_minor)
    return CommissionDebt(
        currency, row.owed_minor, commission, row.later_minor, row.since if commission else None
    )


async def dues_of(session: AsyncSession, order_ids: list[OrderId]) -> dict[OrderId, OrderDue]:
    rows = await session.execute(_OF_ORDERS, {"orders": order_ids})
    return {
        OrderId.of(row.order_id): OrderDue(row.owed_minor, row.covered_minor, row.claimed_at) for row in rows
    }
