"""A purchase that was called off gives its coupon's use back: all of it refunded, and nothing of it ever shipped."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import CheckoutId
from marketplace.orders.events import RefundSettled
from marketplace.promotion.coupons import codes as coupons

_CALLED_OFF = text(
    "SELECT o.checkout_id FROM orders o WHERE o.id = :order AND NOT EXISTS (SELECT FROM orders e"
    " WHERE e.checkout_id = o.checkout_id AND (e.payment_status <> 'refunded'"
    " OR e.fulfillment_status IN ('shipped', 'delivered')))"
)


async def on_refund_settled(session: AsyncSession, event: RefundSettled, *, clock: Clock) -> None:
    checkout_id = (await session.execute(_CALLED_OFF, {"order": event.order_id})).scalar_one_or_none()
    if checkout_id is not None:
        await coupons.give_back(session, CheckoutId.of(checkout_id), now=clock.now())
