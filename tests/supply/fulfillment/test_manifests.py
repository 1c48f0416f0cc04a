"""Many parcels at once do to each order what one parcel does: same states, same stock, same events."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, FulfillmentOrderId, VariantId
from supply.fulfillment import queries, service
from supply.fulfillment.errors import FulfillmentOrderNotFound, TrackingNumberUsed
from supply.fulfillment.machine import FulfillmentActionNotAllowed, Status
from supply.fulfillment.service import Arrival, Departure
from supply.inventory import queries as stock
from supply.inventory import service as inventory
from supply.suppliers.models import AcceptMode
from tests.factories import supply


async def accepted(
    session: AsyncSession, clock: FixedClock, count: int
) -> tuple[list[FulfillmentOrderId], VariantId]:
    cream, brand = VariantId.new(), BrandId.new()
    await supply.supplier(
        session, clock, stock={cream: 50}, brand_id=brand, accept_mode=AcceptMode.AUTO
    )  # fmt: skip
    placed = [await supply.routed_order(session, clock, brand, {cream: 2}) for _ in range(count)]
    return [fo for _, (fo,) in placed], cream


async def states(session: AsyncSession, orders: list[FulfillmentOrderId]) -> list[Status]:
    return [(await queries.fulfillment_order(session, SYSTEM, fo)).status for fo in orders]


async def test_a_manifest_ships_and_delivers_every_order_on_its_own_date(
    session: AsyncSession, clock: FixedClock
) -> None:
    orders, cream = await accepted(session, clock, 3)
    left = [clock.now() + timedelta(hours=n) for n in range(3)]
    clock.advance(timedelta(days=1))

    shipments = await service.ship_many(
        session,
        SYSTEM,
        [Departure(fo, "EMS", f"no-{n}", left[n]) for n, fo in enumerate(orders)],
        clock=clock,
    )
    clock.advance(timedelta(days=3))
    arrived = [left[n] + timedelta(days=n + 1) for n in range(3)]
    events = await service.deliver_many(
        session, SYSTEM, [Arrival(fo, arrived[n]) for n, fo in enumerate(orders)], clock=clock
    )

    assert len(set(shipments)) == 3
    views = [await queries.fulfillment_order(session, SYSTEM, fo) for fo in orders]
    assert [view.status for view in views] == [Status.DELIVERED] * 3
    assert [(view.shipped_at, view.delivered_at) for view in views] == list(zip(left, arrived, strict=True))
    assert [view.lines[0].delivered for view in views] == [2, 2, 2]
    assert [(event.fulfillment_order_id, event.at, event.complete) for event in events] == [
        (fo, arrived[n], True) for n, fo in enumerate(orders)
    ]
    (level,) = await stock.availability(session, [cream])
    assert (level.on_hand, level.reserved) == (44, 0)
    assert await inventory.drifts(session) == []
    recorded = await session.execute(text("SELECT name, count(*) AS times FROM outbox GROUP BY name"))
    assert {(row.name, row.times) for row in recorded} >= {
        ("fulfillment.shipped", 3),
        ("fulfillment.delivered", 3),
    }


async def test_a_manifest_with_one_order_that_cannot_ship_ships_none(
    session: AsyncSession, clock: FixedClock
) -> None:
    orders, _ = await accepted(session, clock, 2)
    now = clock.now()
    await service.ship_many(session, SYSTEM, [Departure(orders[0], "ems", "first", now)], clock=clock)

    for other, error in [
        (Departure(orders[0], "ems", "again", now), FulfillmentActionNotAllowed),
        (Departure(FulfillmentOrderId.new(), "ems", "nobody", now), FulfillmentOrderNotFound),
    ]:
        with pytest.raises(error):
            await service.ship_many(
                session, SYSTEM, [Departure(orders[1], "ems", "second", now), other], clock=clock
            )
    with pytest.raises(TrackingNumberUsed):
        await service.ship_many(session, SYSTEM, [Departure(orders[1], "ems", "first", now)], clock=clock)

    assert await states(session, orders) == [Status.SHIPPED, Status.IN_PROGRESS]


async def test_dates_in_an_impossible_order_are_kept_and_flagged(
    session: AsyncSession, clock: FixedClock
) -> None:
    orders, _ = await accepted(session, clock, 1)
    now = clock.now()
    early = now - timedelta(days=2)

    await service.ship_many(session, SYSTEM, [Departure(orders[0], "ems", "one", early)], clock=clock)
    await service.deliver_many(session, SYSTEM, [Arrival(orders[0], early - timedelta(days=1))], clock=clock)

    view = await queries.fulfillment_order(session, SYSTEM, orders[0])
    assert (view.shipped_at, view.delivered_at) == (early, early - timedelta(days=1))
    assert view.quirks == ("HANDED_OVER_BEFORE_SUBMITTED", "DELIVERED_BEFORE_HANDED_OVER")


async def test_a_parcel_that_has_not_left_cannot_arrive(session: AsyncSession, clock: FixedClock) -> None:
    orders, _ = await accepted(session, clock, 1)

    with pytest.raises(FulfillmentActionNotAllowed):
        await service.deliver_many(session, SYSTEM, [Arrival(orders[0], clock.now())], clock=clock)
