"""What a sharing rail's plan does when something was delivered."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from infra.payments.sharing import SharingRail
from supply.fulfillment.events import FulfillmentOrderDelivered
from supply.settlement.rails.recording import rail_of, record_shared_delivery


async def on_fulfillment_delivered(
    session: AsyncSession,
    event: FulfillmentOrderDelivered,
    *,
    clock: Clock,
    rails: Mapping[str, SharingRail],
) -> None:
    """Orders paid on another rail, or on one we no longer reach, are left alone."""
    rail = rails.get(await rail_of(session, event.order_id) or "")
    if rail is not None:
        quantities = [(line.order_line_id, line.quantity) for line in event.lines]
        await record_shared_delivery(
            session, event.order_id, quantities, rail=rail.capabilities(), at=event.at
        )
