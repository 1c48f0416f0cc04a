"""A commission denied and given back: to the unit, whatever was refunded in between."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import RefundId
from infra.db.session import Database
from supply.ledger import queries as ledger
from supply.settlement import queries
from supply.settlement.capture import CapturedOrder, open_split
from supply.settlement.denied_commission import deny_commission, restore_commission
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.refunds import LineRefund, RefundPlan, reserve_refund, void_refund
from supply.settlement.release import release_due
from tests.factories.settlement import PAID_AT, Parties, captured_o1, dispute_of, line_of_o1, order_of


async def _deny(
    session: AsyncSession, order: CapturedOrder, amount: int | None = None, *, reference: str = "d1"
) -> int:
    moved = await deny_commission(
        session, order.order_id, order.lines[0].order_line_id, reference=reference, reason="FRAUD",
        approved_by="usr_1", now=PAID_AT, amount_minor=amount,
    )  # fmt: skip
    return sum(share.amount_minor for share in moved)


async def _restore(session: AsyncSession, order: CapturedOrder, reference: str = "d1") -> tuple[int, int]:
    moved = await restore_commission(
        session, order.order_id, reference, reason="wrongly", approved_by="usr_1", now=PAID_AT
    )
    return sum(share.amount_minor for share in moved), sum(share.withheld_minor for share in moved)


async def _nets(session: AsyncSession, parties: Parties) -> list[int]:
    """Of merchant, promoter brand, individual; what a party owes is below zero."""
    ids = [str(parties.merchant), str(parties.promoter_brand), str(parties.individual)]
    found = {each.payee_id: each.net_minor for each in await queries.party_balances(session, ids)}
    assert await queries.broken_identities(session) == []
    assert await ledger.mismatched_balances(session) == 0
    return [found[id] for id in ids]


async def test_all_of_a_commission_goes_to_the_merchant_and_comes_back(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    before = await _nets(session, parties)
    assert await _deny(session, order) == 1_350
    assert await _nets(session, parties) == [before[0] + 1_350, 0, 0]
    assert await _deny(session, order) == 0

    assert await _restore(session, order) == (1_350, 0)
    assert await _nets(session, parties) == before
    assert await _restore(session, order) == (0, 0)


async def test_a_part_is_taken_in_proportion_to_what_each_holds(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    # 101 over 450 and 900: 33.67 and 67.33, the left-over unit to the larger fraction.
    assert await _deny(session, order, 101) == 101
    assert (await _nets(session, parties))[1:] == [900 - 67, 450 - 34]
    assert await _deny(session, order, 5_000, reference="d2") == 1_249
    assert (await _nets(session, parties))[1:] == [0, 0]
    assert await _restore(session, order, "d1") == (101, 0)
    assert (await _nets(session, parties))[1:] == [67, 34]


@pytest.mark.parametrize("seed", range(12))
async def test_given_back_after_refunds_of_units_all_stand_as_if_it_had_never_been_denied(
    session: AsyncSession, clock: FixedClock, seed: int
) -> None:
    dice = random.Random(seed)
    quantity, early, late = dice.randint(3, 9), dice.randint(0, 2), dice.randint(0, 4)
    basis = dice.randint(2_000, 9_000)
    stands = []
    for denied in (False, True):
        parties = Parties()
        line = line_of_o1(parties, quantity=quantity, basis_minor=basis)
        order = order_of(parties, [line], charge_id=f"ch_{denied}")
        await open_split(session, order, clock=clock)
        await _refund(session, order, min(early, quantity))
        if denied:
            await _deny(session, order)
        await _refund(session, order, min(late, quantity - early))
        if denied:
            await _restore(session, order)
        stands.append(await _nets(session, parties))
    assert stands[0] == stands[1]


@pytest.mark.parametrize("seed", range(16))
async def test_a_refund_that_fails_after_all_gives_back_to_whose_shares_it_was(
    session: AsyncSession, clock: FixedClock, seed: int
) -> None:
    """Refunds before and after the denial, by units and by amount; the denial undone; then all but the first fail.

    Beside it the same order, whose commission was never denied.
    """
    dice = random.Random(seed)
    quantity, basis = dice.randint(4, 9), dice.randint(2_000, 9_000)
    units = [1, *(dice.randint(1, 2) for _ in range(2))]
    stands, before_void = [], []
    for denied in (False, True):
        parties = Parties()
        line = line_of_o1(parties, quantity=quantity, basis_minor=basis)
        order = order_of(parties, [line], charge_id=f"ch_{denied}")
        await open_split(session, order, clock=clock)
        await _refund(session, order, units[0])
        if denied:
            await _deny(session, order)
        late = [await _refund(session, order, count) for count in units[1:] if count]
        if denied:
            await _restore(session, order)
        before_void.append(await _nets(session, parties))
        dice.shuffle(late)
        for refund_id in late:
            await void_refund(session, refund_id, now=PAID_AT)
            await void_refund(session, refund_id, now=PAID_AT)
        stands.append(await _nets(session, parties))
    assert before_void[0] == before_void[1]
    assert stands[0] == stands[1]


async def test_a_refund_by_amount_that_fails_gives_back_what_it_withheld(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    whole = await _nets(session, parties)
    await _deny(session, order)
    plan = RefundPlan(RefundId.new(), order.order_id, amount_minor=2_597)
    await reserve_refund(session, plan, now=PAID_AT)
    await _restore(session, order)
    assert (await _nets(session, parties))[1:] < whole[1:]
    await void_refund(session, plan.refund_id, now=PAID_AT)
    assert await _nets(session, parties) == whole


@pytest.mark.parametrize("seed", range(6))
async def test_refunds_of_every_kind_that_fail_give_back_what_they_withheld(
    session: AsyncSession, clock: FixedClock, seed: int
) -> None:
    """A unit, an amount, and all that is left; they fail in any sequence."""
    dice = random.Random(seed)
    parties = Parties()
    order = order_of(parties, [line_of_o1(parties, quantity=4)], charge_id="ch_1")
    await open_split(session, order, clock=clock)
    whole = await _nets(session, parties)
    await _deny(session, order)
    failing = [await _refund(session, order, 1)]
    for plan in (
        RefundPlan(RefundId.new(), order.order_id, amount_minor=dice.randint(100, 3_000)),
        RefundPlan(RefundId.new(), order.order_id, everything=True),
    ):
        await reserve_refund(session, plan, now=PAID_AT)
        failing.append(plan.refund_id)
    assert await _restore(session, order) == (0, 1_350)
    dice.shuffle(failing)
    for refund_id in failing:
        await void_refund(session, refund_id, now=PAID_AT)
        assert min((await _nets(session, parties))[1:]) >= 0
    assert await _nets(session, parties) == whole


async def _bank_says(session: AsyncSession, status: str, amount: int) -> None:
    facts = dispute_of("ch_1", amount_minor=amount, status=status)
    await apply_dispute(session, facts, provider="stripe", now=PAID_AT)


@pytest.mark.parametrize("amount", [10_388, 2_597], ids=["all of it", "a quarter"])
async def test_a_dispute_lost_in_between_and_won_after_all_gives_back_to_whose_shares_it_was(
    session: AsyncSession, clock: FixedClock, amount: int
) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    whole = await _nets(session, parties)
    await _deny(session, order)
    await _bank_says(session, "needs_response", amount)
    await _bank_says(session, "lost", amount)

    given, withheld = await _restore(session, order)
    assert given + withheld == 1_350
    # All of it took all of the commission; of a quarter a quarter, 337.5 of 1,350, to the unit.
    assert withheld == 1_350 if amount == 10_388 else abs(withheld - 337.5) < 1

    await _bank_says(session, "won", amount)
    assert await _nets(session, parties) == whole
    await _bank_says(session, "won", amount)
    assert await _nets(session, parties) == whole


async def test_a_denial_while_a_dispute_is_open_freezes_what_the_merchant_gains(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    merchant, promoter, individual = await _nets(session, parties)
    await _bank_says(session, "needs_response", 10_388)
    assert await _frozen_and_owed(session, parties) == ([merchant, promoter, individual], [0, 0, 0])

    assert await _deny(session, order) == 1_350
    assert await _frozen_and_owed(session, parties) == ([merchant + 1_350, 0, 0], [0, 0, 0])
    assert await _restore(session, order) == (1_350, 0)
    assert await _frozen_and_owed(session, parties) == ([merchant, promoter, individual], [0, 0, 0])

    await _deny(session, order, reference="d2")
    await _bank_says(session, "lost", 10_388)
    assert await _frozen_and_owed(session, parties) == ([0, 0, 0], [0, 0, 0])
    assert await _nets(session, parties) == [0, 0, 0]


async def _frozen_and_owed(session: AsyncSession, parties: Parties) -> tuple[list[int], list[int]]:
    """2030 and 1100 of merchant, promoter brand, individual."""
    ids = [str(parties.merchant), str(parties.promoter_brand), str(parties.individual)]
    found = {each.payee_id: each for each in await queries.party_balances(session, ids)}
    return [found[id].reserved_minor for id in ids], [found[id].receivable_minor for id in ids]


async def test_a_dispute_won_while_its_line_is_denied_again_gives_back_when_that_is_undone(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    whole = await _nets(session, parties)
    await _deny(session, order)
    for status in ("needs_response", "lost"):
        await _bank_says(session, status, 10_388)
    await _restore(session, order)
    await _deny(session, order, reference="d2")
    await _bank_says(session, "won", 10_388)
    await _restore(session, order, "d2")
    assert await _nets(session, parties) == whole


async def test_what_comes_back_to_a_line_that_is_denied_again_waits_until_that_is_undone(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = order_of(parties, [line_of_o1(parties, quantity=4)], charge_id="ch_1")
    await open_split(session, order, clock=clock)
    whole = await _nets(session, parties)
    await _deny(session, order)
    refund_id = await _refund(session, order, 1)
    await _restore(session, order)
    await _deny(session, order, reference="d2")
    await void_refund(session, refund_id, now=PAID_AT)
    assert await _nets(session, parties) == [sum(whole), 0, 0]
    await _restore(session, order, "d2")
    assert await _nets(session, parties) == whole


async def _refund(session: AsyncSession, order: CapturedOrder, quantity: int) -> RefundId:
    refund_id = RefundId.new()
    if quantity:
        lines = (LineRefund(order.lines[0].order_line_id, quantity),)
        await reserve_refund(session, RefundPlan(refund_id, order.order_id, lines=lines), now=PAID_AT)
    return refund_id


async def test_of_what_was_wholly_refunded_nothing_comes_back(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    await _deny(session, order)
    await reserve_refund(session, RefundPlan(RefundId.new(), order.order_id, everything=True), now=PAID_AT)
    assert await _restore(session, order) == (0, 1_350)
    assert (await _nets(session, parties))[1:] == [0, 0]


async def test_a_refund_by_amount_in_between_is_borne_by_whoever_would_have_held_the_money(
    session: AsyncSession, clock: FixedClock
) -> None:
    parties = Parties()
    order = await captured_o1(session, clock, parties)
    await _deny(session, order)
    # Of 10,388 a quarter: the merchant, with 4,550 of the line, gives a quarter of that; so does a commission.
    await reserve_refund(session, RefundPlan(RefundId.new(), order.order_id, amount_minor=2_597), now=PAID_AT)
    given, withheld = await _restore(session, order)
    assert given + withheld == 1_350
    assert abs(withheld - 1_350 / 4) <= 1
    await _nets(session, parties)


async def test_a_commission_that_was_released_is_owed_or_taken_from_what_is_here(
    db: Database, clock: FixedClock
) -> None:
    parties = Parties()
    async with db.unit_of_work(SYSTEM) as session:
        order = await captured_o1(session, clock, parties)
    clock.at = PAID_AT + timedelta(days=45)
    await release_due(db, clock=clock)
    async with db.unit_of_work(SYSTEM) as session:
        assert await _deny(session, order) == 1_350
        nets = await _nets(session, parties)
        assert await _restore(session, order) == (1_350, 0)
    assert nets == [3_200 + 1_350, 0, 0]
    await release_due(db, clock=clock)
    async with db.reading(SYSTEM) as session:
        assert await _nets(session, parties) == [3_200, 900, 450]
