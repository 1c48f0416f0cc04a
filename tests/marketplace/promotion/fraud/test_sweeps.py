"""The sweeps and the handler: what they find is what the rules say, once, and what it costs to look."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import AgreementId, BrandId, DecisionId, OrderId, TouchId
from infra.db.session import Database
from infra.embedded.postgres import APPLICATION
from marketplace.promotion import queries, service
from marketplace.promotion.agreements import terms as agreed
from marketplace.promotion.agreements.origin import WITHOUT_ORIGIN, Origin
from marketplace.promotion.events import OrderCredited
from marketplace.promotion.fraud import click_floods, rules, sale_patterns
from marketplace.promotion.fraud.on_credit import on_order_credited
from marketplace.promotion.fraud.recording import Found, Parties, record
from marketplace.promotion.fraud.signals import Rule, Signal
from marketplace.promotion.touches.clicks import Click
from tests.conftest import TestDatabase
from tests.factories import promotion
from tests.factories.brands import brand_actor
from tests.factories.fraud import DAY, HOUR, MINUTE, Scene, scene
from tests.fixtures.statements import statements_of
from tests.marketplace.promotion.offers.selling import line, order_of, sell

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
_REFUNDED = text("UPDATE commission_lines SET refunded_basis_minor = 1 WHERE order_id = :order")
_TOLD = text("SELECT promoter_brand_id, evidence FROM fraud_signals WHERE rule = 'REFUND_RING'")
_FORGET = text("DELETE FROM credited_sales WHERE order_id = :order")


@pytest.fixture
async def at(db: Database, clock: FixedClock, postgres: TestDatabase, tmp_path: Path) -> AsyncIterator[Scene]:
    terms = agreed.Terms((agreed.Rule(100_000, rate_new_ppm=200_000),))
    async with scene(db, clock, postgres.url(APPLICATION), tmp_path, terms=terms) as made:
        yield made


async def _excluded(db: Database) -> set[str]:
    async with db.reading(SYSTEM) as session:
        rows = await session.execute(text("SELECT touch_id FROM excluded_touches WHERE lifted_at IS NULL"))
        return {str(TouchId.of(each)) for each in rows.scalars()}


@pytest.mark.parametrize("seed", range(4))
async def test_the_database_finds_the_bursts_that_the_rule_finds(
    db: Database, clock: FixedClock, seed: int
) -> None:
    dice, clock.at = random.Random(seed), AT
    merchant, promoter = brand_actor(BrandId.new()), brand_actor(BrandId.new())
    async with db.unit_of_work(SYSTEM) as session:
        market = await promotion.market(session, merchant, promoter, clock)
        links = [await promotion.link(session, market, clock) for _ in range(2)]
        targets = [await queries.link_by_code(session, link.code) for link in links]
        clicks = []
        for _ in range(900):
            target = dice.choice(targets)
            assert target is not None
            # A few sources, sometimes in the same instant, around the border of twenty a minute.
            at = AT + timedelta(seconds=dice.choice((0, 0.5, 1)) + dice.randrange(0, 1_500))
            clicks.append(
                Click(
                    TouchId.new(), target.id, target.agreement_id, target.advertiser_id,
                    target.promoter_brand_id, at, is_bot=dice.random() < 0.05,
                    ip_prefix_hash=bytes([dice.randrange(3)]), user_agent_hash=bytes([dice.randrange(2)]),
                )
            )  # fmt: skip
        burst = dice.randrange(0, 1_400)
        for n in range(dice.randrange(17, 26)):
            at = AT + timedelta(seconds=burst + n * 60 / 20)
            clicks.append(clicks[0]._replace(id=TouchId.new(), at=at, is_bot=False))
        await service.record_clicks(session, clicks)
    told = [
        rules.Click(str(c.id), str(c.link_id), str(c.ip_prefix_hash), str(c.user_agent_hash), c.at)
        for c in clicks
        if not c.is_bot
    ]
    expected = {id for signal in rules.click_flood(told) for id in signal.touch_ids}

    # Looked at as the minutes go by, and so that a burst lies across two looks.
    for seconds in (307, 331, 620, 1_000, 1_700):
        clock.at = AT + timedelta(seconds=seconds)
        while await click_floods.sweep_bursts(db, clock=clock):
            pass
    assert await _excluded(db) == expected


@pytest.mark.parametrize(
    ("clicks", "orders", "usual", "caught"),
    [
        (200, 0, 20, True),
        (199, 0, 20, False),
        (10_000, 1, 20, True),  # 0.01 %
        (10_000, 2, 20, False),  # 0.02 %
        (200, 0, 149, True),  # (200 - 149) / √149 = 4.18
        (200, 0, 152, False),  # (200 - 152) / √152 = 3.89
    ],
)
def test_hollow_clicks_at_their_edges(clicks: int, orders: int, usual: int, caught: bool) -> None:
    signal = rules.hollow_clicks("plc", clicks=clicks, orders=orders, history=[usual] * 28)
    assert (signal is not None) is caught


@pytest.mark.parametrize(("apart", "caught"), [(7 * DAY, 1), (7 * DAY + SECOND, 0)])
def test_three_buyers_of_a_device_are_counted_over_seven_days(apart: timedelta, caught: int) -> None:
    sales = [
        rules.NewSale(f"ord_{n}", f"b{n}", AT + moment, {"device": "d"})
        for n, moment in enumerate((timedelta(0), DAY, apart))
    ]
    assert len(rules.device_reuse(sales)) == caught


async def test_an_order_that_shows_nothing_is_a_handful_of_statements(at: Scene) -> None:
    orders = [await at.buy(await at.visit(at.honest)) for _ in range(2)]
    async with at.db.unit_of_work(SYSTEM) as session:
        with statements_of(at.db) as asked:
            # Heard again, it has been looked at.
            await on_order_credited(session, OrderCredited(orders[0], DecisionId.new()), clock=at.clock)
        assert len(asked) == 1
    async with at.db.unit_of_work(SYSTEM) as session:
        await session.execute(_FORGET, {"order": orders[1]})
        with statements_of(at.db) as asked:
            await on_order_credited(session, OrderCredited(orders[1], DecisionId.new()), clock=at.clock)
        # Its decision, whether the buyer promotes, its clicks, its row, its agreement; the lock and the sales alike for
        # the new-customer rate.
        assert len(asked) == 7
    assert await at.signals() == []


@pytest.mark.parametrize("of_one_offer", [True, False])
async def test_refunds_are_compared_with_others_of_the_offer_then_of_the_advertiser(
    db: Database, clock: FixedClock, of_one_offer: bool
) -> None:
    """Shoes go back, soap does not: who sells shoes is compared with others who do, where an offer tells them apart."""
    merchant, *promoters = (brand_actor(BrandId.new()) for _ in range(4))
    async with db.unit_of_work(SYSTEM) as session:
        await promotion.known(session, clock, merchant)
        campaign_id = await promotion.campaign(session, merchant, clock)
        offer_id = await promotion.offer(session, merchant, clock, campaign_id)
        shoes = Origin(campaign_id, offer_id, 1) if of_one_offer else WITHOUT_ORIGIN
        for seller, origin, sales, refunded in zip(
            promoters, (shoes, shoes, WITHOUT_ORIGIN), (12, 12, 36), (5, 6, 0), strict=True
        ):
            made = await promotion.market(session, merchant, seller, clock, origin=origin)
            token = await promotion.click(session, await promotion.link(session, made, clock), clock.now())
            for n in range(sales):
                done = await sell(session, order_of(merchant, clock, [token], line(3_000)), clock)
                await on_order_credited(session, OrderCredited(done.order_id, done.decision_id), clock=clock)
                if n < refunded:
                    await session.execute(_REFUNDED, {"order": done.order_id})
    clock.advance(HOUR)
    found = await sale_patterns.sweep_patterns(db, clock=clock)

    async with db.reading(SYSTEM) as session:
        told = {row.promoter_brand_id: row.evidence for row in await session.execute(_TOLD)}
    if of_one_offer:  # 5 of 12 beside 6 of 12
        assert (found, told) == (0, {})
        return
    # 5 of 12 beside 6 of 48, 6 of 12 beside 5 of 48: three times 12.5 % and 10.4 % are 37.5 % and 31.2 %.
    assert {brand: (each["refunded"], each["others"], each["others_mean_ppm"]) for brand, each in told.items()} == {
        promoters[0].brand_id: (5, 48, 125_000), promoters[1].brand_id: (6, 48, 104_166),
    }  # fmt: skip


async def test_a_sweep_that_has_looked_finds_nothing_to_look_at(at: Scene) -> None:
    for _ in range(25):
        await at.visit(at.suspect, ip="203.0.113.9")
    at.clock.advance(MINUTE)
    assert await click_floods.sweep_bursts(at.db, clock=at.clock) == 1
    assert await click_floods.sweep_bursts(at.db, clock=at.clock) == 0
    at.clock.advance(2 * DAY)
    assert [await click_floods.sweep_hollow_days(at.db, clock=at.clock) for _ in range(3)] == [1, 1, 0]
    for sweep in (sale_patterns.sweep_velocity, sale_patterns.sweep_patterns):
        assert [await sweep(at.db, clock=at.clock) for _ in range(2)] == [0, 0]


async def test_a_burst_that_goes_on_is_one_signal_that_grows(at: Scene) -> None:
    for _ in range(3):
        for _ in range(25):
            await at.visit(at.suspect, ip="203.0.113.9")
        at.clock.advance(MINUTE)
        await at.sweep("bursts")
    evidence = await at.evidence("CLICK_FLOOD")
    assert (evidence["clicks"], evidence["peak"]) == (75, 25)
    assert len(await at.signals()) == 1
    told = await at.rows("SELECT body FROM outbox WHERE name = 'promotion.fraud_signal_raised'")
    assert len(told) == 1


_CROWD = text(
    "INSERT INTO touches (id, link_id, agreement_id, advertiser_id, promoter_brand_id, at, kind, session_key, is_bot,"
    " ip_prefix_hash, user_agent_hash) SELECT uuidv7(), link_id, agreement_id, advertiser_id, promoter_brand_id, at,"
    " kind, session_key, is_bot, ip_prefix_hash, user_agent_hash FROM touches, generate_series(1, :more)"
    " WHERE at > :since"
)


async def _flood(at: Scene, *, sources: int, bought: int) -> list[str]:
    """So many sources that click thirty times each, of which the first win orders; the statements of the sweep."""
    since = at.clock.now()
    at.clock.advance(SECOND)
    visits = [await at.visit(at.suspect) for _ in range(sources)]
    for visit in visits[:bought]:
        await at.buy(visit, browse=SECOND)
    async with at.db.unit_of_work(SYSTEM) as session:
        await session.execute(_CROWD, {"more": 29, "since": since})
    at.clock.at = since + 5 * MINUTE
    with statements_of(at.db) as asked:
        await click_floods.sweep_bursts(at.db, clock=at.clock)
    return asked


async def test_a_flood_from_everywhere_is_as_many_statements_as_one_from_one_place(at: Scene) -> None:
    await _flood(at, sources=1, bought=1)  # from here on the sweep knows how far it has looked
    one = await _flood(at, sources=1, bought=1)
    many = await _flood(at, sources=40, bought=3)
    assert many == one
    rows = await at.rows("SELECT evidence->>'clicks' AS clicks, status FROM fraud_signals")
    assert [tuple(row) for row in rows] == [("30", "OPEN")] * 42
    assert len(await _excluded(at.db)) == 42 * 30
    (held,) = await at.rows("SELECT count(*) FROM commission_holds WHERE status = 'OPEN'")
    told = await at.rows(
        "SELECT name, count(*) FROM outbox WHERE name LIKE 'promotion.%' AND (name LIKE '%raised' OR name LIKE '%held')"
        " GROUP BY name ORDER BY name"
    )
    assert (held[0], [row[1] for row in told]) == (1 + 1 + 3, [5, 42])


async def test_the_same_found_twice_in_one_look_is_one_signal_with_the_later_figures(at: Scene) -> None:
    await at.visit(at.suspect)
    (click,) = await at.rows(
        "SELECT id, link_id, agreement_id, advertiser_id, promoter_brand_id FROM touches"
    )
    brand = BrandId.of(click.promoter_brand_id)
    parties = Parties(BrandId.of(click.advertiser_id), brand, AgreementId.of(click.agreement_id), brand)

    def found(about: str, *, orders: int) -> Found:
        return Found(Signal(Rule.VELOCITY, {"orders": orders}, {"most": 3}), parties, (about,))

    async with at.db.unit_of_work(SYSTEM) as session:
        those = [found("noon", orders=5), found("one", orders=7), found("noon", orders=6)]
        first, other, again = await record(session, those, clock=at.clock)
    assert (first, first != other) == (again, True)
    rows = await at.rows("SELECT evidence->'orders' FROM fraud_signals ORDER BY 1")
    assert [row[0] for row in rows] == [6, 7]
    told = await at.rows("SELECT count(*) FROM outbox WHERE name = 'promotion.fraud_signal_raised'")
    assert told[0][0] == 2


async def test_sales_of_long_ago_do_not_make_an_hour_busy(at: Scene) -> None:
    first: OrderId = await at.buy(await at.visit(at.suspect))
    await at.crowd(first, 200)
    at.clock.advance(29 * DAY)
    await at.buy(await at.visit(at.suspect))
    await at.sweep("velocity")
    at.clock.advance(HOUR)
    await at.sweep("velocity")
    assert await at.signals() == []
