from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from marketplace.matching import service
from marketplace.promotion import queries as promotion
from marketplace.promotion.events import OrderCredited


async def on_order_credited(session: AsyncSession, event: OrderCredited, *, clock: Clock) -> None:
    """A paid and credited order teaches matching what its community buys."""
    await service.record_purchases(session, await promotion.purchases_of(session, event.order_id))
