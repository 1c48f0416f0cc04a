"""Stock under a race: real commits, many connections."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CheckoutId, OrderLineId, VariantId
from infra.db.session import Database
from supply.inventory import queries, service
from supply.inventory.errors import InsufficientStock
from supply.inventory.service import StockRequest
from tests.factories import supply


async def test_24_racers_for_5_units_get_exactly_5(db: Database, clock: FixedClock) -> None:
    cream = VariantId.new()
    async with db.unit_of_work(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock={cream: 5})

    async def buy() -> str:
        try:
            async with db.unit_of_work(SYSTEM) as session:
                await supply.hold(session, clock, source, {cream: 1})
        except InsufficientStock:
            return "sold out"
        return "bought"

    assert Counter(await asyncio.gather(*(buy() for _ in range(24)))) == {"bought": 5, "sold out": 19}
    async with db.reading(SYSTEM) as session:
        (level,) = await queries.availability(session, [cream])
        assert (level.reserved, level.available) == (5, 0)
        assert await service.drifts(session) == []


async def test_16_writers_on_five_hot_skus_never_oversell_drift_or_deadlock(
    db: Database, clock: FixedClock
) -> None:
    hot = [VariantId.new() for _ in range(5)]
    async with db.unit_of_work(SYSTEM) as session:
        source = await supply.supplier(session, clock, stock=dict.fromkeys(hot, 100))
    outcomes: Counter[str] = Counter()

    async def writer(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(25):
            chosen = dice.sample(hot, dice.randint(1, 4))  # in any order: the statement sorts
            requests = [
                StockRequest(OrderLineId.new(), source.location_id, variant, dice.randint(1, 3))
                for variant in chosen
            ]
            await one_order(dice, requests)

    async def one_order(dice: random.Random, requests: list[StockRequest]) -> None:
        now = clock.now()
        try:
            async with db.unit_of_work(SYSTEM) as session:
                held = await service.reserve(
                    session, requests, reference=CheckoutId.new(), expires_at=now, now=now
                )
        except InsufficientStock:
            outcomes["short"] += 1
            return
        ids = dice.sample(list(held.values()), len(held))
        async with db.unit_of_work(SYSTEM) as session:
            if dice.random() < 0.5:
                await service.release(session, ids, cause="changed_mind", now=now)
                outcomes["released"] += 1
            else:
                await service.commit(session, ids, now=now, late_is_fine=True)
                by_line = {
                    held[request.line_id, request.location_id]: request.quantity for request in requests
                }
                await service.consume(session, [(each, by_line[each]) for each in ids], cause="s", now=now)
                outcomes["shipped"] += 1

    await asyncio.gather(*(writer(seed) for seed in range(16)))

    assert sum(outcomes.values()) == 16 * 25
    assert outcomes["shipped"] > 0
    assert outcomes["short"] > 0
    async with db.reading(SYSTEM) as session:
        assert await service.drifts(session) == []
        levels = await queries.availability(session, hot)
    assert all(level.reserved == 0 and 0 <= level.on_hand <= 100 for level in levels)
