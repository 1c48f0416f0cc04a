"""A promoter contests its statement: every step, its clock, and what it costs."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import RefundId, StatementId
from core.pagination import PageRequest
from infra.db.session import Database
from supply.settlement import queries, service
from supply.settlement.errors import StatementNotFound
from supply.settlement.statements import contesting
from supply.settlement.statements.contesting import (
    AlreadyContested,
    ContestInvalid,
    ContestMoved,
    ContestNotFound,
    ContestStatus,
    ContestTooLate,
    ContestView,
    StatementState,
    after_working_days,
)
from tests.factories.ledger import horizon_passed
from tests.factories.settlement import PAID_AT, Parties, captured_o1

DAY = timedelta(days=1)
CLOSED = datetime(2026, 4, 1, 1, tzinfo=UTC)  # a Wednesday


def test_working_days_skip_the_week_end() -> None:
    assert after_working_days(CLOSED, 5) == datetime(2026, 4, 8, 1, tzinfo=UTC)
    friday = datetime(2026, 4, 3, 9, tzinfo=UTC)
    assert after_working_days(friday, 1) == datetime(2026, 4, 6, 9, tzinfo=UTC)


class Case:
    """March of O1's promoter brand: 900 earned from the merchant, closed on the 1st of April."""

    def __init__(self, db: Database, clock: FixedClock, parties: Parties) -> None:
        self.db, self.clock, self.parties = db, clock, parties
        self.payee, self.merchant = str(parties.promoter_brand), str(parties.merchant)

    @classmethod
    async def closed(cls, db: Database, clock: FixedClock) -> Case:
        case, clock.at = cls(db, clock, Parties()), PAID_AT
        async with db.unit_of_work(SYSTEM) as session:
            await captured_o1(session, clock, case.parties)
        clock.at = CLOSED
        await horizon_passed(db)
        while await service.close_due_statements(db, clock=clock):
            pass
        return case

    async def statement(self) -> tuple[StatementId, str]:
        """Its id, and the entry of its one line."""
        async with self.db.reading(SYSTEM) as session:
            page = await queries.statements_page(session, SYSTEM, PageRequest(5), payee_id=self.payee)
            found = page.items[0].id
            body = json.loads(await queries.statement_document(session, SYSTEM, found) or "")
        return found, body["sections"][0]["lines"][0]["entry"]

    async def contested(self, claimed: int = 100) -> ContestView:
        statement, entry = await self.statement()
        async with self.db.unit_of_work(SYSTEM) as session:
            return await contesting.contest(
                session, self.payee, statement, entry=entry, claimed_minor=claimed, reason="15 %, not 10",
                now=self.clock.now(),
            )  # fmt: skip

    async def answered(self, view: ContestView, *, accept: bool) -> ContestView:
        async with self.db.unit_of_work(SYSTEM) as session:
            return await contesting.answer_contest(
                session, self.merchant, view.id, accept=accept, reply="as signed", now=self.clock.now()
            )

    async def has(self, party: str) -> tuple[int, int]:
        """(available, owed)"""
        async with self.db.reading(SYSTEM) as session:
            (balance,) = await queries.party_balances(session, [party])
        return balance.available_minor, balance.receivable_minor


async def test_what_the_other_side_accepts_is_paid_in_the_next_statement(
    db: Database, clock: FixedClock
) -> None:
    case = await Case.closed(db, clock)
    view = await case.contested()
    assert (view.against, view.status) == (case.merchant, ContestStatus.OPEN)
    assert view.due_at == datetime(2026, 4, 8, 1, tzinfo=UTC)

    view = await case.answered(view, accept=True)
    assert (view.status, view.granted_minor) == (ContestStatus.UPHELD, 100)
    assert await case.has(case.payee) == (100, 0)
    assert await case.has(case.merchant) == (0, 100)  # its share is pending: it owes the hundred

    clock.at = datetime(2026, 5, 1, 1, tzinfo=UTC)
    await horizon_passed(db)
    while await service.close_due_statements(db, clock=clock):
        pass
    async with db.reading(SYSTEM) as session:
        page = await queries.statements_page(session, SYSTEM, PageRequest(5), payee_id=case.payee)
        body = json.loads(await queries.statement_document(session, SYSTEM, page.items[0].id) or "")
    (section,) = body["sections"]
    assert (section["name"], section["total_minor"]) == ("adjustments", 100)
    assert "15 %, not 10" in section["lines"][0]["memo"]


