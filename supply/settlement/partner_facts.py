"""What the books tell of a brand as a partner: whose payments were disputed, what orders leave it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId

_DISPUTED = text(
    "SELECT DISTINCT o.order_id FROM dispute_orders o JOIN disputes d ON d.id = o.dispute_id"
    " WHERE d.opened_at >= :since AND d.stage IN ('open', 'won', 'lost')"
)

_LEFT = text(
    "SELECT order_id, sum(amount_minor - by_line_minor - by_amount_minor)::bigint AS left_minor FROM split_parts"
    " WHERE order_id = ANY(:orders) AND payee_id = :payee GROUP BY order_id"
)


async def disputed_orders(session: AsyncSession, since: datetime) -> list[OrderId]:
    """Orders whose payment a buyer's bank took back, or tried to, since then. Needs a SYSTEM session."""
    return [OrderId.of(found) for found in (await session.execute(_DISPUTED, {"since": since})).scalars()]


async def left_of_orders(
    session: AsyncSession, payee_id: str, order_ids: Sequence[OrderId]
) -> dict[OrderId, int]:
    """What each order leaves a party after everybody else's part and all refunds, in minor units; orders without a
    part of it are left out. Needs a SYSTEM session.
    """
    rows = await session.execute(_LEFT, {"orders": list(order_ids), "payee": payee_id})
    return {OrderId.of(row.order_id): row.left_minor for row in rows}
