from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CheckoutId, OrderLineId, VariantId
from infra.db.session import Database
from supply.inventory import queries, service
from supply.inventory.errors import InsufficientStock, ReservationExpired, ReservationNotOpen
from supply.inventory.models import ReservationState
from supply.inventory.service import StockRequest
from tests.factories import supply


async def _level(session: AsyncSession, variant: VariantId) -> queries.StockView:
    (level,) = await queries.availability(session, [variant])
    return level


async def test_a_hold_takes_units_off_what_can_be_sold(session: AsyncSession, clock: FixedClock) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})

    await supply.hold(session, clock, source, {cream: 4})

    level = await _level(session, cream)
    assert (level.on_hand, level.reserved, level.available) == (10, 4, 6)
    assert await service.drifts(session) == []


async def test_lines_of_one_sku_are_added_up_before_they_are_compared(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 5})
    requests = [StockRequest(OrderLineId.new(), source.location_id, cream, 3) for _ in range(2)]

    with pytest.raises(InsufficientStock) as refused:
        await service.reserve(
            session, requests, reference=CheckoutId.new(), expires_at=clock.now(), now=clock.now()
        )

    assert (refused.value.requested, refused.value.available) == (6, 5)
    assert (await _level(session, cream)).reserved == 0


async def test_one_short_line_leaves_the_others_untouched(session: AsyncSession, clock: FixedClock) -> None:
    cream, soap, unknown = VariantId.new(), VariantId.new(), VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 5, soap: 1})
    requests = [
        StockRequest(OrderLineId.new(), source.location_id, variant, 2) for variant in (cream, soap, unknown)
    ]
    reference = CheckoutId.new()

    with pytest.raises(InsufficientStock) as refused:
        await service.reserve(session, requests, reference=reference, expires_at=clock.now(), now=clock.now())

    assert {(s[0], s[2], s[3]) for s in refused.value.shortages} == {(soap, 2, 1), (unknown, 2, 0)}
    assert (await _level(session, cream)).reserved == 0
    assert await queries.reservations_of(session, reference) == []


async def test_safety_stock_is_never_sold(session: AsyncSession, clock: FixedClock) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 5})
    clock.advance(timedelta(seconds=1))
    row = service.StockRow(source.location_id, cream, source.brand_id, count=5, safety=3)
    await service.apply_stock(session, source.supplier_id, [row], clock=clock)

    with pytest.raises(InsufficientStock) as refused:
        await supply.hold(session, clock, source, {cream: 3})

    assert refused.value.available == 2


async def test_shipping_takes_units_off_the_shelf_once_per_shipment(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    (held,) = await supply.hold(session, clock, source, {cream: 4}, committed=True)

    await service.consume(session, [(held, 3)], cause="shp_1", now=clock.now())
    await service.consume(session, [(held, 3)], cause="shp_1", now=clock.now())
    level = await _level(session, cream)
    assert (level.on_hand, level.reserved, level.available) == (7, 1, 6)

    await service.consume(session, [(held, 1)], cause="shp_2", now=clock.now())
    level = await _level(session, cream)
    assert (level.on_hand, level.reserved) == (6, 0)
    assert await service.drifts(session) == []


async def test_more_than_is_held_is_refused_and_nothing_moves(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream, soap = VariantId.new(), VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10, soap: 10})
    first, second = await supply.hold(session, clock, source, {cream: 2, soap: 2}, committed=True)

    with pytest.raises(ReservationNotOpen):
        await service.consume(session, [(first, 2), (second, 3)], cause="shp_1", now=clock.now())

    assert (await _level(session, cream)).on_hand == 10
    assert await service.drifts(session) == []


async def test_units_that_were_never_committed_cannot_ship(session: AsyncSession, clock: FixedClock) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    (held,) = await supply.hold(session, clock, source, {cream: 2})

    with pytest.raises(ReservationNotOpen):
        await service.consume(session, [(held, 2)], cause="shp_1", now=clock.now())


async def test_release_gives_back_what_is_left_and_repeats_change_nothing(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    reference = CheckoutId.new()
    (held,) = await supply.hold(session, clock, source, {cream: 4}, reference=reference, committed=True)
    await service.consume(session, [(held, 1)], cause="shp_1", now=clock.now())

    await service.release_part(session, [(held, 1)], cause="cancel_1", now=clock.now())
    await service.release_part(session, [(held, 1)], cause="cancel_1", now=clock.now())
    assert (await _level(session, cream)).reserved == 2
    await service.release(session, [held], cause="cancel_2", now=clock.now())
    await service.release(session, [held], cause="cancel_3", now=clock.now())

    level = await _level(session, cream)
    assert (level.on_hand, level.reserved) == (9, 0)
    (view,) = await queries.reservations_of(session, reference)
    assert (view.state, view.open) == (ReservationState.CONSUMED, 0)
    assert await service.drifts(session) == []


async def test_commit_is_refused_after_its_time_unless_the_customer_paid(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    (held,) = await supply.hold(session, clock, source, {cream: 4})
    clock.advance(timedelta(minutes=31))

    with pytest.raises(ReservationExpired):
        await service.commit(session, [held], now=clock.now())
    await service.commit(session, [held], now=clock.now(), late_is_fine=True)
    await service.commit(session, [held], now=clock.now())

    await service.release(session, [held], cause="cancel", now=clock.now())
    with pytest.raises(ReservationExpired):
        await service.commit(session, [held], now=clock.now(), late_is_fine=True)


async def test_holds_whose_time_is_over_go_back_to_the_shelf(db: Database, clock: FixedClock) -> None:
    cream = VariantId.new()
    async with db.unit_of_work(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: 10})
        await supply.hold(session, clock, source, {cream: 4})
        await supply.hold(session, clock, source, {cream: 1}, committed=True)
    assert await service.expire_reservations(db, clock=clock) == 0
    clock.advance(timedelta(minutes=30))

    assert await service.expire_reservations(db, clock=clock) == 1
    assert await service.expire_reservations(db, clock=clock) == 0

    async with db.reading(SYSTEM) as session:
        assert (await _level(session, cream)).reserved == 1
        assert await service.drifts(session) == []


async def test_a_broken_cache_is_found_and_repaired(session: AsyncSession, clock: FixedClock) -> None:
    from sqlalchemy import text

    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    await supply.hold(session, clock, source, {cream: 4})
    await session.execute(text("UPDATE stock_levels SET reserved = 7, on_hand = 12"))

    (drift,) = await service.drifts(session)
    assert (drift.on_hand, drift.shelf, drift.reserved, drift.promised, drift.open) == (12, 10, 7, 4, 4)
    await service.repair(session, [drift])
    assert await service.drifts(session) == []


async def test_what_a_storefront_may_see_is_one_number(db: Database, clock: FixedClock) -> None:
    from core.actor import Actor, ActorKind
    from core.ids import BrandId

    cream = VariantId.new()
    async with db.unit_of_work(SYSTEM) as session:
        for units in (10, 7):
            await supply.supplier(session, clock, stock={cream: units}, zones=["CN-SH"])
        await supply.supplier(session, clock, stock={cream: 100}, zones=["US"])

    async with db.reading(Actor(ActorKind.STOREFRONT, BrandId.new())) as session:
        assert await queries.availability(session, [cream]) == []
        assert await queries.sellable(session, [cream], "CN-SH", now=clock.now()) == {cream: 17}
        assert await queries.sellable(session, [cream], "CN-BJ", now=clock.now()) == {cream: 0}
        assert await queries.sellable(session, [cream], now=clock.now()) == {cream: 117}
