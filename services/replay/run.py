"""The replay from beginning to end, or from where it was killed to the end.

Every stretch is one transaction with the place it reaches, so no order is taken twice and none is left out.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from marketplace.orders.external import ExternalStorefront
from services.replay import market
from services.replay.files import Source
from services.replay.progress import (
    OtherReplayHere,
    Place,
    Stage,
    begin,
    find_place,
    keep_row_counts,
    move,
)
from services.replay.steps import Scene, take
from services.replay.timeline import Happening, Step, timeline
from supply.settlement.release import ORDERS_AT_ONCE, release_due

SELLERS_AT_ONCE = 50
HAPPENINGS_AT_ONCE = 600
Tell = Callable[[Stage, int, int], None]
"""Called after every step: the stage, how much of it is done, how much there is."""


class Replay:
    """``began`` is the monotonic time from which this run's duration counts; ``owner_url``, where it is known,
    lets the planner learn the sizes of the tables while they grow."""

    def __init__(
        self, db: Database, source: Source, *, secret: str, tell: Tell, began: float, owner_url: str = ""
    ) -> None:
        self._db, self._source, self._secret, self._tell = db, source, secret, tell
        self._owner_url, self._stretches = owner_url, 0
        self._began, self._elapsed_before = began, 0
        first = source.orders[0].purchased_at if source.orders else datetime.now().astimezone()
        self._clock = FixedClock(first - market.BEFORE)
        self._sold = market.histories(source)

    async def run(self) -> None:
        """Raises ``OtherReplayHere``. Nothing happens when the replay is done already."""
        place = await self._start()
        self._elapsed_before = place.elapsed_ms
        if place.clock_at is not None:
            self._clock.at = place.clock_at
        if place.stage is Stage.CATALOGUE:
            place = await self._list_products(place)
        storefront = await self._storefront()
        if place.stage is Stage.SELLERS:
            place = await self._register_sellers(place, storefront)
        if place.stage is Stage.ORDERS:
            await self._take_orders(place, storefront)

    async def _start(self) -> Place:
        digest = self._source.digest
        async with self._db.unit_of_work(SYSTEM) as session:
            place = await find_place(session, settled=True)
            if place is None:
                place = Place(digest, Stage.CATALOGUE, 0, None, 0)
                await begin(session, place)
                await keep_row_counts(session, self._source.rows)
                await market.open_marketplace(session, clock=self._clock)
        if place.digest != digest:
            raise OtherReplayHere("this database holds a replay of other files; use --fresh to begin again")
        return place

    async def _storefront(self) -> ExternalStorefront:
        async with self._db.reading(SYSTEM) as session:
            found = await market.marketplace(session)
        assert found is not None, "the first transaction opens the marketplace"
        return found

    async def _list_products(self, place: Place) -> Place:
        storefront = await self._storefront()
        actor = market.brand_actor(storefront.brand_id)
        async with self._db.unit_of_work(actor) as session:
            await market.list_products(
                session, storefront.brand_id, self._source, self._sold, clock=self._clock
            )
        async with self._db.unit_of_work(SYSTEM) as session:
            return await self._move(session, place, stage=Stage.SELLERS)

    async def _register_sellers(self, place: Place, storefront: ExternalStorefront) -> Place:
        sellers = sorted(self._source.sellers.items())
        async with self._db.reading(SYSTEM) as session:
            variants = await market.variants_of(session, storefront.brand_id, self._source)
        while place.position < len(sellers):
            some = sellers[place.position : place.position + SELLERS_AT_ONCE]
            async with self._db.unit_of_work(SYSTEM) as session:
                place = await self._move(session, place, position=place.position + len(some))
                await market.register_sellers(
                    session, storefront, some, self._sold, variants, clock=self._clock
                )
            await self._learn_sizes()
            self._tell(Stage.SELLERS, place.position, len(sellers))
        self._stretches = 0
        async with self._db.unit_of_work(SYSTEM) as session:
            return await self._move(session, place, stage=Stage.ORDERS, position=0)

    async def _take_orders(self, place: Place, storefront: ExternalStorefront) -> None:
        happenings = timeline(self._source.orders)
        overdue = frozenset(each.order for each in happenings if each.step is Step.OVERDUE)
        async with self._db.reading(SYSTEM) as session:
            world = await market.world_of(session, storefront.brand_id, self._source)
        scene = Scene(self._source, world, storefront, self._secret, overdue)
        gc.freeze()  # what was read stays to the end; the collector need not look through it again and again
        await self._release()
        for stretch in stretches(happenings[place.position :]):
            self._clock.at = stretch[-1].due
            async with self._db.unit_of_work(SYSTEM) as session:
                position = place.position + len(stretch)
                place = await self._move(session, place, position=position, clock_at=self._clock.at)
                await take(session, scene, stretch, clock=self._clock)
            await self._release()
            await self._learn_sizes()
            self._tell(Stage.ORDERS, place.position, len(happenings))
        async with self._db.unit_of_work(SYSTEM) as session:
            await self._move(session, place, stage=Stage.DONE)

    async def _release(self) -> None:
        """R4 by the clock, as the scheduler would."""
        while await release_due(self._db, clock=self._clock) >= ORDERS_AT_ONCE:
            pass

    async def _learn_sizes(self) -> None:
        """ANALYZE after 1, 2, 4, 8, … stretches: empty tables are planned for as if they stayed empty, and
        autovacuum comes a minute later."""
        self._stretches += 1
        if self._owner_url and self._stretches & (self._stretches - 1) == 0:
            connection = await asyncpg.connect(self._owner_url)
            try:
                await connection.execute("ANALYZE")
            finally:
                await connection.close()

    async def _move(self, session: AsyncSession, place: Place, **to: Any) -> Place:
        elapsed_ms = self._elapsed_before + int((time.monotonic() - self._began) * 1000)
        after = replace(place, elapsed_ms=elapsed_ms, **to)
        await move(session, place, after)
        return after


def stretches(happenings: Sequence[Happening], size: int = HAPPENINGS_AT_ONCE) -> Iterator[list[Happening]]:
    """Cut the timeline into transactions: never across a month, never inside an instant of an order.

    Settlement is by month; and an order that is delivered and cancelled at one instant is never between both.
    """
    stretch: list[Happening] = []
    for each in happenings:
        if stretch and _ends(stretch, each, size):
            yield stretch
            stretch = []
        stretch.append(each)
    if stretch:
        yield stretch


def _ends(stretch: Sequence[Happening], following: Happening, size: int) -> bool:
    last = stretch[-1]
    if (last.due.year, last.due.month) != (following.due.year, following.due.month):
        return True
    return len(stretch) >= size and (last.due, last.order) != (following.due, following.order)
