from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from core.actor import SYSTEM, Actor, ActorKind
from core.canonical import sha256_hex
from core.clock import FixedClock
from core.ids import RefundId, TenantId
from core.pagination import PageRequest
from infra.db.session import Database
from supply.settlement import queries, service
from supply.settlement.capture import CapturedOrder
from supply.settlement.errors import PeriodNotOver, StatementOutOfSequence
from supply.settlement.refunds import RefundPlan
from supply.settlement.statements.closing import ClosedStatement
from tests.factories.ledger import horizon_passed
from tests.factories.settlement import PAID_AT, Parties, captured_o1

MARCH, APRIL, MAY, JUNE = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5, 6))


async def close(
    db: Database, party: TenantId, start: datetime, end: datetime, *, now: datetime
) -> ClosedStatement:
    await horizon_passed(db)
    async with db.unit_of_work(SYSTEM) as session:
        return await service.close_statement(
            session, str(party), currency="CNY", period_from=start, period_to=end, now=now
        )


async def traded(db: Database, clock: FixedClock, parties: Parties) -> CapturedOrder:
    """March: O1 captured and 1,000 refunded by amount. April: the rest released, paid out."""
    clock.at = PAID_AT
    async with db.unit_of_work(SYSTEM) as session:
        order = await captured_o1(session, clock, parties)
        plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=1_000)
        await service.reserve_refund(session, plan, now=PAID_AT + timedelta(days=1))
        await service.register_payee(
            session, str(parties.merchant), currency="CNY", account_id="acct_1", now=PAID_AT
        )
    clock.at = PAID_AT + timedelta(days=45)
    await service.release_due(db, clock=clock)
    await service.make_batch(db, cycle="2026-04", clock=clock)
    async with db.unit_of_work(SYSTEM) as session:
        (payout,) = (await queries.payouts_page(session, SYSTEM, PageRequest())).items
        await service.settle_payout(session, payout.id, "tr_1", now=clock.now())
    return order


async def test_a_statement_says_where_every_cent_went(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    order = await traded(db, clock, parties)
    march = await close(db, parties.merchant, MARCH, APRIL, now=MAY)
    april = await close(db, parties.merchant, APRIL, MAY, now=MAY)

    body = json.loads(march.document)
    # Of the 9,800 without tax the merchant keeps 3,200; 1,000 by amount takes 308 of that (R7).
    assert {s["name"]: s["total_minor"] for s in body["sections"]} == {
        "sales": 9_000 + 800, "supplier_cost": -4_800, "commission_paid": -1_350, "platform_fee": -450,
        "refunds": -308,
    }  # fmt: skip
    assert body["closing"] == {
        "pending": 2_892, "available": 0, "in_payout": 0, "reserved": 0, "receivable": 0,
    }  # fmt: skip
    assert (march.opening_minor, march.closing_minor) == (0, 2_892)
    assert {line["order"] for s in body["sections"] for line in s["lines"]} == {str(order.order_id)}

    body = json.loads(april.document)
    assert {s["name"]: s["total_minor"] for s in body["sections"]} == {"released": 0, "payouts": -2_892}
    assert (april.opening_minor, april.closing_minor, april.number) == (2_892, 0, 2)
    assert body["previous_hash"] == march.hash == sha256_hex(march.document)


async def test_closing_again_gives_the_same_bytes(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    await traded(db, clock, parties)
    first = await close(db, parties.merchant, MARCH, APRIL, now=MAY)

    assert await close(db, parties.merchant, MARCH, APRIL, now=JUNE) == first


async def test_a_late_entry_goes_into_the_next_statement_with_its_own_date(
    db: Database, clock: FixedClock
) -> None:
    parties = Parties()
    order = await traded(db, clock, parties)
    await close(db, parties.merchant, MARCH, APRIL, now=MAY)
    async with db.unit_of_work(SYSTEM) as session:
        # A worker whose clock was behind posts into the closed month.
        plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=500)
        await service.reserve_refund(session, plan, now=APRIL - timedelta(hours=1))
    april = await close(db, parties.merchant, APRIL, MAY, now=MAY)

    body = json.loads(april.document)
    assert "refunds" in {section["name"] for section in body["sections"]}
    closing = body["closing"]
    # 500 of the 9,388 the customer still has, of which the merchant's part is 2,892: 154.03 of it.
    assert closing == {"pending": 0, "available": 0, "in_payout": 0, "reserved": 0, "receivable": 154}
    assert april.closing_minor == -154


async def test_csv_has_a_row_per_line(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    await traded(db, clock, parties)
    march = await close(db, parties.merchant, MARCH, APRIL, now=MAY)

    rows = list(csv.DictReader(io.StringIO(march.csv)))
    assert [(row["section"], row["amount_minor"]) for row in rows] == [
        ("sales", "9000"), ("sales", "800"), ("supplier_cost", "-4000"), ("supplier_cost", "-800"),
        ("commission_paid", "-450"), ("commission_paid", "-900"), ("platform_fee", "-450"), ("refunds", "-308"),
    ]  # fmt: skip


async def test_periods_follow_each_other_and_are_over(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    await traded(db, clock, parties)
    with pytest.raises(PeriodNotOver):
        await close(db, parties.merchant, MARCH, APRIL, now=APRIL - timedelta(seconds=1))
    await close(db, parties.merchant, MARCH, APRIL, now=MAY)
    with pytest.raises(StatementOutOfSequence):
        await close(db, parties.merchant, MAY, JUNE, now=JUNE)


async def test_a_party_reads_its_own_statements_only(db: Database, clock: FixedClock) -> None:
    parties = Parties()
    await traded(db, clock, parties)
    march = await close(db, parties.merchant, MARCH, APRIL, now=MAY)
    await close(db, parties.supplier, MARCH, APRIL, now=MAY)
    actor = Actor(ActorKind.BRAND, parties.merchant)

    async with db.reading(actor) as session:
        found = (await queries.statements_page(session, actor, PageRequest())).items
        assert [view.id for view in found] == [march.id]
        assert await queries.statement_document(session, actor, march.id) == march.document
