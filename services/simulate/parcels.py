"""Parcels: what reaches customers, and which supplier takes units over.

A parcel is written as fulfilment leaves it when it was delivered; how it got there has proofs of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.errors import LianyuError
from core.ids import FulfillmentLineId, FulfillmentOrderId, LocationId
from infra.db.base import table_of
from infra.db.rows import insert_rows
from services.simulate.baskets import PlacedLine, PlacedOrder
from services.simulate.carrying import survive, was_done
from services.simulate.world import World
from supply.fulfillment.machine import RequestStatus, Status
from supply.fulfillment.models import FulfillmentLine, FulfillmentOrder
from supply.settlement import service as settlement
from supply.settlement.delivery import Delivered, record_deliveries
from supply.settlement.reroute import MovedUnits

AT_ONCE = 25
_TABLES = table_of(FulfillmentOrder), table_of(FulfillmentLine)


async def deliver(world: World) -> str:
    """Parcels reach their customers: whole orders, or some lines of them."""
    dice, waiting = world.dice, [order for order in world.orders if not order.delivered]
    chosen = dice.sample(waiting, min(len(waiting), dice.randrange(1, AT_ONCE)))
    parcels = []
    for order in chosen:
        whole = dice.randrange(8) > 0
        lines = [line for line in order.lines if line.id not in order.arrived]
        parcels += [(order, line) for line in (lines if whole else lines[: len(lines) // 2])]

    async def record() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            await record_deliveries(session, [each for parcel in parcels for each in _news(*parcel, world)])
            await _write(session, parcels, world)

    _, cut = await survive(world, record)
    if was_done(cut):
        for order, line in parcels:
            order.arrived.add(line.id)
    return f"{len(parcels)} parcels of {len(chosen)} orders arrive{cut}"


def _news(order: PlacedOrder, line: PlacedLine, world: World) -> list[Delivered]:
    return [
        Delivered(order.id, supplier_id, [(line.id, units)], world.now)
        for supplier_id, units in line.pieces.items()
        if units
    ]


async def _write(
    session: AsyncSession, parcels: Sequence[tuple[PlacedOrder, PlacedLine]], world: World
) -> None:
    """One delivered fulfilment order for each line and supplier."""
    orders, lines, now = list[dict[str, Any]](), list[dict[str, Any]](), world.now
    for order, line in parcels:
        for supplier_id, units in line.pieces.items():
            if not units:
                continue
            id = FulfillmentOrderId.new()
            whose = {"supplier_id": supplier_id, "brand_id": order.merchant_id}
            orders.append(
                {
                    **whose, "id": id, "order_id": order.id, "reference": order.checkout_id,
                    "location_id": LocationId.new(), "attempt_no": 1, "status": Status.DELIVERED.value,
                    "request_status": RequestStatus.ACCEPTED.value, "address": {}, "dest_zone": "",
                    "currency": order.currency, "freight_minor": 0, "quirks": [], "delivered_at": now,
                    "created_at": now, "updated_at": now, "version": 1,
                }
            )  # fmt: skip
            lines.append(
                {
                    **whose, "id": FulfillmentLineId.new(), "fulfillment_order_id": id,
                    "order_line_id": line.id, "variant_id": line.variant_id, "sku": "SKU", "title": "Thing",
                    "weight_g": 0, "quantity": units, "accepted": units, "rejected": 0, "cancelled": 0,
                    "shipped": units, "delivered": units, "returned": 0, "unit_cost_minor": 0,
                    "price_version": 1,
                }
            )  # fmt: skip
    for table, rows in zip(_TABLES, (orders, lines), strict=True):
        await insert_rows(session, table, rows)


async def reroute(world: World) -> str:
    """A supplier cannot deliver after all: another takes some units over, at its own cost (R14)."""
    waiting = [order for order in world.orders if not order.delivered]
    if not waiting:
        return "everything is delivered"
    order = world.dice.choice(waiting)
    line = world.dice.choice([line for line in order.lines if line.id not in order.arrived])
    supplier_id, most = world.dice.choice([piece for piece in line.pieces.items() if piece[1]])
    other, cost = world.dice.choice(world.market.suppliers), world.dice.randrange(0, 4_000)
    units = world.dice.randrange(1, most + 1)
    move = MovedUnits(line.id, units, supplier_id, other, cost)

    async def take_over() -> None:
        async with world.db.unit_of_work(SYSTEM) as session:
            await settlement.reroute(session, order.id, [move], reference=f"step {world.step}", now=world.now)

    try:
        _, cut = await survive(world, take_over)
    except LianyuError as refused:
        return f"re-route of {order.name}: {refused.code}"
    if was_done(cut):
        line.pieces.subtract({supplier_id: units})
        line.pieces.update({other: units})
        world.happened["re-routes"] += 1
    return f"re-route of {units} units of {order.name}{cut}"