async def test_silence_of_the_other_side_loses(db: Database, clock: FixedClock) -> None:
    case = await Case.closed(db, clock)
    await case.contested()
    clock.at = CLOSED + 7 * DAY - timedelta(seconds=1)
    assert await contesting.end_silent_contests(db, clock=clock) == 0
    clock.at = CLOSED + 7 * DAY
    assert await contesting.end_silent_contests(db, clock=clock) == 1
    assert await contesting.end_silent_contests(db, clock=clock) == 0
    assert await case.has(case.payee) == (100, 0)


async def test_an_answer_that_is_let_stand_ends_it(db: Database, clock: FixedClock) -> None:
    case = await Case.closed(db, clock)
    view = await case.answered(await case.contested(), accept=False)
    assert view.status is ContestStatus.ADVERTISER_REPLY
    clock.at = CLOSED + 10 * DAY
    assert await contesting.end_silent_contests(db, clock=clock) == 1

    assert await case.has(case.payee) == (0, 0)
    statement, _ = await case.statement()
    async with db.reading(SYSTEM) as session:
        states = await contesting.statement_states(session, [statement], now=clock.now())
        later = await contesting.statement_states(session, [statement], now=CLOSED + 31 * DAY)
    assert (states[statement], later[statement]) == (StatementState.CLOSED, StatementState.FINAL)


async def test_the_platform_rules_what_is_escalated(db: Database, clock: FixedClock) -> None:
    case = await Case.closed(db, clock)
    view = await case.answered(await case.contested(), accept=False)
    async with db.unit_of_work(SYSTEM) as session:
        await contesting.escalate_contest(session, case.payee, view.id, escalation="see §3", now=clock.now())
        with pytest.raises(ContestInvalid):
            await contesting.rule_contest(
                session, view.id, granted_minor=101, ruling="more", ruled_by="usr_1", now=clock.now()
            )
        states = await contesting.statement_states(session, [view.statement_id], now=clock.now())
        assert states[view.statement_id] is StatementState.DISPUTED
        ruled = await contesting.rule_contest(
            session, view.id, granted_minor=60, ruling="in part", ruled_by="usr_1", now=clock.now()
        )
    assert (ruled.status, ruled.granted_minor) == (ContestStatus.RULED, 60)
    assert await case.has(case.payee) == (60, 0)


async def test_who_may_do_what_and_when(db: Database, clock: FixedClock) -> None:
    case = await Case.closed(db, clock)
    view = await case.contested()
    statement, entry = await case.statement()
    async with db.unit_of_work(SYSTEM) as session:

        async def contest(party: str = case.payee, **other: object) -> None:
            facts = {"entry": entry, "claimed_minor": 5, "reason": "again", "now": clock.now(), **other}
            await contesting.contest(session, party, statement, **facts)  # type: ignore[arg-type]

        with pytest.raises(AlreadyContested):
            await contest()
        with pytest.raises(ContestInvalid):
            await contest(entry="jrn_x/1")
        with pytest.raises(ContestInvalid):
            await contest(claimed_minor=0)
        with pytest.raises(ContestTooLate):
            await contest(now=CLOSED + 30 * DAY + timedelta(seconds=1))
        with pytest.raises(StatementNotFound):
            await contest(case.merchant)
        with pytest.raises(ContestMoved):
            await contesting.answer_contest(
                session, case.payee, view.id, accept=True, reply="mine", now=clock.now()
            )
        with pytest.raises(ContestNotFound):
            await contesting.answer_contest(
                session, str(RefundId.new()), view.id, accept=True, reply="x", now=clock.now()
            )
        with pytest.raises(ContestMoved):
            await contesting.escalate_contest(session, case.payee, view.id, escalation="x", now=clock.now())
