"""Closing due statements by themselves: a pure function of the ledger, whoever closes, and however often."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from core.actor import SYSTEM
from core.canonical import sha256_hex
from core.clock import FixedClock
from core.ids import BrandId, OrderId, PromoterId, RefundId, StatementId, SupplierId
from core.pagination import PageRequest
from infra.db.session import Database
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.settlement import queries, service
from supply.settlement.parties import party_account
from supply.settlement.queries import StatementView
from supply.settlement.refunds import RefundPlan
from supply.settlement.reroute import MovedUnits
from supply.settlement.statements.cycles import Cycle
from tests.factories.ledger import earning, horizon_passed
from tests.factories.settlement import PAID_AT, Parties, captured_o1, line_of_o1, order_of

DAY = timedelta(days=1)
MARCH, APRIL, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5))


async def statements(db: Database, party: object) -> list[StatementView]:
    """Oldest first."""
    async with db.reading(SYSTEM) as session:
        page = await queries.statements_page(session, SYSTEM, PageRequest(100), payee_id=str(party))
    return sorted(page.items, key=lambda view: view.number)


async def recomputed(db: Database, statement_id: StatementId) -> bool:
    async with db.reading(SYSTEM) as session:
        stored, again = await service.recompute_statement(session, statement_id)
    return stored == again


async def close_all(db: Database, clock: FixedClock) -> int:
    await horizon_passed(db)
    closed = 0
    while count := await service.close_due_statements(db, clock=clock):
        closed += count
    return closed


async def daily(db: Database, *parties: object) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        for party in parties:
            await service.set_settlement_terms(
                session, str(party), currency="CNY", now=PAID_AT, cycle=Cycle.DAILY
            )


async def test_a_month_closes_by_itself(db: Database, clock: FixedClock) -> None:
    parties, clock.at = Parties(), PAID_AT
    async with db.unit_of_work(SYSTEM) as session:
        await captured_o1(session, clock, parties)
    clock.at = APRIL + timedelta(minutes=4)
    assert await close_all(db, clock) == 0  # the grace is five minutes

    clock.at = APRIL + timedelta(minutes=5)
    assert await close_all(db, clock) == 4
    assert await close_all(db, clock) == 0

    (march,) = await statements(db, parties.individual)
    assert (march.period_from, march.period_to, march.closing_minor) == (MARCH, APRIL, 450)
    async with db.reading(SYSTEM) as session:
        document = await queries.statement_document(session, SYSTEM, march.id)
    assert document is not None
    assert march.hash == sha256_hex(document)
    body = json.loads(document)
    (line,) = body["sections"][0]["lines"]
    assert (body["role"], body["sections"][0]["name"]) == ("individual", "commission_earned")
    assert (line["gross_minor"], line["amount_minor"], line["share_ppm"]) == (9_000, 450, 50_000)
    assert line["counterparty"] == str(parties.merchant)


async def test_a_cycle_in_which_nothing_moved_makes_no_statement(db: Database, clock: FixedClock) -> None:
    parties, clock.at = Parties(), PAID_AT
    async with db.unit_of_work(SYSTEM) as session:
        await captured_o1(session, clock, parties)
    await daily(db, parties.supplier)
    clock.at = PAID_AT + 10 * DAY
    await close_all(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        owed = party_account(Code.AVAILABLE, str(parties.supplier), "CNY")
        await posting.post(session, earning("later", owed, 5), now=clock.now())
    clock.at = PAID_AT + 12 * DAY
    await close_all(db, clock)

    first, second = await statements(db, parties.supplier)
    assert (first.number, first.period_to) == (1, datetime(2026, 3, 2, tzinfo=UTC))
    assert (second.number, second.period_from) == (2, first.period_to)
    assert second.period_to == datetime(2026, 3, 12, tzinfo=UTC)
    assert (second.opening_minor, second.closing_minor) == (first.closing_minor, first.closing_minor + 5)


async def test_many_closers_make_one_statement_each(db: Database, clock: FixedClock) -> None:
    clock.at = PAID_AT
    everybody = [Parties() for _ in range(6)]
    async with db.unit_of_work(SYSTEM) as session:
        for number, parties in enumerate(everybody):
            order = order_of(parties, [line_of_o1(parties)], charge_id=f"ch_{number}")
            await service.open_split(session, order, clock=clock)
    await horizon_passed(db)
    clock.at = APRIL + timedelta(hours=1)
    counts = await asyncio.gather(*(service.close_due_statements(db, clock=clock) for _ in range(5)))

    assert sum(counts) + await close_all(db, clock) == 24
    for parties in everybody:
        for party in (parties.merchant, parties.supplier, parties.promoter_brand, parties.individual):
            (one,) = await statements(db, party)
            assert one.number == 1


async def test_a_party_that_cannot_be_closed_stops_no_other(db: Database, clock: FixedClock) -> None:
    parties, clock.at = Parties(), PAID_AT
    async with db.unit_of_work(SYSTEM) as session:
        await captured_o1(session, clock, parties)
    await daily(db, parties.supplier)
    async with db.unit_of_work(SYSTEM) as session:
        broken = {"payee": str(parties.supplier)}
        await session.execute(
            text("UPDATE settlement_terms SET time_zone = 'Mars/Olympus' WHERE payee_id = :payee"), broken
        )
    clock.at = APRIL + timedelta(hours=1)
    assert await close_all(db, clock) == 3

    assert await statements(db, parties.supplier) == []
    assert len(await statements(db, parties.merchant)) == 1


async def test_a_closed_statement_is_found_again_after_refunds_and_another_supplier(
    db: Database, clock: FixedClock
) -> None:
    parties, clock.at = Parties(), PAID_AT
    async with db.unit_of_work(SYSTEM) as session:
        order = await captured_o1(session, clock, parties)
        plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=500)
        await service.reserve_refund(session, plan, now=PAID_AT + DAY)
    clock.at = APRIL + DAY
    await close_all(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        line = order.lines[0]
        move = MovedUnits(line.order_line_id, 1, parties.supplier, SupplierId.new(), 2_150)
        await service.reroute(session, order.order_id, [move], reference="fo_2", now=clock.now())
        plan = RefundPlan(RefundId.new(), order.order_id, everything=True)
        await service.reserve_refund(session, plan, now=clock.now())

    for party in (parties.merchant, parties.supplier, parties.promoter_brand, parties.individual):
        (march,) = await statements(db, party)
        assert await recomputed(db, march.id)


async def test_the_name_and_the_zone_are_the_partys(db: Database, clock: FixedClock) -> None:
    parties, clock.at = Parties(), PAID_AT
    async with db.unit_of_work(SYSTEM) as session:
        await captured_o1(session, clock, parties)
        await service.set_settlement_terms(
            session, str(parties.supplier), currency="CNY", now=PAID_AT, cycle=Cycle.WEEKLY,
            time_zone="Asia/Shanghai", legal_name="杭州某某有限公司", tax_id="91330100MA00000000",
        )  # fmt: skip
    clock.at = PAID_AT + 8 * DAY
    await close_all(db, clock)

    (week,) = await statements(db, parties.supplier)
    # The 1st of March 2026 was a Sunday: the week in Shanghai ended with it, at 16:00 UTC.
    assert week.period_to == datetime(2026, 3, 1, 16, tzinfo=UTC)
    async with db.reading(SYSTEM) as session:
        body = json.loads(await queries.statement_document(session, SYSTEM, week.id) or "")
    assert (body["legal_name"], body["tax_id"]) == ("杭州某某有限公司", "91330100MA00000000")
    assert (body["cycle"], body["time_zone"]) == ("weekly", "Asia/Shanghai")


async def test_two_brands_that_sell_for_each_other_see_both_sides_and_one_balance(
    db: Database, clock: FixedClock
) -> None:
    clock.at = PAID_AT
    one = Parties()
    other = Parties(merchant=one.promoter_brand, promoter_brand=one.merchant)
    async with db.unit_of_work(SYSTEM) as session:
        for number, parties in enumerate((one, other, other)):
            order = order_of(parties, [line_of_o1(parties)], charge_id=f"ch_{number}")
            await service.open_split(session, order, clock=clock)
    clock.at = APRIL + DAY
    await close_all(db, clock)

    (march,) = await statements(db, one.merchant)
    async with db.reading(SYSTEM) as session:
        body = json.loads(await queries.statement_document(session, SYSTEM, march.id) or "")
    # It paid 900 for its own sale and earned 900 for each of two of the other's.
    assert {"party": str(other.merchant), "earned_minor": 1_800, "paid_minor": 900, "net_minor": 900} in body[
        "counterparties"
    ]
    assert march.closing_minor == 3_200 + 1_800


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
async def test_closing_is_the_next_opening_and_the_sum_is_the_balance(
    db: Database, clock: FixedClock, seed: int
) -> None:
    """Random postings over some weeks, closed daily at random moments, some of them late."""
    dice = random.Random(seed)
    parties = Parties(BrandId.new(), SupplierId.new(), BrandId.new(), PromoterId.new())
    party = party_account(Code.AVAILABLE, str(parties.supplier), "CNY")
    clock.at = PAID_AT
    for number in range(12):
        clock.advance(timedelta(hours=dice.randrange(1, 40)))
        late = timedelta(hours=dice.choice([0, 0, 0, 5, 60]))
        async with db.unit_of_work(SYSTEM) as session:
            journal = earning(f"e{OrderId.new()}", party, dice.randrange(1, 500), order_id=OrderId.new())
            await posting.post(session, journal, now=clock.now() - late)
        if number == 0:
            await daily(db, parties.supplier)
        if dice.random() < 0.5:
            await close_all(db, clock)
    clock.advance(5 * DAY)
    await close_all(db, clock)

    found = await statements(db, parties.supplier)
    for earlier, later in pairwise(found):
        assert later.opening_minor == earlier.closing_minor
        assert later.period_from == earlier.period_to
    async with db.reading(SYSTEM) as session:
        (balance,) = await queries.party_balances(session, [str(parties.supplier)])
        entries = await session.execute(
            text(
                "SELECT sum(jsonb_array_length(s -> 'lines')) FROM statements st,"
                " jsonb_array_elements(document::jsonb -> 'sections') s WHERE payee_id = :payee"
            ),
            {"payee": str(parties.supplier)},
        )
    assert found[-1].closing_minor == balance.net_minor
    assert entries.scalar_one() == 12
    for each in found:
        assert await recomputed(db, each.id)
