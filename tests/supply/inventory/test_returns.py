"""Units that came back: on the shelf once for each decision, whoever says it how often, beside counts and sales."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import VariantId
from core.pagination import PageRequest
from infra.db.session import Database
from supply.inventory import queries, service
from supply.inventory.errors import InsufficientStock
from supply.inventory.models import MovementKind
from supply.inventory.service import ReturnedUnits, StockRow
from tests.factories import supply
from tests.factories.supply import SuppliedFrom


def back(source: SuppliedFrom, variant: VariantId, quantity: int, event: str) -> ReturnedUnits:
    return ReturnedUnits(source.location_id, variant, source.brand_id, quantity, event)


async def test_one_decision_told_by_twelve_at_once_beside_a_count_is_on_the_shelf_once(
    db: Database, clock: FixedClock
) -> None:
    cream, soap = VariantId.new(), VariantId.new()
    async with db.unit_of_work(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: 5, soap: 5})
    clock.advance(timedelta(minutes=1))

    async def restock(turn: int) -> None:
        units = [back(source, cream, 2, "rtn_1:a"), back(source, soap, 3, "rtn_1:b")]
        async with db.unit_of_work(SYSTEM) as session:
            await service.restock(session, source.supplier_id, units[:: 1 if turn % 2 else -1], clock=clock)

    async def count(turn: int) -> None:
        # Of the moment before: what came back since is put on top, whichever is written first.
        row = StockRow(
            source.location_id, cream, source.brand_id, count=7, as_of=clock.now() - timedelta(seconds=1)
        )
        async with db.unit_of_work(SYSTEM) as session:
            await service.apply_stock(session, source.supplier_id, [row], clock=clock)

    async def buy() -> bool:
        try:
            async with db.unit_of_work(SYSTEM) as session:
                await supply.hold(session, clock, source, {soap: 1})
        except InsufficientStock:
            return False
        return True

    *_, sold = await asyncio.gather(
        *(restock(turn) for turn in range(12)), *(count(turn) for turn in range(3)),
        asyncio.gather(*(buy() for _ in range(12))),
    )  # fmt: skip

    async with db.reading(SYSTEM) as session:
        levels = {each.variant_id: each for each in await queries.availability(session, [cream, soap])}
        assert levels[cream].on_hand == 7 + 2
        assert (levels[soap].on_hand, levels[soap].reserved) == (8, sum(sold))
        assert 5 <= sum(sold) <= 8
        assert await service.drifts(session) == []


async def test_what_comes_back_makes_up_for_what_is_promised_and_missing(
    db: Database, clock: FixedClock
) -> None:
    cream = VariantId.new()
    async with db.unit_of_work(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: 4})
        await supply.hold(session, clock, source, {cream: 4})
        clock.advance(timedelta(minutes=1))
        row = StockRow(source.location_id, cream, source.brand_id, count=1)
        await service.apply_stock(session, source.supplier_id, [row], clock=clock)
        clock.advance(timedelta(minutes=1))
        await service.restock(session, source.supplier_id, [back(source, cream, 2, "rtn_1:a")], clock=clock)

        (level,) = await queries.availability(session, [cream])
        assert (level.on_hand, level.reserved, level.short, level.available) == (3, 4, 1, 0)
        assert await service.drifts(session) == []


async def test_it_is_in_the_history_of_its_shelf_and_of_no_other(db: Database, clock: FixedClock) -> None:
    cream, soap = VariantId.new(), VariantId.new()
    async with db.unit_of_work(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: 4, soap: 1})
        other = await supply.supplier(session, clock, stock={cream: 9})
        for turn in range(3):
            clock.advance(timedelta(minutes=1))
            units = [back(source, cream, turn, f"rtn_{turn}:a")]  # none of the first: it was damaged
            await service.restock(session, source.supplier_id, units, clock=clock)

    async with db.reading(source.actor) as session:
        shelf = {"location_id": source.location_id, "variant_id": cream}
        first = await queries.movements_page(session, source.supplier_id, PageRequest(2), **shelf)
        rest = await queries.movements_page(
            session, source.supplier_id, PageRequest(2, first.cursors[-1]), **shelf
        )
        theirs = {"location_id": other.location_id, "variant_id": cream}
        assert (
            await queries.movements_page(session, source.supplier_id, PageRequest(2), **theirs)
        ).items == []
    found = [(each.kind, each.delta, each.event_id) for each in [*first.items, *rest.items]]
    assert found == [
        (MovementKind.RETURN_IN, 2, "rtn_2:a"),
        (MovementKind.RETURN_IN, 1, "rtn_1:a"),
        (MovementKind.FEED_SET, 4, None),
    ]
    assert not rest.has_next
