"""What disputes do when something else moved the money they hold still."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import OrderId
from supply.fulfillment.events import FulfillmentRerouted
from supply.settlement.disputes.thawing import thawed
from supply.settlement.events import RefundVoided
from supply.settlement.order_book import load


async def on_refund_voided(session: AsyncSession, event: RefundVoided, *, clock: Clock) -> None:
    """A refund the bank stopped gave the parties their shares back: the dispute freezes those too."""
    await _freeze_anew(session, event.order_id, clock=clock)


async def on_fulfillment_rerouted(session: AsyncSession, event: FulfillmentRerouted, *, clock: Clock) -> None:
    """Another supplier has a share of the disputed order now, and the old one less. After R14 was posted."""
    await _freeze_anew(session, event.order_id, clock=clock)


async def _freeze_anew(session: AsyncSession, order_id: OrderId, *, clock: Clock) -> None:
    async with thawed(session, await load(session, order_id), now=clock.now()):
        pass  # the parties hold more, or less, of the order than when it was frozen
