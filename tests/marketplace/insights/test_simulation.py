"""Past orders under other terms: against arithmetic on paper, and against what the handlers really did."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import AgreementId, BrandId, OrderId, OrderLineId, ProductId
from core.pagination import PageRequest
from infra.db.session import Database
from marketplace.insights import simulation
from marketplace.insights.errors import BadPeriod, BadSimulation, SimulationNotFound
from marketplace.insights.events import SimulationRequested
from marketplace.insights.models import SimulationStatus
from marketplace.insights.simulation import PayeeSort, Request, SimulationRow
from marketplace.promotion import service
from marketplace.promotion.agreements.limits import CapScope, CapTerm, TierTerms
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.commission.rules import Tier, TierMode
from marketplace.promotion.errors import BadTerms
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.promotion import SIGNER, Market

DAY = timedelta(days=1)
MERCHANT = brand_actor(BrandId.new())


async def _markets(db: Database, clock: FixedClock, *terms: Terms) -> list[Market]:
    """One merchant, a promoter brand for each of the terms."""
    async with db.unit_of_work(SYSTEM) as session:
        return [
            await make.market(session, MERCHANT, brand_actor(BrandId.new()), clock, each) for each in terms
        ]


async def _clicked(db: Database, clock: FixedClock, market: Market) -> str:
    async with db.unit_of_work(SYSTEM) as session:
        return await make.click(session, await make.link(session, market, clock), clock.now())


async def _sold(db: Database, clock: FixedClock, tokens: Sequence[str], *gross: int) -> OrderId:
    lines = [
        LineForAttribution(OrderLineId.new(), ProductId.new(), f"sku-{n}", "beauty", 1, minor)
        for n, minor in enumerate(gross)
    ]
    order = OrderForAttribution(
        OrderId.new(), MERCHANT.brand_id, "CNY", clock.now(), lines, touch_tokens=tokens, paid_at=clock.now()
    )
    async with db.unit_of_work(SYSTEM) as session:
        await service.attribute(session, order, signer=SIGNER, clock=clock)
    return order.order_id


async def _simulated(
    db: Database, clock: FixedClock, terms: Terms, agreements: Sequence[AgreementId] | None = None
) -> SimulationRow:
    wanted = Request(clock.now() - 30 * DAY, clock.now() + DAY, terms=terms, agreement_ids=agreements)
    async with db.unit_of_work(MERCHANT) as session:
        id = await simulation.request_simulation(session, MERCHANT, wanted, clock=clock)
    await simulation.on_simulation_requested(db, SimulationRequested(id), clock=clock)
    async with db.reading(MERCHANT) as session:
        return await simulation.simulation(session, MERCHANT, id)


async def _changes(
    db: Database, row: SimulationRow, sort: PayeeSort = PayeeSort.GAIN
) -> dict[tuple[str, BrandId], tuple[int, int]]:
    """(payee, promoter brand): minor units before and after, in the list's order."""
    async with db.reading(MERCHANT) as session:
        page = await simulation.payees_page(session, row.id, PageRequest(100), sort=sort)
    return {
        (each.payee, each.promoter_brand_id): (each.before.amount_minor, each.after.amount_minor)
        for each in page.items
    }


async def test_the_first_touch_instead_of_the_last_moves_the_commission(
    db: Database, clock: FixedClock
) -> None:
    """Ana's click came first, Ben's last; an order of 1,000.00 and, through Ben alone, one of 100.00, at 10 %.

    By the last touch Ben's brand has 95 % of 110.00 = 104.50 and the platform 5.50. By the first, at 8 %: Ana's has
    76.00 and the platform 4.00 of it, Ben's 7.60 and 0.40; 88.00 in all. One of two orders has another winner.
    """
    ana, ben = await _markets(db, clock, Terms.flat(100_000), Terms.flat(100_000))
    first = await _clicked(db, clock, ana)
    clock.advance(timedelta(hours=1))
    last = await _clicked(db, clock, ben)
    clock.advance(timedelta(hours=1))
    await _sold(db, clock, [first, last], 100_000)
    await _sold(db, clock, [last], 10_000)

    row = await _simulated(db, clock, Terms.flat(80_000, model=AttributionModel.FIRST_TOUCH))

    assert (row.status, row.orders_total, row.orders_done) == (SimulationStatus.DONE, 2, 2)
    assert (row.orders_changed, row.orders_won, row.orders_lost) == (1, 0, 0)
    [cost] = row.costs
    assert (cost.before.amount_minor, cost.after.amount_minor) == (11_000, 8_800)
    of_ana, of_ben = ana.promoter.brand_id, ben.promoter.brand_id
    expected = {
        (str(of_ana), of_ana): (0, 7_600), ("platform", of_ana): (0, 400),
        (str(of_ben), of_ben): (10_450, 760), ("platform", of_ben): (550, 40),
    }  # fmt: skip
    gains, losses = await _changes(db, row), await _changes(db, row, PayeeSort.LOSS)
    assert gains == losses == expected
    assert list(gains) == list(reversed(losses)) == [
        (str(of_ana), of_ana), ("platform", of_ana), ("platform", of_ben), (str(of_ben), of_ben),
    ]  # fmt: skip


