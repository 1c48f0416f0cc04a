"""One stretch of the timeline through the domain's own verbs, each verb once for all the orders it concerns.

Within a stretch the steps are taken in the order of an order's life; orders do not depend on one another, because
the stock of every recorded sale is there. The clock stands at the end of the stretch, facts keep their own times.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import FulfillmentOrderId, LocationId, OrderId, VariantId
from marketplace.orders import progress
from marketplace.orders.external import ExternalStorefront, known_orders, record_external_orders
from marketplace.orders.external_payment import cancel_external_orders, capture_external_orders
from services.replay.files import Source, SourceOrder
from services.replay.mapping import World, told
from services.replay.timeline import Happening, Step
from supply.fulfillment import queries as fulfillments
from supply.fulfillment import service as fulfillment
from supply.fulfillment.events import FulfillmentOrderRejected
from supply.fulfillment.machine import Status
from supply.fulfillment.service import Arrival, Departure, RejectReason
from supply.inventory import queries as stock
from supply.inventory import service as inventory
from supply.inventory.feed import StockRow
from supply.routing import handlers as rerouting
from supply.settlement.delivery import Delivered, hold_orders, lift_orders, record_deliveries

CARRIER = "correios"
RETURN_WINDOW_DAYS = 0
"""The dataset knows no returns: everybody's part is due at delivery."""
_ON_ITS_WAY = (Status.SHIPPED, Status.EXCEPTION)


@dataclass(frozen=True, slots=True)
class Scene:
    """What every step needs beside its orders."""

    source: Source
    world: World
    storefront: ExternalStorefront
    secret: str
    overdue: frozenset[int]
    """Places of orders whose deliveries come after their parts were held back."""


async def take(session: AsyncSession, scene: Scene, stretch: Sequence[Happening], *, clock: Clock) -> None:
    """All happenings of the stretch, in one transaction of the caller's. SYSTEM session."""
    by_step: dict[Step, list[Happening]] = defaultdict(list)
    for each in stretch:
        by_step[each.step].append(each)
    orders = scene.source.orders
    new = [told(orders[each.order], scene.world) for each in by_step[Step.PLACE]]
    placed = await record_external_orders(session, scene.storefront, new, secret=scene.secret, clock=clock)
    older = {orders[each.order].reference for each in stretch} - placed.keys()
    ids = placed | (await known_orders(session, scene.storefront.source, sorted(older)) if older else {})

    def order_ids(step: Step) -> list[OrderId]:
        return [ids[orders[each.order].reference] for each in by_step[step]]

    if paid := by_step[Step.PAY]:
        times = {orders[each.order].reference: each.at for each in paid}
        await capture_external_orders(
            session,
            scene.storefront.source,
            times,
            return_window_days=RETURN_WINDOW_DAYS,
            secret=scene.secret,
            clock=clock,
        )
    for each in by_step[Step.GIVE_UP]:
        await _give_up(session, orders[each.order], ids, clock=clock)
    if left := by_step[Step.SHIP]:
        await _ship(session, [(orders[each.order], each.at) for each in left], ids, clock=clock)
    if late := order_ids(Step.OVERDUE):
        await hold_orders(session, late)
    if arrived := by_step[Step.DELIVER]:
        found = [ids[orders[each.order].reference] for each in arrived if each.order in scene.overdue]
        if found:
            await lift_orders(session, found)
        await _deliver(session, [(orders[each.order], each.at) for each in arrived], ids, clock=clock)
    if gone := by_step[Step.CANCEL]:
        references = [orders[each.order].reference for each in gone]
        await cancel_external_orders(session, scene.storefront.source, references, clock=clock)
    # An order that names no goods has no fulfilment to follow.
    followed = {orders[each.order].reference for each in stretch if orders[each.order].items}
    await progress.refresh_many(session, [ids[name] for name in followed], at=clock.now())


async def _ship(
    session: AsyncSession,
    left: Sequence[tuple[SourceOrder, datetime]],
    ids: dict[str, OrderId],
    *,
    clock: Clock,
) -> None:
    parts = await fulfillments.progress_of(session, [ids[order.reference] for order, _ in left])
    departures = [
        Departure(part.id, CARRIER, f"{order.reference}-{number}", at)
        for order, at in left
        for number, part in enumerate(parts[ids[order.reference]], start=1)
        if part.status is Status.IN_PROGRESS
    ]
    await fulfillment.ship_many(session, SYSTEM, departures, clock=clock)


async def _deliver(
    session: AsyncSession,
    arrived: Sequence[tuple[SourceOrder, datetime]],
    ids: dict[str, OrderId],
    *,
    clock: Clock,
) -> None:
    parts = await fulfillments.progress_of(session, [ids[order.reference] for order, _ in arrived])
    arrivals = [
        Arrival(part.id, at)
        for order, at in arrived
        for part in parts[ids[order.reference]]
        if part.status in _ON_ITS_WAY
    ]
    told_of = await fulfillment.deliver_many(session, SYSTEM, arrivals, clock=clock)
    await record_deliveries(
        session,
        [
            Delivered(
                event.order_id,
                event.supplier_id,
                [(line.order_line_id, line.quantity) for line in event.lines],
                event.at,
            )
            for event in told_of
        ],
    )


async def _give_up(
    session: AsyncSession, order: SourceOrder, ids: dict[str, OrderId], *, clock: Clock
) -> None:
    """The seller cannot deliver what it had accepted. Its shelf counts as empty until it stocks up again."""
    order_id = ids[order.reference]
    views = (await fulfillments.of_orders(session, SYSTEM, [order_id]))[order_id]
    for view in views:
        shelves = {(view.location_id, line.variant_id) for line in view.lines}
        before = await _physical(session, shelves)
        fo = await fulfillment.cannot_complete(
            session, SYSTEM, view.id, reason=RejectReason.NOT_IN_STOCK, clock=clock
        )
        lines = tuple(line.of(line.outstanding) for line in fo.lines if line.outstanding)
        refused = FulfillmentOrderRejected(
            fo.id, fo.order_id, fo.supplier_id, lines, RejectReason.NOT_IN_STOCK, clock.now()
        )
        await rerouting.on_fulfillment_order_rejected(session, refused, clock=clock)
        rows = [
            StockRow(location, variant, view.brand_id, delta=units, event_id=_restock(view.id, variant))
            for (location, variant), units in sorted(before.items())
            if units
        ]
        await inventory.apply_stock(session, view.supplier_id, rows, clock=clock)


async def _physical(
    session: AsyncSession, shelves: set[tuple[LocationId, VariantId]]
) -> dict[tuple[LocationId, VariantId], int]:
    levels = await stock.availability(session, sorted({variant for _, variant in shelves}))
    return {
        (level.location_id, level.variant_id): level.on_hand
        for level in levels
        if (level.location_id, level.variant_id) in shelves
    }


def _restock(order_id: FulfillmentOrderId, variant_id: VariantId) -> str:
    return f"restock:{order_id}:{variant_id}"
