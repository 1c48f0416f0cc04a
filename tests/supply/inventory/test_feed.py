from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import VariantId
from supply.inventory import queries, service
from supply.inventory.errors import TooManyRows
from supply.inventory.service import FeedResult, StockRow, StockRowResult
from tests.factories import supply
from tests.factories.supply import SuppliedFrom


async def _feed(
    session: AsyncSession, clock: FixedClock, source: SuppliedFrom, *rows: StockRow
) -> list[StockRowResult]:
    return await service.apply_stock(session, source.supplier_id, rows, clock=clock)


async def test_an_older_count_is_ignored(session: AsyncSession, clock: FixedClock) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    old = clock.now() - timedelta(hours=1)
    row = StockRow(source.location_id, cream, source.brand_id, count=99, as_of=old)

    (result,) = await _feed(session, clock, source, row)

    assert (result.result, result.code, result.available) == (FeedResult.UNCHANGED, "STALE_AS_OF", 10)


async def test_what_shipped_after_the_count_was_taken_stays_shipped(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    (held,) = await supply.hold(session, clock, source, {cream: 4}, committed=True)
    counted_at = clock.advance(timedelta(hours=1))
    clock.advance(timedelta(minutes=10))
    await service.consume(session, [(held, 4)], cause="shp_1", now=clock.now())

    row = StockRow(source.location_id, cream, source.brand_id, count=12, as_of=counted_at)
    (result,) = await _feed(session, clock, source, row)

    assert (result.on_hand, result.available) == (8, 8)
    assert await service.drifts(session) == []


async def test_a_change_counts_once_per_event_id(session: AsyncSession, clock: FixedClock) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    row = StockRow(source.location_id, cream, source.brand_id, delta=-3, event_id="evt-1")

    first, again = await _feed(session, clock, source, row, row)
    (later,) = await _feed(session, clock, source, row)

    assert (first.result, first.on_hand) == (FeedResult.APPLIED, 7)
    assert (again.result, later.result) == (FeedResult.UNCHANGED, FeedResult.UNCHANGED)
    assert (later.code, later.on_hand) == ("EVENT_SEEN", 7)


async def test_a_count_below_what_is_promised_stops_sales_and_says_how_much_is_missing(
    session: AsyncSession, clock: FixedClock
) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    (held,) = await supply.hold(session, clock, source, {cream: 5})
    clock.advance(timedelta(minutes=1))

    (result,) = await _feed(
        session, clock, source, StockRow(source.location_id, cream, source.brand_id, count=3)
    )
    assert (result.on_hand, result.available, result.short) == (3, 0, 2)
    names = (await session.execute(text("SELECT name, body->>'short' FROM outbox"))).all()
    assert names == [("inventory.fell_short", "2")]

    # Giving the promised units back must not bring back the two that were never there.
    await service.release_part(session, [(held, 2)], cause="cancel", now=clock.now())
    (level,) = await queries.availability(session, [cream])
    assert (level.on_hand, level.reserved, level.available) == (3, 3, 0)
    assert await service.drifts(session) == []


async def test_bad_rows_are_named_and_good_rows_count(session: AsyncSession, clock: FixedClock) -> None:
    cream = VariantId.new()
    source = await supply.supplier(session, clock, stock={cream: 10})
    clock.advance(timedelta(minutes=1))
    here = (source.location_id, cream, source.brand_id)

    results = await _feed(
        session, clock, source,
        StockRow(*here),
        StockRow(*here, count=-1),
        StockRow(*here, count=1_000_001),
        StockRow(*here, delta=5),
        StockRow(*here, delta=-11, event_id="evt-1"),
        StockRow(*here, count=1, as_of=clock.now() + timedelta(hours=1)),
        StockRow(*here, count=8),
    )  # fmt: skip

    assert [result.code for result in results] == [
        "COUNT_OR_DELTA", "QUANTITY_OUT_OF_RANGE", "QUANTITY_OUT_OF_RANGE", "EVENT_ID_MISSING",
        "NEGATIVE_STOCK", "AS_OF_IN_FUTURE", None,
    ]  # fmt: skip
    assert results[-1].available == 8


async def test_at_most_a_thousand_rows(session: AsyncSession, clock: FixedClock) -> None:
    source = await supply.supplier(session, clock)
    row = StockRow(source.location_id, VariantId.new(), source.brand_id, count=1)
    with pytest.raises(TooManyRows):
        await _feed(session, clock, source, *[row] * 1_001)