async def test_a_longer_window_wins_an_order_that_nobody_had_sold_and_a_shorter_one_loses_it(
    db: Database, clock: FixedClock
) -> None:
    """A click, and 20 days later an order of 50.00: nobody's within 15 days, 2.00 at 4 % within 30."""
    [market] = await _markets(db, clock, Terms.flat(100_000))
    token = await _clicked(db, clock, market)
    clock.advance(20 * DAY)
    await _sold(db, clock, [token], 5_000)
    row = await _simulated(db, clock, Terms.flat(40_000, window_s=30 * 86_400))
    assert (row.orders_changed, row.orders_won, row.orders_lost) == (1, 1, 0)
    assert sum(after for _, after in (await _changes(db, row)).values()) == 200
    fresh = await _clicked(db, clock, market)
    clock.advance(2 * DAY)
    await _sold(db, clock, [fresh], 5_000)
    row = await _simulated(db, clock, Terms.flat(100_000, window_s=86_400))
    assert (row.orders_total, row.orders_changed, row.orders_won, row.orders_lost) == (2, 1, 0, 1)
    assert [(c.before.amount_minor, c.after.amount_minor) for c in row.costs] == [(500, 0)]


async def test_only_the_agreements_named_are_exchanged(db: Database, clock: FixedClock) -> None:
    ana, ben = await _markets(db, clock, Terms.flat(100_000), Terms.flat(100_000))
    for market in (ana, ben):
        await _sold(db, clock, [await _clicked(db, clock, market)], 10_000)
    row = await _simulated(db, clock, Terms.flat(50_000), [ana.agreement_id])
    changes = await _changes(db, row)
    assert changes[str(ana.promoter.brand_id), ana.promoter.brand_id] == (950, 475)
    assert changes[str(ben.promoter.brand_id), ben.promoter.brand_id] == (950, 950)


TIERS = TierTerms((Tier(0, 50_000), Tier(20_000, 100_000)), "CNY", TierMode.RETROACTIVE)


@pytest.mark.parametrize(
    "terms",
    [
        Terms.flat(100_000, individual_ppm=300_000, model=AttributionModel.LINEAR),
        Terms((Rule(100_000, rate_new_ppm=150_000),), caps=(CapTerm(CapScope.AGREEMENT, 30_000, "CNY"),)),
        Terms.flat(100_000, tiers=TIERS, caps=(CapTerm(CapScope.PROMOTER, 4_000, "CNY"),)),
    ],
    ids=["shared", "capped", "tiered"],
)
async def test_under_the_terms_that_were_in_force_nothing_changes(
    db: Database, clock: FixedClock, terms: Terms
) -> None:
    """Twenty orders of one to three lines through any touches there were: what the handlers stored is the oracle."""
    draw = random.Random(5)
    markets = await _markets(db, clock, terms, terms)
    tokens = [await _clicked(db, clock, draw.choice(markets)) for _ in range(8)]
    for _ in range(20):
        clock.advance(timedelta(minutes=draw.randrange(1, 60)))
        used = draw.sample(tokens, draw.randint(1, 4))
        await _sold(db, clock, used, *(draw.randrange(1, 9_000) for _ in range(draw.randint(1, 3))))
    row = await _simulated(db, clock, terms)
    assert (row.orders_done, row.orders_changed) == (20, 0)
    assert row.costs[0].before.amount_minor > 0
    assert all(before == after for before, after in (await _changes(db, row)).values())


async def test_a_job_that_was_taken_over_writes_nothing_and_one_that_is_done_is_not_done_again(
    db: Database, clock: FixedClock
) -> None:
    [market] = await _markets(db, clock, Terms.flat(100_000))
    await _sold(db, clock, [await _clicked(db, clock, market)], 10_000)
    row = await _simulated(db, clock, Terms.flat(50_000))
    await simulation.on_simulation_requested(db, SimulationRequested(row.id), clock=clock)
    async with db.reading(MERCHANT) as session:
        assert await simulation.simulation(session, MERCHANT, row.id) == row


async def test_what_cannot_be_simulated_is_refused(db: Database, clock: FixedClock) -> None:
    [market] = await _markets(db, clock, Terms.flat(100_000))
    now, terms = clock.now(), Terms.flat(50_000)
    refused: list[tuple[Request, type[Exception]]] = [
        (Request(now, now, terms=terms), BadPeriod),
        (Request(now - 400 * DAY, now, terms=terms), BadPeriod),
        (Request(now - DAY, now), BadSimulation),
        (Request(now - DAY, now, terms=Terms(())), BadTerms),
        (Request(now - DAY, now, terms=terms, agreement_ids=[AgreementId.new()]), BadSimulation),
        (Request(now - DAY, now, terms=terms, agreement_ids=[]), BadSimulation),
    ]
    for wanted, error in refused:
        with pytest.raises(error):
            async with db.unit_of_work(MERCHANT) as session:
                await simulation.request_simulation(session, MERCHANT, wanted, clock=clock)
    # The promoter's side of an agreement has no orders of its own to replay.
    wanted = Request(now - DAY, now, terms=terms, agreement_ids=[market.agreement_id])
    async with db.unit_of_work(market.promoter) as session:
        with pytest.raises(BadSimulation):
            await simulation.request_simulation(session, market.promoter, wanted, clock=clock)


async def test_the_outcome_is_the_requesters_alone(db: Database, clock: FixedClock) -> None:
    [market] = await _markets(db, clock, Terms.flat(100_000))
    await _sold(db, clock, [await _clicked(db, clock, market)], 10_000)
    row = await _simulated(db, clock, Terms.flat(50_000))
    async with db.reading(market.promoter) as session:
        with pytest.raises(SimulationNotFound):
            await simulation.simulation(session, market.promoter, row.id)
        assert (await simulation.payees_page(session, row.id, PageRequest(10))).items == []
