"""A campaign's budget (cps.md R4): reserved when earned, spent when confirmed, freed while it runs, never exceeded."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, OrderLineId
from core.money import Money
from infra.db.session import Database
from marketplace.promotion.agreements.limits import CapScope, CapTerm, TierTerms
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.commission.rules import CapMode, Tier, TierMode
from marketplace.promotion.events import CommissionReversed, ReversedLine
from marketplace.promotion.facts import ScopeKind
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.offers import budgets, campaigns, queries
from marketplace.promotion.offers.campaigns import CampaignChange
from marketplace.promotion.service import Attributed
from supply.settlement.events import CommissionReleased
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.marketplace.promotion.offers import selling
from tests.marketplace.promotion.offers.selling import earned, line, link_token, order_of, sell

MERCHANT, PROMOTER, OTHER = (brand_actor(BrandId.new()) for _ in range(3))
TENTH = make.TEN_PERCENT


class Selling:
    """One agreement of a campaign, and orders sold through it."""

    def __init__(self, session: AsyncSession, clock: FixedClock, campaign_id: CampaignId, token: str) -> None:
        self.session, self.clock, self.campaign_id, self.token = session, clock, campaign_id, token

    async def order(self, *bases: int, currency: str = "CNY") -> Attributed:
        lines = [line(basis) for basis in bases]
        order = order_of(MERCHANT, self.clock, [self.token], *lines, currency=currency)
        return await sell(self.session, order, self.clock)

    async def earns(self, *bases: int, currency: str = "CNY") -> list[int]:
        return [each.commission_minor for each in (await self.order(*bases, currency=currency)).lines]

    async def counted(self) -> tuple[int, int]:
        """(reserved, spent)"""
        return (await selling.budget(self.session, self.campaign_id))[1:]

    async def reverse(self, done: Attributed, amount_minor: int) -> None:
        freed = ReversedLine(done.lines[0].commission_line_id, amount_minor, 0)
        await budgets.on_commission_reversed(self.session, CommissionReversed((freed,)), clock=self.clock)

    async def release(self, done: Attributed) -> None:
        lines: tuple[OrderLineId, ...] = tuple(each.order_line_id for each in done.lines)
        released = CommissionReleased(lines, 1, self.clock.now())
        await budgets.on_commission_released(self.session, released, clock=self.clock)


async def opened(
    session: AsyncSession,
    clock: FixedClock,
    budget_minor: int,
    *,
    mode: CapMode = CapMode.TRUNCATE,
    terms: Terms = TENTH,
) -> Selling:
    await make.known(session, clock, MERCHANT, PROMOTER, OTHER)
    campaign_id = await make.campaign(session, MERCHANT, clock, budget_minor=budget_minor, mode=mode)
    token = await link_token(session, MERCHANT, PROMOTER, clock, campaign_id, terms)
    return Selling(session, clock, campaign_id, token)


async def test_a_budget_is_paid_out_and_then_nothing(session: AsyncSession, clock: FixedClock) -> None:
    selling_ = await opened(session, clock, 2_500)
    assert await selling_.earns(10_000) == [1_000]
    # 2,000 wanted, 1,500 left: three to one by largest remainder.
    assert await selling_.earns(15_000, 5_000) == [1_125, 375]
    assert await selling_.earns(10_000) == [0]
    assert await selling_.counted() == (2_500, 0)


async def test_all_or_nothing_leaves_what_does_not_reach(session: AsyncSession, clock: FixedClock) -> None:
    selling_ = await opened(session, clock, 1_500, mode=CapMode.ALL_OR_NOTHING)
    assert [await selling_.earns(basis) for basis in (10_000, 10_000, 5_000)] == [[1_000], [0], [500]]


async def test_agreements_of_one_campaign_share_its_budget(session: AsyncSession, clock: FixedClock) -> None:
    first = await opened(session, clock, 1_500)
    token = await link_token(session, MERCHANT, OTHER, clock, first.campaign_id)
    second = Selling(session, clock, first.campaign_id, token)
    assert (await first.earns(10_000), await second.earns(10_000)) == ([1_000], [500])


async def test_two_agreements_of_one_order_take_from_it_in_turn(
    session: AsyncSession, clock: FixedClock
) -> None:
    await make.known(session, clock, MERCHANT, PROMOTER, OTHER)
    campaign_id = await make.campaign(session, MERCHANT, clock, budget_minor=1_500)

    def of(sku: str) -> Terms:
        return Terms((Rule(100_000, ScopeKind.SKU, sku),))

    tokens = [
        await link_token(session, MERCHANT, promoter, clock, campaign_id, of(sku))
        for promoter, sku in ((PROMOTER, "a"), (OTHER, "b"))
    ]
    order = order_of(MERCHANT, clock, tokens, line(8_000, sku="a"), line(9_000, sku="b"))
    done = await sell(session, order, clock)
    # 800 and 900 wanted of 1,500: the line that comes first is paid in full.
    assert [each.commission_minor for each in done.lines] == [800, 700]
    assert await selling.budget(session, campaign_id) == (1_500, 1_500, 0)


async def test_a_terms_cap_holds_before_the_budget(session: AsyncSession, clock: FixedClock) -> None:
    terms = Terms((Rule(100_000),), caps=(CapTerm(CapScope.ORDER, 600, "CNY"),))
    selling_ = await opened(session, clock, 1_000, terms=terms)
    assert [await selling_.earns(10_000) for _ in range(3)] == [[600], [400], [0]]


async def test_what_retroactive_tiers_owe_counts_as_spent(session: AsyncSession, clock: FixedClock) -> None:
    tiers = TierTerms((Tier(0, 50_000), Tier(10_000, 80_000)), "CNY", TierMode.RETROACTIVE)
    selling_ = await opened(session, clock, 10_000, terms=Terms((Rule(1),), tiers=tiers))
    assert await selling_.earns(8_000) == [400]
    crossing = await selling_.order(6_000)
    # 8 % of 6,000, and 3 % more on the 8,000 before it.
    assert (earned(crossing), crossing.adjustments[0].amount_minor) == (480, 240)
    assert await selling_.counted() == (880, 240)


async def test_orders_in_another_currency_are_not_counted(session: AsyncSession, clock: FixedClock) -> None:
    selling_ = await opened(session, clock, 500)
    assert await selling_.earns(10_000, currency="EUR") == [1_000]
    assert await selling_.counted() == (0, 0)


async def test_confirmed_commission_is_spent_and_a_reversal_frees_it_wherever_it_counts(
    session: AsyncSession, clock: FixedClock
) -> None:
    selling_ = await opened(session, clock, 2_000)
    early, late = await selling_.order(10_000), await selling_.order(10_000)
    await selling_.release(early)
    assert await selling_.counted() == (1_000, 1_000)
    await selling_.reverse(early, 400)  # of what is spent
    await selling_.reverse(late, 300)  # of what is reserved
    assert await selling_.counted() == (700, 600)
    await selling_.release(late)
    await selling_.release(late)
    assert await selling_.counted() == (0, 1_300)
    assert await selling_.earns(10_000) == [700]


async def test_it_makes_no_difference_which_comes_first(session: AsyncSession, clock: FixedClock) -> None:
    selling_ = await opened(session, clock, 5_000)
    one, two = await selling_.order(10_000), await selling_.order(10_000)
    await selling_.release(one)
    await selling_.reverse(one, 400)
    await selling_.reverse(two, 400)
    await selling_.release(two)
    assert await selling_.counted() == (0, 1_200)


async def test_money_that_came_back_takes_its_part_again(session: AsyncSession, clock: FixedClock) -> None:
    selling_ = await opened(session, clock, 1_000)
    done = await selling_.order(10_000)
    await selling_.reverse(done, 1_000)
    await selling_.reverse(done, -1_000)
    assert await selling_.counted() == (1_000, 0)


async def test_an_ended_campaign_frees_nothing(session: AsyncSession, clock: FixedClock) -> None:
    selling_ = await opened(session, clock, 1_000)
    done = await selling_.order(10_000)
    await campaigns.pause(session, MERCHANT, selling_.campaign_id, clock=clock)
    await selling_.reverse(done, 100)
    assert await selling_.counted() == (900, 0)
    await campaigns.end(session, MERCHANT, selling_.campaign_id, clock=clock)
    clock.advance(timedelta(days=7))
    await selling_.reverse(done, 100)
    assert await selling_.counted() == (900, 0)


async def test_that_nothing_is_left_is_noted_and_told_once(session: AsyncSession, clock: FixedClock) -> None:
    selling_ = await opened(session, clock, 1_500)

    async def state() -> tuple[bool, int]:
        found = await queries.campaign(session, MERCHANT, selling_.campaign_id)
        told = await session.scalar(
            text("SELECT count(*) FROM outbox WHERE name = 'promotion.campaign_budget_used_up'")
        )
        return found.used_up, told or 0

    first = await selling_.order(10_000)
    assert await state() == (False, 0)
    await selling_.order(10_000)
    assert await state() == (True, 1)
    await selling_.order(10_000)
    assert await state() == (True, 1)
    await selling_.reverse(first, 1_000)
    assert await state() == (False, 1)


async def test_the_same_order_again_takes_nothing_more(session: AsyncSession, clock: FixedClock) -> None:
    selling_ = await opened(session, clock, 5_000)
    order = order_of(MERCHANT, clock, [selling_.token], line(10_000))
    for _ in range(2):
        assert earned(await sell(session, order, clock)) == 1_000
    assert await selling_.counted() == (1_000, 0)


@pytest.mark.parametrize("seed", range(6))
async def test_after_any_sequence_the_counts_are_those_of_the_lines(
    session: AsyncSession, clock: FixedClock, seed: int
) -> None:
    """Orders, refunds, refunds that came back and releases in any sequence: reserved and spent are what a recount of
    the model finds, and no order ever took more than was left."""
    dice = random.Random(seed)
    limit = dice.randrange(2_000, 9_000)
    selling_ = await opened(
        session, clock, limit, mode=dice.choice([CapMode.TRUNCATE, CapMode.ALL_OR_NOTHING])
    )
    model: list[tuple[Attributed, int, bool]] = []  # (order, what it still takes, confirmed)
    for _ in range(40):
        held = sum(amount for _, amount, _ in model)
        step = dice.choice(["order", "order", "reverse", "restore", "release"])
        if step == "order" or not model:
            done = await selling_.order(dice.randrange(1, 20_000))
            assert held + earned(done) <= max(limit, held)
            model.append((done, earned(done), False))
            continue
        at = dice.randrange(len(model))
        done, amount, confirmed = model[at]
        if step == "release":
            await selling_.release(done)
            model[at] = (done, amount, True)
        elif step == "reverse" and amount:
            taken = dice.randrange(1, amount + 1)
            await selling_.reverse(done, taken)
            model[at] = (done, amount - taken, confirmed)
        elif step == "restore" and amount < earned(done):
            back = dice.randrange(1, earned(done) - amount + 1)
            await selling_.reverse(done, -back)
            model[at] = (done, amount + back, confirmed)
        reserved = sum(amount for _, amount, confirmed in model if not confirmed)
        spent = sum(amount for _, amount, confirmed in model if confirmed)
        assert await selling_.counted() == (reserved, spent)


@pytest.fixture
async def budgeted(db: Database, clock: FixedClock) -> Selling:
    async with db.unit_of_work(SYSTEM) as session:
        return await opened(session, clock, 3_500)


async def test_of_racing_orders_five_are_paid_and_not_a_cent_more(
    db: Database, clock: FixedClock, budgeted: Selling
) -> None:
    async def one() -> int:
        async with db.unit_of_work(SYSTEM) as session:
            return earned(
                await sell(session, order_of(MERCHANT, clock, [budgeted.token], line(7_000)), clock)
            )

    paid = await asyncio.gather(*(one() for _ in range(24)))

    assert sorted(paid, reverse=True) == [700] * 5 + [0] * 19
    async with db.reading(SYSTEM) as session:
        assert await selling.budget(session, budgeted.campaign_id) == (3_500, 3_500, 0)
        told = await session.scalar(
            text("SELECT count(*) FROM outbox WHERE name = 'promotion.campaign_budget_used_up'")
        )
        assert told == 1


async def test_checkouts_of_two_merchants_and_their_changes_of_budgets_never_wait_in_a_circle(
    db: Database, clock: FixedClock
) -> None:
    """Orders of two campaigns in one transaction, as a capture has them, while both budgets are raised and confirmed
    commission is counted: whatever is locked is locked in one sequence."""
    merchants = sorted([MERCHANT, OTHER], key=lambda each: each.brand_id)
    made: list[tuple[CampaignId, str]] = []
    async with db.unit_of_work(SYSTEM) as session:
        await make.known(session, clock, *merchants, PROMOTER)
        for merchant in merchants:
            campaign_id = await make.campaign(session, merchant, clock, budget_minor=1_000)
            made.append((campaign_id, await link_token(session, merchant, PROMOTER, clock, campaign_id)))
    sold: list[OrderLineId] = []

    async def buy_from_both() -> None:
        async with db.unit_of_work(SYSTEM) as session:
            for merchant, (_, token) in zip(merchants, made, strict=True):
                done = await sell(session, order_of(merchant, clock, [token], line(3_000)), clock)
                sold.extend(each.order_line_id for each in done.lines)

    async def raise_budget(at: int, limit_minor: int) -> None:
        async with db.unit_of_work(merchants[at]) as session:
            change = CampaignChange(budget=Money(limit_minor, "CNY"))
            await campaigns.change(session, merchants[at], made[at][0], change, clock=clock)

    async def confirm() -> None:
        async with db.unit_of_work(SYSTEM) as session:
            released = CommissionReleased(tuple(sold), 1, clock.now())
            await budgets.on_commission_released(session, released, clock=clock)

    steps = [buy_from_both() for _ in range(12)]
    # Above what twelve orders earn (3,600): whichever comes last, none is refused as below what is committed.
    steps += [raise_budget(n % 2, 4_000 + n) for n in range(8)] + [confirm() for _ in range(6)]
    random.Random(1).shuffle(steps)
    await asyncio.gather(*steps)

    async with db.reading(SYSTEM) as session:
        for campaign_id, _ in made:
            limit, reserved, spent = await selling.budget(session, campaign_id)
            paid = await session.scalar(
                text(
                    "SELECT sum(l.commission_minor) FROM commission_lines l JOIN agreements a"
                    " ON a.id = l.agreement_id WHERE a.campaign_id = :id"
                ),
                {"id": campaign_id},
            )
            assert reserved + spent == paid <= limit
