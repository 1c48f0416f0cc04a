"""Disputes about commissions: whose turn, until when, who loses by silence, and what is posted. One cream earns 885, of
which the promoter brand 841.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.actor import SYSTEM, Actor, ActorKind
from core.clock import FixedClock
from core.ids import CommissionLineId, OrderId, OrderLineId, TouchId
from core.money import Money
from infra.db.session import Database
from infra.embedded.postgres import APPLICATION
from marketplace.orders.refunding import RefundCommand, RefundLine
from marketplace.promotion.commission import denials
from marketplace.promotion.disputes import lifecycle, queries
from marketplace.promotion.disputes.errors import (
    AlreadyDisputed,
    BadDispute,
    DisputeMoved,
    DisputeNotFound,
    DisputeTooLate,
    NothingToDispute,
)
from marketplace.promotion.disputes.models import CommissionDisputeId
from marketplace.promotion.fraud.ids import HoldId
from supply.settlement import queries as settlement
from supply.settlement.statements.closing import close_statement
from tests.conftest import TestDatabase
from tests.factories.fraud import DAY, Scene, scene
from tests.factories.ledger import horizon_passed

EARNED, PROMOTERS = 885, 841
OPERATOR = Actor(ActorKind.PLATFORM, scopes=frozenset({"platform:admin"}))
TUESDAY = datetime(2026, 3, 3, 10, tzinfo=UTC)


@pytest.fixture
async def at(db: Database, clock: FixedClock, postgres: TestDatabase, tmp_path: Path) -> AsyncIterator[Scene]:
    clock.at = TUESDAY - timedelta(minutes=2)
    async with scene(db, clock, postgres.url(APPLICATION), tmp_path) as made:
        yield made


async def _line(at: Scene, order: OrderId) -> CommissionLineId:
    (row,) = await at.rows("SELECT id FROM commission_lines WHERE order_id = :id", id=order)
    return CommissionLineId.of(row.id)


async def _invalid(at: Scene) -> tuple[OrderId, CommissionLineId]:
    order = await at.buy(await at.visit(at.suspect))
    line = await _line(at, order)
    async with at.db.unit_of_work(SYSTEM) as session:
        await denials.invalidate(session, line, reason="VELOCITY", approved_by="op", clock=at.clock)
    assert await at.lines(order) == [("INVALID", 0, 0)]
    return order, line


async def _disputed(at: Scene, line: CommissionLineId) -> CommissionDisputeId:
    async with at.db.unit_of_work(SYSTEM) as session:
        return await lifecycle.dispute_invalid(
            session, at.shop.promotion.promoter, line, reason="these are my readers", clock=at.clock
        )


async def _answered(at: Scene, id: CommissionDisputeId, *, accept: bool = False) -> None:
    async with at.db.unit_of_work(SYSTEM) as session:
        await lifecycle.answer(
            session, at.shop.promotion.merchant, id, accept=accept, reply="they are not", clock=at.clock
        )


async def _stands(at: Scene, id: CommissionDisputeId) -> tuple[str, int, str]:
    (row,) = await at.rows(
        "SELECT status, granted_minor, decided_by FROM commission_disputes WHERE id = :id", id=id
    )
    return row.status, row.granted_minor, row.decided_by


async def _promoter_has(at: Scene) -> int:
    brand = str(at.shop.promotion.promoter.brand_id)
    async with at.db.reading(SYSTEM) as session:
        balances = await settlement.party_balances(session, [brand])
        assert await settlement.broken_identities(session) == []
    return sum(each.net_minor for each in balances)


async def _silence(at: Scene) -> None:
    while await lifecycle.end_silent_disputes(at.db, clock=at.clock):
        pass
    await at.served.work()


async def test_silence_of_the_other_side_upholds_and_the_line_is_credited_to_the_unit(at: Scene) -> None:
    order, line = await _invalid(at)
    dispute = await _disputed(at, line)
    (row,) = await at.rows("SELECT due_at FROM commission_disputes")
    assert row.due_at == TUESDAY + 7 * DAY  # five working days from a Tuesday
    assert await _promoter_has(at) == 0

    at.clock.at = TUESDAY + 7 * DAY - timedelta(seconds=1)
    await _silence(at)
    assert await _stands(at, dispute) == ("OPEN", 0, "")
    at.clock.at = TUESDAY + 7 * DAY
    await _silence(at)
    assert await _stands(at, dispute) == ("UPHELD", EARNED, "silence")
    assert await at.lines(order) == [("PENDING", EARNED, 0)]
    assert await _promoter_has(at) == PROMOTERS
    told = await at.rows(
        "SELECT body FROM outbox WHERE name = 'promotion.commission_dispute_moved' ORDER BY id"
    )
    assert [each.body["status"] for each in told] == ["OPEN", "UPHELD"]
    trail = await at.rows(
        "SELECT reason, denied_by, restored_by FROM commission_denials WHERE commission_line_id = :id",
        id=line,
    )
    assert {(each.reason, each.denied_by, each.restored_by) for each in trail} == {
        ("VELOCITY", "op", "silence")
    }


async def test_silence_of_the_opener_rejects(at: Scene) -> None:
    order, line = await _invalid(at)
    dispute = await _disputed(at, line)
    at.clock.at = TUESDAY + 3 * DAY  # a Friday: the next five working days end on the Friday after
    await _answered(at, dispute)
    at.clock.at = TUESDAY + 10 * DAY - timedelta(seconds=1)
    await _silence(at)
    assert (await _stands(at, dispute))[0] == "ADVERTISER_REPLY"
    at.clock.at = TUESDAY + 10 * DAY
    await _silence(at)
    assert await _stands(at, dispute) == ("REJECTED", 0, "silence")
    assert await at.lines(order) == [("INVALID", 0, 0)]


@pytest.mark.parametrize(
    ("uphold", "line_after"), [(True, ("PENDING", EARNED, 0)), (False, ("INVALID", 0, 0))]
)
async def test_escalated_the_platform_rules(
    at: Scene, uphold: bool, line_after: tuple[str, int, int]
) -> None:
    order, line = await _invalid(at)
    dispute = await _disputed(at, line)
    await _answered(at, dispute)
    async with at.db.unit_of_work(SYSTEM) as session:
        await lifecycle.escalate(
            session, at.shop.promotion.promoter, dispute, escalation="see the posts", clock=at.clock
        )
    at.clock.advance(60 * DAY)
    await _silence(at)
    assert (await _stands(at, dispute))[0] == "ESCALATED"  # the platform's silence decides nothing
    async with at.db.unit_of_work(SYSTEM) as session:
        await lifecycle.rule(session, OPERATOR, dispute, uphold=uphold, ruling="looked at", clock=at.clock)
    assert (await _stands(at, dispute))[:2] == ("RULED", EARNED if uphold else 0)
    assert await at.lines(order) == [line_after]
    async with at.db.unit_of_work(SYSTEM) as session:
        with pytest.raises(DisputeMoved):
            await lifecycle.rule(session, OPERATOR, dispute, uphold=True, ruling="again", clock=at.clock)


async def test_accepted_after_a_refund_only_what_is_left_comes_back(at: Scene) -> None:
    order, line = await _invalid(at)
    dispute = await _disputed(at, line)
    await at.refund(order)
    await _answered(at, dispute, accept=True)
    assert (await _stands(at, dispute))[:2] == ("UPHELD", 0)
    assert await at.lines(order) == [("REVERSED", 0, 0)]
    assert await _promoter_has(at) == 0


async def test_a_refund_under_way_is_denied_by_nobody_and_comes_back_to_nobody(at: Scene) -> None:
    order = await at.buy(await at.visit(at.suspect), quantity=2)
    line = await _line(at, order)
    (bought,) = await at.rows("SELECT id FROM order_lines WHERE order_id = :id", id=order)
    whole = await _promoter_has(at)
    refund = await at.ask_refund(RefundCommand(order, lines=(RefundLine(OrderLineId.of(bought.id), 1),)))
    half = await _promoter_has(at)
    async with at.db.unit_of_work(SYSTEM) as session:
        await denials.invalidate(session, line, reason="VELOCITY", approved_by="op", clock=at.clock)
    assert await _promoter_has(at) == 0
    await at.refunded(refund)
    assert await at.lines(order) == [("INVALID", 0, 0)]

    dispute = await _disputed(at, line)
    await _answered(at, dispute, accept=True)
    # Two creams earn 1,770, of which 885 went back with one of them.
    assert await at.lines(order) == [("PENDING", EARNED, 0)]
    assert (await _stands(at, dispute))[1] == EARNED
    assert (whole, half, await _promoter_has(at)) == (1_682, PROMOTERS, PROMOTERS)


async def test_a_hold_is_released_when_its_dispute_is_upheld(at: Scene) -> None:
    order = await at.buy(
        await at.visit(at.suspect), browse=timedelta(seconds=1), pay_after=timedelta(seconds=5)
    )
    (hold,) = await at.rows("SELECT id FROM commission_holds")
    async with at.db.unit_of_work(SYSTEM) as session:
        dispute = await lifecycle.dispute_hold(
            session, at.shop.promotion.promoter, HoldId.of(hold.id), reason="one tap", clock=at.clock
        )
    await _answered(at, dispute, accept=True)
    assert await at.lines(order) == [("PENDING", EARNED, 0)]
    assert (await _stands(at, dispute))[:2] == ("UPHELD", 0)


async def test_a_touch_refused_wrongly_is_paid_what_it_would_have_earned_alone(at: Scene) -> None:
    early, late = await at.visit(at.suspect), await at.visit(at.honest)
    order = await at.buy(early, late)
    (row,) = await at.rows("SELECT id FROM touches ORDER BY id LIMIT 1")
    refused = TouchId.of(row.id)
    promoter = at.shop.promotion.promoter
    async with at.db.unit_of_work(SYSTEM) as session:
        with pytest.raises(BadDispute):
            await lifecycle.dispute_touch(
                session, promoter, order, refused, claimed=Money(PROMOTERS + 1, "CNY"), reason="x",
                clock=at.clock,
            )  # fmt: skip
        with pytest.raises(NothingToDispute):
            await lifecycle.dispute_touch(
                session, at.rival.promoter, order, refused, reason="x", clock=at.clock
            )
        dispute = await lifecycle.dispute_touch(
            session, promoter, order, refused, reason="mine was first", clock=at.clock
        )
    await _answered(at, dispute, accept=True)
    assert (await _stands(at, dispute))[:2] == ("UPHELD", PROMOTERS)
    assert await _promoter_has(at) == PROMOTERS
    (journal,) = await at.rows("SELECT memo FROM ledger_journals WHERE kind = 'adjusted'")
    assert str(dispute) in journal.memo


async def test_the_advertiser_disputes_that_a_line_earned_too_much(at: Scene) -> None:
    order = await at.buy(await at.visit(at.suspect))
    line, merchant = await _line(at, order), at.shop.promotion.merchant
    async with at.db.unit_of_work(SYSTEM) as session:
        dispute = await lifecycle.dispute_amount(
            session, merchant, line, claimed=Money(100, "CNY"), reason="the wrong rate", clock=at.clock
        )
        with pytest.raises(DisputeMoved):
            await lifecycle.answer(session, merchant, dispute, accept=True, reply="x", clock=at.clock)
    at.clock.advance(8 * DAY)
    await _silence(at)
    assert (await _stands(at, dispute))[:2] == ("UPHELD", 100)
    assert await at.lines(order) == [("PENDING", EARNED - 100, 0)]
    # 100 over 841 and 44: 95.03 and 4.97.
    assert await _promoter_has(at) == PROMOTERS - 95


async def test_it_is_disputed_once_by_its_own_side_and_in_time(at: Scene) -> None:
    _, line = await _invalid(at)
    merchant, promoter = at.shop.promotion.merchant, at.shop.promotion.promoter
    for stranger in (merchant, at.rival.promoter):
        async with at.db.unit_of_work(SYSTEM) as session:
            with pytest.raises(NothingToDispute):
                await lifecycle.dispute_invalid(session, stranger, line, reason="x", clock=at.clock)
    await horizon_passed(at.db)
    at.clock.at = datetime(2026, 4, 1, 1, tzinfo=UTC)
    async with at.db.unit_of_work(SYSTEM) as session:
        await close_statement(
            session, str(promoter.brand_id), currency="CNY", period_from=datetime(2026, 3, 1, tzinfo=UTC),
            period_to=datetime(2026, 4, 1, tzinfo=UTC), now=at.clock.now(),
        )  # fmt: skip
    closed = at.clock.now()
    at.clock.at = closed + 30 * DAY + timedelta(seconds=1)
    with pytest.raises(DisputeTooLate):
        await _disputed(at, line)
    at.clock.at = closed + 30 * DAY
    dispute = await _disputed(at, line)
    with pytest.raises(AlreadyDisputed):
        await _disputed(at, line)
    for stranger in (at.rival.promoter, at.rival.promoter):
        async with at.db.reading(stranger) as session:
            with pytest.raises(DisputeNotFound):
                await queries.dispute(session, stranger, dispute)
