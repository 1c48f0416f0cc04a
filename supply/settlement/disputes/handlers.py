"""What disputes do when something else moved the money they hold still."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import OrderId
from supply.fulfillment.events import FulfillmentRerouted
from supply.settlement.disputes import posting
from supply.settlement.disputes.applying import parts_of
from supply.settlement.events import RefundVoided
from supply.settlement.order_book import load

_OPEN = text(
    "SELECT d.id FROM disputes d JOIN dispute_orders o ON o.dispute_id = d.id WHERE o.order_id = :order_id"
    " AND d.stage = 'open' ORDER BY d.id FOR NO KEY UPDATE OF d"
)


async def on_refund_voided(session: AsyncSession, event: RefundVoided, *, clock: Clock) -> None:
    """A refund the bank stopped gave the parties their shares back: the dispute freezes those too."""
    await _freeze_anew(session, event.order_id, clock=clock)


async def on_fulfillment_rerouted(session: AsyncSession, event: FulfillmentRerouted, *, clock: Clock) -> None:
    """Another supplier has a share of the disputed order now, and the old one less. After R14 was posted."""
    await _freeze_anew(session, event.order_id, clock=clock)


async def _freeze_anew(session: AsyncSession, order_id: OrderId, *, clock: Clock) -> None:
    for dispute_id in (await session.execute(_OPEN, {"order_id": order_id})).scalars().all():
        book = await load(session, order_id)
        part = next(p for p in await parts_of(session, dispute_id) if p.order_id == order_id)
        await posting.freeze_anew(session, part, book, now=clock.now())
