"""Holding stock for several checkouts in one statement: each has its own reservations, all or none of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import CheckoutId, OrderLineId, VariantId
from supply.inventory import queries, service
from supply.inventory.errors import InsufficientStock
from supply.inventory.service import StockRequest
from tests.factories import supply


async def test_every_checkout_gets_its_own_reservations(session: AsyncSession, clock: FixedClock) -> None:
    cream, now = VariantId.new(), clock.now()
    source = await supply.supplier(session, clock, stock={cream: 9})
    asked = {
        CheckoutId.new(): [StockRequest(OrderLineId.new(), source.location_id, cream, units)]
        for units in (1, 2, 3)
    }

    held = await service.reserve_many(session, asked, expires_at=now + timedelta(hours=1), now=now)

    for reference, (request,) in asked.items():
        (reservation,) = await queries.reservations_of(session, reference)
        assert reservation.id == held[request.line_id, source.location_id]
        assert reservation.quantity == request.quantity
    causes = set((await session.execute(text("SELECT cause FROM reservation_entries"))).scalars())
    assert causes == {str(reference) for reference in asked}
    assert set(await queries.open_reservations(session, list(asked))) == set(held.values())
    assert await service.drifts(session) == []


async def test_one_checkout_too_many_holds_nothing_for_any(session: AsyncSession, clock: FixedClock) -> None:
    cream, now = VariantId.new(), clock.now()
    source = await supply.supplier(session, clock, stock={cream: 5})
    asked = {
        CheckoutId.new(): [StockRequest(OrderLineId.new(), source.location_id, cream, 3)] for _ in range(2)
    }

    with pytest.raises(InsufficientStock) as refused:
        await service.reserve_many(session, asked, expires_at=now + timedelta(hours=1), now=now)

    assert (refused.value.requested, refused.value.available) == (6, 5)
    assert await queries.open_reservations(session, list(asked)) == []


async def test_shipments_of_many_orders_are_consumed_once_each_under_their_own_cause(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream, now = VariantId.new(), clock.now()
    source = await supply.supplier(session, clock, stock={cream: 9})
    first = (await supply.hold(session, clock, source, {cream: 2}, committed=True))[0]
    second = (await supply.hold(session, clock, source, {cream: 3}, committed=True))[0]

    for _ in range(2):
        await service.consume_many(session, [(first, 2, "parcel-1"), (second, 3, "parcel-2")], now=now)

    (level,) = await queries.availability(session, [cream])
    assert (level.on_hand, level.reserved) == (4, 0)
    events = await session.execute(
        text("SELECT source_event_id FROM stock_movements WHERE kind = 'ship' ORDER BY source_event_id")
    )
    assert [each.split(":")[0] for each in events.scalars()] == ["parcel-1", "parcel-2"]
    assert await service.drifts(session) == []
