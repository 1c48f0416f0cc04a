"""Killed between any two statements, or worked on by many at once: nothing is half done and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from marketplace.orders.own_checkout.models import EventKind
from marketplace.orders.own_checkout.told import LineRefunded, Telling
from services.simulate.invariants import violations
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement import service as settlement
from supply.settlement.at_source import covering
from supply.settlement.parties import party_account, provider_account
from supply.settlement.recovery import net_receivables
from tests.factories.own_checkout import (
    OwnShop,
    clicked,
    happened,
    own_shop,
    paid,
    tell,
    told_and_done,
    with_events,
    work,
    worked,
)

_JOURNALS = text(
    "SELECT j.kind || ' ' || a.code || ' ' || a.owner AS what, sum(e.amount_minor)::int AS minor"
    " FROM ledger_journals j JOIN ledger_entries e ON e.journal_id = j.id JOIN ledger_accounts a ON a.id = e.account_id"
    " WHERE j.order_id = :order GROUP BY 1 ORDER BY 1"
)
_ROWS = text(
    "SELECT (SELECT count(*) FROM refunds WHERE order_id = :order),"
    " (SELECT count(*) FROM split_refunds WHERE order_id = :order),"
    " (SELECT count(*) FROM attribution_decisions WHERE order_id = :order),"
    " (SELECT count(*) FROM told_events e JOIN told_orders t USING (storefront_id, reference)"
    "  WHERE t.order_id = :order AND e.applied_at IS NULL)"
)


class Killed(Exception):
    pass


@contextmanager
def killed_after(db: Database, statements: int) -> Iterator[list[int]]:
    """The connection is lost instead of the next statement; how many there were."""
    seen = [0]

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("NOTIFY"):
            return  # by a connection of its own, for what was told before
        seen[0] += 1
        if seen[0] > statements:
            raise Killed

    event.listen(db.engine.sync_engine, "before_cursor_execute", count)
    try:
        yield seen
    finally:
        event.remove(db.engine.sync_engine, "before_cursor_execute", count)


@pytest.fixture
async def shop(db: Database, clock: FixedClock) -> OwnShop:
    return await own_shop(db, clock)


def _row(shop: OwnShop, clock: FixedClock, token: str, reference: str) -> Telling:
    events = [
        replace(paid(clock), id=f"{reference}-paid"),
        happened(EventKind.REFUNDED, clock.now(), id=f"{reference}-back", lines=[LineRefunded("L1", 1)]),
        happened(EventKind.DELIVERED, clock.now(), id=f"{reference}-there"),
    ]
    return with_events(worked(shop, clock, token, reference=reference), *events)


async def _seen(db: Database, order_id: Any) -> list[Any]:
    async with db.reading(SYSTEM) as session:
        journals = [tuple(row) for row in await session.execute(_JOURNALS, {"order": order_id})]
        return [*journals, tuple((await session.execute(_ROWS, {"order": order_id})).one())]


async def _times(db: Database, does: Callable[[], Awaitable[Any]], *, statements: int) -> bool:
    """Whether it came to its end."""
    with killed_after(db, statements):
        try:
            await does()
        except Killed:
            return False
    return True


async def test_killed_between_any_two_statements_it_is_done_whole_the_next_time(
    db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    token = await clicked(db, clock, shop)
    whole = await told_and_done(db, clock, shop, _row(shop, clock, token, "whole"))
    expected, statements = await _seen(db, whole), 1
    while True:
        reference = f"K-{statements}"
        (answer,) = await tell(db, clock, shop, _row(shop, clock, token, reference))
        nothing = await _seen(db, answer.order_id)
        ended = await _times(db, lambda: work(db, clock, shop, reference), statements=statements)  # noqa: B023
        if ended:
            break
        assert await _seen(db, answer.order_id) == nothing, statements

        await work(db, clock, shop, reference)
        await work(db, clock, shop, reference)
        assert await _seen(db, answer.order_id) == expected, statements
        statements += 4
    assert statements > 30
    async with db.reading(SYSTEM) as session:
        assert await violations(session) == []


async def test_told_twelve_times_at_once_to_as_many_workers_it_happens_once(
    db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    token = await clicked(db, clock, shop)
    whole = await told_and_done(db, clock, shop, _row(shop, clock, token, "whole"))
    (answer,) = await tell(db, clock, shop, _row(shop, clock, token, "race"))

    await asyncio.gather(*(work(db, clock, shop, "race") for _ in range(12)))

    assert await _seen(db, answer.order_id) == await _seen(db, whole)


async def test_sweeps_killed_or_at_once_claim_cover_and_release_once(
    db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    """Two orders of 6.75 that stand; the brand's other earnings of 6.75 pay for the first of them, and no more."""
    token = await clicked(db, clock, shop)
    for reference in ("A", "B"):
        await told_and_done(db, clock, shop, _row(shop, clock, token, reference))
        clock.advance(timedelta(hours=1))
    clock.advance(timedelta(days=16))
    brand = str(shop.merchant.brand_id)

    async def net() -> None:
        async with db.unit_of_work(SYSTEM) as session:
            legs = (
                debit(provider_account(Code.PROVIDER_PENDING, "stripe", "CNY"), 675),
                credit(party_account(Code.AVAILABLE, brand, "CNY"), 675),
            )
            await posting.post(session, Journal("earned", "capture", legs, clock.now()), now=clock.now())
            parties = [(brand, "CNY", shop.merchant.brand_id)]
            await net_receivables(session, "cycle", parties, now=clock.now())

    async def once(does: Callable[[], Awaitable[Any]]) -> None:
        statements = 1
        while not await _times(db, does, statements=statements):
            statements += 2

    await once(lambda: covering.claim_due(db, clock=clock))
    await asyncio.gather(*(covering.claim_due(db, clock=clock) for _ in range(6)))
    assert await _owed(db, brand) == 1_350
    await net()
    await once(lambda: covering.cover_due(db, clock=clock))
    await asyncio.gather(*(covering.cover_due(db, clock=clock) for _ in range(6)))
    await once(lambda: settlement.release_due(db, clock=clock))
    await asyncio.gather(*(settlement.release_due(db, clock=clock) for _ in range(6)))

    assert await _owed(db, brand) == 675
    async with db.reading(SYSTEM) as session:
        covered = [tuple(row) for row in await session.execute(_COVERED)]
        assert covered == [("A", 675, 675), ("B", 675, 0)]
        released = (await session.execute(_RELEASED)).scalar_one()
        assert released == 675
        broken = [each for each in await violations(session) if "has its share" not in each.says]
        assert broken == []


_COVERED = text(
    "SELECT t.reference, d.owed_minor, d.covered_minor FROM commission_dues d JOIN told_orders t USING (order_id)"
    " ORDER BY 1"
)
_RELEASED = text("SELECT sum(released_minor)::int FROM split_parts")


async def _owed(db: Database, brand: str) -> int:
    async with db.reading(SYSTEM) as session:
        statement = text("SELECT balance_minor FROM ledger_balances_now WHERE code = 1100 AND owner = :owner")
        return int(await session.scalar(statement, {"owner": f"party:{brand}"}) or 0)
