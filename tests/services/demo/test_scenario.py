"""The plan of the fortnight: the same every time, large and varied enough to show every path."""

from __future__ import annotations

import pytest

from services.demo.market import SEED, Market, generate
from services.demo.reach import codes_of, prints_of
from services.demo.scenario import STEPS, Visit, fortnight, refuses


@pytest.fixture(scope="module")
def market() -> Market:
    return generate(SEED)


@pytest.fixture(scope="module")
def visits(market: Market) -> tuple[Visit, ...]:
    return fortnight(market, orders=320)


def test_one_market_has_one_fortnight(market: Market, visits: tuple[Visit, ...]) -> None:
    assert fortnight(market, orders=320) == visits


def test_enough_orders_are_planned_over_all_steps(visits: tuple[Visit, ...]) -> None:
    orders = sum(len({line.brand for line in visit.lines}) for visit in visits if visit.cards)

    assert orders >= 320
    assert {visit.step for visit in visits} == set(range(STEPS))


def test_it_has_every_kind_of_shopper(visits: tuple[Visit, ...]) -> None:
    assert any(not visit.clicks for visit in visits)
    assert any(len(visit.clicks) == 2 for visit in visits)
    assert any(len({line.brand for line in visit.lines}) >= 3 for visit in visits)
    assert any(len(visit.cards) == 2 for visit in visits), "a declined card, then another"
    assert any(not visit.cards for visit in visits), "an abandoned checkout"
    assert {visit.currency for visit in visits} == {"CNY", "EUR"}
    assert {visit.sent_back.after_payout for visit in visits if visit.sent_back} == {True, False}


def test_baskets_hold_only_what_the_shop_may_sell(market: Market, visits: tuple[Visit, ...]) -> None:
    category = {p.variants[0].sku[:6]: p.category for b in market.brands for p in b.products}
    scopes = {(a.promoter, a.advertiser): a.category for a in market.agreements}
    for visit in visits:
        shop = visit.storefront[0]
        for line in visit.lines:
            own = line.brand == shop
            assert own or category[line.sku[:6]].startswith(scopes[shop, line.brand])


def test_some_enter_a_promoters_code_for_goods_that_are_in_their_basket(
    market: Market, visits: tuple[Visit, ...]
) -> None:
    codes = codes_of(market)
    with_code = [(visit, market.links[codes[visit.code].link]) for visit in visits if visit.code is not None]

    assert len(with_code) > 20
    assert {bool(visit.clicks) for visit, _ in with_code} == {True, False}
    for visit, link in with_code:
        assert link.advertiser in {line.brand for line in visit.lines}
        assert visit.currency == "CNY"
        assert all(market.links[click].community == link.community for click in visit.clicks)


def test_codes_and_printed_cards_are_given_once_and_cards_lie_where_the_goods_are(market: Market) -> None:
    codes, runs = codes_of(market), prints_of(market)
    offered = {(offer.sku, supplier.code) for supplier in market.suppliers for offer in supplier.offers}

    assert len({code.text for code in codes}) == len(codes) > 10
    assert {market.links[run.link].community for run in runs} <= {each.key for each in market.communities}
    assert len({market.links[run.link].community for run in runs}) == len(runs) > 5
    assert all((run.sku, run.warehouse) in offered for run in runs)


def test_nobody_sends_back_more_than_they_bought(visits: tuple[Visit, ...]) -> None:
    assert all(
        1 <= visit.sent_back.quantity <= visit.lines[0].quantity for visit in visits if visit.sent_back
    )


def test_some_visit_buys_what_nobody_will_deliver(market: Market, visits: tuple[Visit, ...]) -> None:
    assert any(line.sku == market.lonely_sku for visit in visits for line in visit.lines)
    assert refuses(market.seed, "BJ", [(market.lonely_sku, 1)], market.lonely_sku)


def test_suppliers_refuse_now_and_then_and_always_the_same(market: Market) -> None:
    answers = [refuses(market.seed, "HZ", [(f"HJ-{n:03d}-1", 1)], market.lonely_sku) for n in range(1_000)]

    assert 20 <= sum(answers) <= 120
    assert answers == [
        refuses(market.seed, "HZ", [(f"HJ-{n:03d}-1", 1)], market.lonely_sku) for n in range(1_000)
    ]
