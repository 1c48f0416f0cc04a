"""What parties owe: its age, what it is made of, and how it is given up."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.actor import SYSTEM, Actor, ActorKind, MissingScope
from core.clock import FixedClock
from core.ids import BrandId, RefundId, UserId
from core.pagination import PageRequest
from infra.db.session import Database
from supply.ledger import queries as ledger
from supply.ledger import service as posting
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement import owing, policies, queries, service
from supply.settlement.capture import CapturedOrder
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.errors import OrderDisputed
from supply.settlement.parties import party_account, platform_account
from supply.settlement.policies import Absorption, PolicyInvalid, Recovery
from supply.settlement.recovery_models import WriteOffStatus
from supply.settlement.refunds import RefundPlan
from supply.settlement.writing_off import (
    ApproverMustDiffer,
    ReasonMissing,
    WriteOffDecided,
    WriteOffTooLarge,
    write_offs_page,
)
from tests.factories.settlement import PAID_AT, Parties, dispute_of, line_of_o1, order_of

SCOPES = frozenset({"platform:admin"})


def operator() -> Actor:
    return Actor(ActorKind.PLATFORM, user_id=UserId.new(), scopes=SCOPES)


async def owes(db: Database, party: BrandId, amount: int, clock: FixedClock) -> None:
    """Above zero a new debt, below zero a payment of it."""
    legs = (
        debit(party_account(Code.RECEIVABLE, str(party), "CNY"), amount),
        credit(platform_account(Code.ROUNDING_GAIN, "CNY"), amount),
    )
    key = f"{party}:{clock.now().isoformat()}"
    async with db.unit_of_work(SYSTEM) as session:
        await posting.post(session, Journal(key, "test", legs, clock.now()), now=clock.now())


async def test_payments_pay_off_the_oldest_debt(db: Database, clock: FixedClock) -> None:
    party, start = BrandId.new(), clock.now()
    for amount in (100, 200, -150, 300):  # the first is paid, 150 of the second is not
        await owes(db, party, amount, clock)
        clock.advance(timedelta(days=1))

    async with db.reading(SYSTEM) as session:
        (found,) = (await owing.receivables_page(session, SYSTEM, PageRequest(5))).items
        debts = await owing.debts_of(session, str(party), "CNY")
    assert (found.payee_id, found.owed_minor, found.debts) == (str(party), 450, 2)
    assert (found.since, found.age_days(clock.now())) == (start + timedelta(days=1), 3)
    assert [(debt.amount_minor, debt.open_minor) for debt in debts] == [(200, 150), (300, 300)]


async def test_debts_are_listed_page_by_page_each_party_its_own(db: Database, clock: FixedClock) -> None:
    parties = sorted([BrandId.new() for _ in range(3)], key=str)
    for party in parties:
        await owes(db, party, 100, clock)
    async with db.reading(SYSTEM) as session:
        first = await owing.receivables_page(session, SYSTEM, PageRequest(2))
        last = await owing.receivables_page(session, SYSTEM, PageRequest(2, first.cursors[-1]))
    assert [each.payee_id for each in (*first.items, *last.items)] == [str(party) for party in parties]
    assert (first.has_next, last.has_next) == (True, False)
    mine = Actor(ActorKind.BRAND, parties[0])
    async with db.reading(mine) as session:
        seen = await owing.receivables_page(session, mine, PageRequest(5))
    assert [each.payee_id for each in seen.items] == [str(parties[0])]


async def test_r7c_a_debt_is_given_up_by_two_operators_for_a_reason(db: Database, clock: FixedClock) -> None:
    party, asker, approver = BrandId.new(), operator(), operator()
    await owes(db, party, 87, clock)
    async with db.unit_of_work(SYSTEM) as session:
        with pytest.raises(ReasonMissing):
            await service.ask_write_off(session, asker, str(party), "CNY", 87, reason=" ", clock=clock)
        with pytest.raises(WriteOffTooLarge):
            await service.ask_write_off(session, asker, str(party), "CNY", 88, reason="gone", clock=clock)
        brand = Actor(ActorKind.BRAND, party)
        with pytest.raises(MissingScope):
            await service.ask_write_off(session, brand, str(party), "CNY", 87, reason="me", clock=clock)
        asked = await service.ask_write_off(
            session, asker, str(party), "CNY", 87, reason="insolvent", clock=clock
        )
        with pytest.raises(ApproverMustDiffer):
            await service.decide_write_off(session, asker, asked, approve=True, clock=clock)
        await service.decide_write_off(session, approver, asked, approve=True, clock=clock)
        with pytest.raises(WriteOffDecided):
            await service.decide_write_off(session, approver, asked, approve=True, clock=clock)

    async with db.reading(SYSTEM) as session:
        (found,) = (await write_offs_page(session, SYSTEM, PageRequest(5))).items
        entries = await ledger.entries_of_journal(session, f"writeoff:{asked}")
        assert (await owing.receivables_page(session, SYSTEM, PageRequest(5))).items == []
    assert (found.status, found.asked_by, found.decided_by) == (
        WriteOffStatus.APPROVED, str(asker), str(approver),
    )  # fmt: skip
    assert {(e.code, e.amount_minor) for e in entries} == {(Code.BAD_DEBT, 87), (Code.RECEIVABLE, -87)}


async def test_a_merchants_own_policy_goes_before_the_platforms(db: Database, clock: FixedClock) -> None:
    merchant = str(BrandId.new())
    async with db.unit_of_work(SYSTEM) as session:
        assert await policies.absorption(session, merchant) == Absorption(0)
        assert await policies.recovery(session) == Recovery(True, 3, 1)
        await policies.set_policy(session, SYSTEM, Absorption(500), clock=clock)
        assert await policies.absorption(session, merchant) == Absorption(500)
        await policies.set_policy(session, SYSTEM, Absorption(0), scope=merchant, clock=clock)
        assert await policies.absorption(session, merchant) == Absorption(0)
        with pytest.raises(MissingScope):
            await policies.set_policy(
                session, Actor(ActorKind.PLATFORM), Recovery(by_reversal=False), clock=clock
            )
        with pytest.raises(PolicyInvalid):
            Recovery(after_days=-1)


async def test_disputes_refunds_releases_and_payouts_race_for_the_same_money(
    db: Database, clock: FixedClock
) -> None:
    """No deadlock, nothing twice: two orders of one charge, told by four notices each while all else goes on."""
    for round_ in range(4):
        parties, charge = Parties(), f"ch_{round_}"
        clock.at = PAID_AT
        orders = [order_of(parties, [line_of_o1(parties)], charge_id=charge) for _ in range(2)]
        async with db.unit_of_work(SYSTEM) as session:
            await service.open_splits(session, orders, clock=clock)
        clock.at = PAID_AT + timedelta(days=45 if round_ % 2 else 1)

        async def tell(status: str, charge: str = charge) -> None:
            async with db.unit_of_work(SYSTEM) as session:
                facts = dispute_of(charge, dispute_id=f"du_{charge}", status=status, amount_minor=15_000)
                await apply_dispute(session, facts, provider="stripe", now=clock.now())

        async def refund(order: CapturedOrder) -> bool:
            plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=500)
            try:
                async with db.unit_of_work(SYSTEM) as session:
                    await service.reserve_refund(session, plan, now=clock.now())
            except OrderDisputed:
                return False
            return True

        await asyncio.gather(
            *(tell("needs_response") for _ in range(4)),
            *(refund(order) for order in orders * 2),
            service.release_due(db, clock=clock),
            service.make_batch(db, cycle=f"c{round_}", clock=clock),
            *(tell("lost") for _ in range(2)),
        )
        await tell("lost")

        async with db.reading(SYSTEM) as session:
            assert await queries.broken_identities(session) == []
            assert await ledger.mismatched_balances(session) == 0
            trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
        assert trial.get(Code.DISPUTE_RECEIVABLE, 0) == trial.get(Code.RESERVED, 0) == 0
        assert trial[Code.DISPUTE_FEE] == 1_500 * (round_ + 1)
