"""What settlement does when something was delivered or found another supplier."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from supply.fulfillment.events import FulfillmentOrderDelivered, FulfillmentRerouted
from supply.settlement.delivery import record_delivery
from supply.settlement.reroute import MovedUnits, reroute


async def on_fulfillment_delivered(
    session: AsyncSession, event: FulfillmentOrderDelivered, *, clock: Clock
) -> None:
    """The return window and the supplier's settlement days begin."""
    quantities = [(line.order_line_id, line.quantity) for line in event.lines]
    await record_delivery(session, event.order_id, event.supplier_id, quantities, at=event.at)


async def on_fulfillment_rerouted(session: AsyncSession, event: FulfillmentRerouted, *, clock: Clock) -> None:
    """R14."""
    moves = [
        MovedUnits(
            change.order_line_id, change.quantity, change.from_supplier, change.to_supplier,
            change.to_cost_minor,
        )
        for change in event.changes
    ]  # fmt: skip
    await reroute(
        session,
        event.order_id,
        moves,
        reference=str(event.to_fo),
        now=clock.now(),
        from_freight_minor=event.from_freight_minor,
        to_freight_minor=event.to_freight_minor,
    )
