"""What the books tell of a brand as a partner: whose payments were disputed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId

_DISPUTED = text(
    "SELECT DISTINCT o.order_id FROM dispute_orders o JOIN disputes d ON d.id = o.dispute_id"
    " WHERE d.opened_at >= :since AND d.stage IN ('open', 'won', 'lost')"
)


async def disputed_orders(session: AsyncSession, since: datetime) -> list[OrderId]:
    """Orders whose payment a buyer's bank took back, or tried to, since then. Needs a SYSTEM session."""
    return [OrderId.of(found) for found in (await session.execute(_DISPUTED, {"since": since})).scalars()]
