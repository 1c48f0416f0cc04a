"""Past orders under other terms: against arithmetic on paper, and against what the handlers really did."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.events import from_body
from core.ids import AgreementId, BrandId, OrderId, OrderLineId, ProductId, RefundId
from core.money import Money
from core.pagination import PageRequest
from infra.db.session import Database
from infra.payments.gateway import Refund
from marketplace.insights import simulation
from marketplace.insights.errors import BadPeriod, BadSimulation, SimulationNotFound
from marketplace.insights.events import SimulationRequested
from marketplace.insights.models import SimulationStatus
from marketplace.insights.simulation import PayeeSort, Request, SimulationRow
from marketplace.orders import refund_sending, refunding
from marketplace.orders.refunding import RefundCommand
from marketplace.promotion import service
from marketplace.promotion.agreements import counters
from marketplace.promotion.agreements.limits import CapScope, CapTerm, Period, TierTerms
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.commission.reversal import restore
from marketplace.promotion.commission.rules import Tier, TierMode
from marketplace.promotion.errors import BadTerms
from marketplace.promotion.events import CommissionReversed
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.offers import budgets
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from supply.settlement.refunded_goods import GoodsRefunded
from tests.factories import orders
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.commission_refunds import refund_basis
from tests.factories.promotion import SIGNER, Market

_UNHEARD = text(
    "UPDATE outbox SET published_at = now() WHERE name = :name AND published_at IS NULL RETURNING body"
)
_LATEST_LINE = text("SELECT order_line_id FROM commission_lines ORDER BY created_at DESC LIMIT 1")
_FIRST_LINE = text("SELECT order_line_id FROM commission_lines ORDER BY created_at LIMIT 1")
_BASIS = text("SELECT basis_minor, refunded_basis_minor FROM commission_lines WHERE order_line_id = :line")
_LEFT = text(
    "SELECT order_line_id, basis_minor - refunded_basis_minor AS left_minor, refunded_basis_minor = 0 AS whole"
    " FROM commission_lines WHERE basis_minor > refunded_basis_minor ORDER BY id"
)
_REAL = text(
    "SELECT s.role, s.payee, l.promoter_brand_id AS brand, sum(s.earned_minor)::bigint AS earned,"
    " sum(s.reversed_minor)::bigint AS reversed FROM commission_shares s"
    " JOIN commission_lines l ON l.id = s.commission_line_id GROUP BY 1, 2, 3"
)
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


async def _refunded(
    db: Database, clock: FixedClock, order_line_id: OrderLineId, basis_minor: int
) -> RefundId:
    """So much of a line goes back, and the counters hear of it at once."""
    refund_id = RefundId.new()
    async with db.unit_of_work(SYSTEM) as session:
        await refund_basis(session, refund_id, {order_line_id: basis_minor}, clock=clock)
    await _heard(db, clock)
    return refund_id


async def _heard(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        name = "promotion.commission_reversed"
        told = (await session.execute(_UNHEARD, {"name": name})).scalars().all()
        for body in told:
            event = from_body(name, body)
            assert isinstance(event, CommissionReversed)
            await counters.on_commission_reversed(session, event, clock=clock)
            await budgets.on_commission_reversed(session, event, clock=clock)


async def test_refunds_take_of_what_would_have_been_earned(db: Database, clock: FixedClock) -> None:
    """100.00 and 50.00 at 10 %; half of the first goes back, all of the second: 15.00 and 10.00 of them. At 5 %: 7.50,
    of which 5.00; 2.50 less is left to pay. The promoter brand's part of it is 95 %: 2.38 by R3."""
    [market] = await _markets(db, clock, Terms.flat(100_000))
    token = await _clicked(db, clock, market)
    for gross, back in ((10_000, 5_000), (5_000, 5_000)):
        clock.advance(timedelta(minutes=1))
        await _sold(db, clock, [token], gross)
        clock.advance(timedelta(minutes=1))
        async with db.reading(SYSTEM) as session:
            line = await session.scalar(_LATEST_LINE)
        await _refunded(db, clock, OrderLineId.of(line), back)
    row = await _simulated(db, clock, Terms.flat(50_000))
    [cost] = row.costs
    assert [str(each) for each in (cost.before, cost.before_reversed, cost.after, cost.after_reversed)] == [
        "15.00 CNY", "10.00 CNY", "7.50 CNY", "5.00 CNY",
    ]  # fmt: skip
    assert str(cost.change) == "-2.50 CNY"


