"""What a paid order or a hold changes for those who wait for their money."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import CommissionLineId, OrderId
from marketplace.promotion.commission.states import expect_payment
from marketplace.promotion.events import OrderCredited
from marketplace.promotion.fraud.events import CommissionHeld, CommissionHoldEnded

_ORDERS = text("SELECT DISTINCT order_id FROM commission_lines WHERE id = ANY(:lines) ORDER BY order_id")


async def on_order_credited(session: AsyncSession, event: OrderCredited, *, clock: Clock) -> None:
    """Paid, and not delivered yet: a day can be named all the same."""
    await expect_payment(session, event.order_id)


async def on_commission_held(session: AsyncSession, event: CommissionHeld, *, clock: Clock) -> None:
    await _expect_again(session, event.commission_line_ids)


async def on_hold_ended(session: AsyncSession, event: CommissionHoldEnded, *, clock: Clock) -> None:
    await _expect_again(session, [event.commission_line_id])


async def _expect_again(session: AsyncSession, lines: Sequence[CommissionLineId]) -> None:
    for order_id in (await session.execute(_ORDERS, {"lines": list(lines)})).scalars():
        await expect_payment(session, OrderId.of(order_id))
