"""A held commission waits, whatever its return window; the others of its order do not."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from supply.ledger import queries as ledger
from supply.settlement import holds, queries
from supply.settlement.capture import CapturedOrder
from supply.settlement.release import release_due
from tests.factories.settled import paid_out_o1
from tests.factories.settlement import PAID_AT, Parties, captured_o1

DUE = PAID_AT + timedelta(days=45)


async def _captured(db: Database, clock: FixedClock, parties: Parties) -> CapturedOrder:
    async with db.unit_of_work(SYSTEM) as session:
        return await captured_o1(session, clock, parties)


async def _hold(db: Database, clock: FixedClock, order: CapturedOrder, name: str = "h1") -> bool:
    line = order.lines[0].order_line_id
    async with db.unit_of_work(SYSTEM) as session:
        hold = holds.LineHold(name, order.order_id, line)
        taken = await holds.hold_commissions(session, [hold], now=clock.now())
    return line in taken


async def _lift(db: Database, *names: str) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await holds.lift_holds(session, names)


async def _stands(db: Database, parties: Parties) -> list[tuple[int, int]]:
    """(pending, available) of merchant, supplier, promoter brand, individual."""
    ids = [str(parties.merchant), str(parties.supplier), str(parties.promoter_brand), str(parties.individual)]
    async with db.reading(SYSTEM) as session:
        found = {each.payee_id: each for each in await queries.party_balances(session, ids)}
        assert await queries.broken_identities(session) == []
        assert await ledger.mismatched_balances(session) == 0
    return [(found[id].pending_minor, found[id].available_minor) for id in ids]


async def _released(db: Database) -> list[str]:
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(
            text("SELECT body::text FROM outbox WHERE name = 'settlement.commission_released' ORDER BY id")
        )
        return list(rows.scalars())


async def test_a_held_commission_waits_and_nobody_else_does(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    order = await _captured(db, clock, parties)
    assert not await _hold(db, clock, order)
    clock.at = DUE
    assert await release_due(db, clock=clock) == 1

    # O1: merchant 9,000 - 4,000 - 1,350 - 450; supplier 4,000 and 800 of freight; CPS 900 and 450.
    assert await _stands(db, parties) == [(0, 3_200), (0, 4_800), (900, 0), (450, 0)]
    assert await release_due(db, clock=clock) == 0
    assert await _released(db) == []

    await _lift(db, "h1")
    await release_due(db, clock=clock)
    assert await _stands(db, parties) == [(0, 3_200), (0, 4_800), (0, 900), (0, 450)]
    assert len(await _released(db)) == 1


async def test_as_long_as_one_of_several_holds_is_there_it_waits(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    order = await _captured(db, clock, parties)
    for name in ("h1", "h2", "h1"):
        await _hold(db, clock, order, name)
    clock.at = DUE
    await _lift(db, "h1")
    await release_due(db, clock=clock)
    assert (await _stands(db, parties))[2:] == [(900, 0), (450, 0)]
    await _lift(db, "h2", "h1")
    await release_due(db, clock=clock)
    assert (await _stands(db, parties))[2:] == [(0, 900), (0, 450)]


async def test_what_was_released_and_is_still_here_goes_back_and_is_released_again(
    db: Database, clock: FixedClock
) -> None:
    parties = Parties()
    order = await _captured(db, clock, parties)
    clock.at = DUE
    await release_due(db, clock=clock)
    assert await _hold(db, clock, order)
    assert await _stands(db, parties) == [(0, 3_200), (0, 4_800), (900, 0), (450, 0)]
    assert not await _hold(db, clock, order)
    await release_due(db, clock=clock)
    assert (await _stands(db, parties))[2:] == [(900, 0), (450, 0)]

    await _lift(db, "h1")
    await release_due(db, clock=clock)
    assert (await _stands(db, parties))[2:] == [(0, 900), (0, 450)]
    assert len(await _released(db)) == 2


async def test_what_was_paid_out_stays_paid(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    order = await paid_out_o1(db, clock, parties)
    assert not await _hold(db, clock, order)
    assert await _stands(db, parties) == [(0, 0)] * 4