async def test_a_budget_lasts_longer_under_lower_terms_and_what_goes_back_lasts_again(
    db: Database, clock: FixedClock
) -> None:
    """A budget of 15.00 and three orders of 100.00 at 10 %: 10.00, 5.00 and nothing; of the first half goes back before
    the third, which gets 5.00. At 8 %: 8.00, 7.00, and of the 4.00 that are free again 4.00."""
    market = await _with_budget(db, clock, Terms.flat(100_000), 1_500)
    token = await _clicked(db, clock, market)
    for number in range(3):
        clock.advance(timedelta(minutes=1))
        if number == 2:
            async with db.reading(SYSTEM) as session:
                first = await session.scalar(_FIRST_LINE)
            await _refunded(db, clock, OrderLineId.of(first), 5_000)
            clock.advance(timedelta(minutes=1))
        await _sold(db, clock, [token], 10_000)
    [cost] = (await _simulated(db, clock, Terms.flat(80_000))).costs
    figures = (cost.before, cost.before_reversed, cost.after, cost.after_reversed)
    assert [each.amount_minor for each in figures] == [1_000 + 500 + 500, 500, 800 + 700 + 400, 400]


async def _with_budget(db: Database, clock: FixedClock, terms: Terms, budget_minor: int) -> Market:
    async with db.unit_of_work(SYSTEM) as session:
        campaign = await make.campaign(session, MERCHANT, clock, budget_minor=budget_minor, model=terms.model)
        return await make.market(
            session, MERCHANT, brand_actor(BrandId.new()), clock, terms, Origin(campaign)
        )


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    "terms",
    [
        Terms.flat(100_000, individual_ppm=300_000, model=AttributionModel.LINEAR),
        Terms((Rule(100_000),), caps=(CapTerm(CapScope.AGREEMENT, 9_000, "CNY"),)),
        Terms.flat(100_000, tiers=TIERS, caps=(CapTerm(CapScope.PROMOTER, 6_000, "CNY", period=Period.DAY),)),
        Terms((Rule(0, fixed=Money(300, "CNY")),)),
    ],
    ids=["shared", "capped", "tiered", "fixed"],
)
async def test_refunds_caps_and_budgets_under_the_terms_that_were_in_force_are_what_really_happened(
    db: Database, clock: FixedClock, terms: Terms, seed: int
) -> None:
    """Forty orders of two promoter brands, one of them under a campaign's budget, and refunds in between, some of which
    fail: what the handlers have on the shares is the oracle, earned and reversed, to the cent."""
    draw = random.Random(seed)
    markets = [*await _markets(db, clock, terms), await _with_budget(db, clock, terms, 8_000)]
    tokens = [await _clicked(db, clock, draw.choice(markets)) for _ in range(8)]
    failed: list[tuple[RefundId, OrderLineId, int]] = []
    for _ in range(40):
        clock.advance(timedelta(minutes=draw.randrange(1, 90)))
        used = draw.sample(tokens, draw.randint(1, 4))
        await _sold(db, clock, used, *(draw.randrange(1, 9_000) for _ in range(draw.randint(1, 3))))
        if draw.random() < 0.5:
            clock.advance(timedelta(minutes=1))
            async with db.reading(SYSTEM) as session:
                left = (await session.execute(_LEFT)).all()
            line = draw.choice(left)
            part = draw.choice([line.left_minor, line.left_minor // 3])
            sold = OrderLineId.of(line.order_line_id)
            refund = await _refunded(db, clock, sold, part)
            if line.whole and draw.random() < 0.3:
                failed.append((refund, sold, part))
        if failed and draw.random() < 0.3:
            clock.advance(timedelta(minutes=1))
            refund, sold, part = failed.pop()
            async with db.unit_of_work(SYSTEM) as session:
                line = (await session.execute(_BASIS, {"line": sold})).one()
                kept = {sold: GoodsRefunded(line.refunded_basis_minor - part, line.basis_minor)}
                await restore(session, refund, kept, clock=clock)
            await _heard(db, clock)
    row = await _simulated(db, clock, terms)
    assert (row.orders_done, row.orders_changed) == (40, 0)
    async with db.reading(SYSTEM) as session:
        page = await simulation.payees_page(session, row.id, PageRequest(100))
        real = {
            (r.role, r.payee, BrandId.of(r.brand)): (r.earned, r.reversed)
            for r in await session.execute(_REAL)
        }
    assert sum(back for _, back in real.values()) > 0
    for found in page.items:
        earned, back = real.pop((found.role, found.payee, found.promoter_brand_id))
        assert (found.before_reversed.amount_minor, found.after_reversed.amount_minor) == (back, back)
        assert found.before == found.after
        owed = found.before.amount_minor - earned
        assert owed >= 0  # what retroactive tiers owed is nobody's line
        assert owed == 0 or terms.tiers is not None
    assert not any(earned for earned, _ in real.values())


async def test_a_period_that_begins_later_finds_the_budget_as_it_stood(
    db: Database, clock: FixedClock
) -> None:
    """40.00 of 60.00 are taken when it begins, 10.00 of them go back in it: for two orders of 200.00 at 10 % there are
    20.00 and 10.00; at 5 % 10.00 and 10.00."""
    market = await _with_budget(db, clock, Terms.flat(100_000), 6_000)
    token = await _clicked(db, clock, market)
    clock.advance(timedelta(minutes=1))
    await _sold(db, clock, [token], 40_000)
    async with db.reading(SYSTEM) as session:
        earlier = await session.scalar(_FIRST_LINE)
    clock.advance(DAY)
    since = clock.now()
    clock.advance(timedelta(minutes=1))
    await _sold(db, clock, [token], 20_000)
    clock.advance(timedelta(minutes=1))
    await _refunded(db, clock, OrderLineId.of(earlier), 10_000)
    clock.advance(timedelta(minutes=1))
    await _sold(db, clock, [token], 20_000)
    for rate, after in ((100_000, 3_000), (50_000, 2_000)):
        wanted = Request(since, clock.now() + DAY, terms=Terms.flat(rate))
        async with db.unit_of_work(MERCHANT) as session:
            id = await simulation.request_simulation(session, MERCHANT, wanted, clock=clock)
        await simulation.on_simulation_requested(db, SimulationRequested(id), clock=clock)
        async with db.reading(MERCHANT) as session:
            [cost] = (await simulation.simulation(session, MERCHANT, id)).costs
        assert (cost.before.amount_minor, cost.after.amount_minor) == (3_000, after)
        assert not cost.before_reversed


async def test_what_nobody_had_sold_goes_back_in_proportion_to_what_was_refunded(
    db: Database, clock: FixedClock
) -> None:
    """A click, and 20 days later two creams: nobody's within 15 days. Within 30 they earn 10 % of 176.99: 17.70. The
    customer paid 205.00 and got 41.00 back, a fifth: of the basis half_up(3,539.8) = 35.40, of the commission 3.54."""
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        link = await make.link(session, shop.promotion, clock)
        token = await make.click(session, link, clock.now())
    clock.advance(20 * DAY)
    since = clock.now()
    order_id = await orders.paid_order(db, shop, clock, quantity=2, tokens=[token])
    merchant = shop.promotion.merchant
    async with db.unit_of_work(SYSTEM) as session:
        command = RefundCommand(order_id, amount=Money(4_100, "CNY"))
        refund = await refunding.request(session, merchant, command, clock=clock)
    clock.advance(timedelta(hours=1))
    told = Refund("re_1", 4_100, "CNY", "succeeded", "ch", None, None, None, clock.now())
    await refund_sending.apply_provider_refund(db, refund, told, clock=clock)
    wanted = Request(since - DAY, clock.now() + DAY, terms=Terms.flat(100_000, window_s=30 * 86_400))
    async with db.unit_of_work(merchant) as session:
        id = await simulation.request_simulation(session, merchant, wanted, clock=clock)
    await simulation.on_simulation_requested(db, SimulationRequested(id), clock=clock)
    async with db.reading(merchant) as session:
        row = await simulation.simulation(session, merchant, id)
    [cost] = row.costs
    assert row.orders_won == 1
    assert [each.amount_minor for each in (cost.before, cost.after, cost.after_reversed)] == [0, 1_770, 354]
