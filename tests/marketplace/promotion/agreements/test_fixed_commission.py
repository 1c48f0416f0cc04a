"""So much a piece (cps.md R2), from the terms that two brands sign to the order. Figures are from paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, OrderId, OrderLineId, ProductId
from core.money import Money
from marketplace.promotion import service
from marketplace.promotion.agreements.clauses import DisputeTerms, SourceTerms
from marketplace.promotion.agreements.limits import TierTerms
from marketplace.promotion.agreements.terms import Rule, Terms, checked
from marketplace.promotion.commission.rules import Tier
from marketplace.promotion.errors import BadTerms
from marketplace.promotion.facts import ScopeKind
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from tests.factories import promotion as make
from tests.factories.brands import brand_actor

FIVE = Money(500, "CNY")
MERCHANT, PROMOTER = (brand_actor(BrandId.new()) for _ in range(2))


def fixed(minor: int, currency: str = "CNY", **more: Any) -> Rule:
    return Rule(more.pop("rate_ppm", 0), fixed=Money(minor, currency), **more)


async def earns(
    session: AsyncSession,
    clock: FixedClock,
    terms: Terms,
    *lines: tuple[str, int, int],
    amounts: Mapping[str, Money],
    currency: str = "CNY",
) -> list[int]:
    """Commission by line of an order of (SKU, quantity, gross minor units); ``amounts`` a piece are shown by SKU."""
    market = await make.market(session, MERCHANT, PROMOTER, clock, terms)
    token = await make.click(session, await make.link(session, market, clock), clock.now())
    bought = [
        LineForAttribution(OrderLineId.new(), ProductId.new(), sku, "beauty/skin", quantity, gross)
        for sku, quantity, gross in lines
    ]
    order = OrderForAttribution(
        OrderId.new(),
        MERCHANT.brand_id,
        currency,
        clock.now(),
        bought,
        touch_tokens=[token],
        paid_at=clock.now(),
    )
    done = await service.attribute(session, order, signer=make.SIGNER, clock=clock)
    told = await service.explain_attribution(session, SYSTEM, done.order_id)
    assert told.verified
    named = {line.order_line_id: line.fixed_amount for line in told.lines}
    assert [named[line.order_line_id] for line in bought] == [amounts.get(line.sku) for line in bought]
    found = {line.order_line_id: line.commission_minor for line in done.lines}
    return [found[line.order_line_id] for line in bought]


async def test_each_piece_earns_the_amount_up_to_thirty_per_cent(
    session: AsyncSession, clock: FixedClock
) -> None:
    terms = Terms((fixed(500),))
    # 3 × 500 of 10,000; 3 × 500 of 4,500, where 30 % are 1,350.
    lines = ("a", 3, 10_000), ("b", 3, 4_500)
    assert await earns(session, clock, terms, *lines, amounts={"a": FIVE, "b": FIVE}) == [1_500, 1_350]


async def test_another_ceiling_holds_where_both_signed_it(session: AsyncSession, clock: FixedClock) -> None:
    terms = Terms((fixed(500),), fixed_cap_ppm=100_000)
    lines = ("a", 3, 10_000), ("b", 1, 6_000)
    assert await earns(session, clock, terms, *lines, amounts={"a": FIVE, "b": FIVE}) == [1_000, 500]


async def test_an_amount_is_of_one_currency_and_others_earn_the_rate(
    session: AsyncSession, clock: FixedClock
) -> None:
    euro = Money(500, "EUR")
    terms = Terms((Rule(80_000, fixed=euro),))
    assert await earns(session, clock, terms, ("a", 1, 10_000), amounts={"a": euro}, currency="EUR") == [500]
    assert await earns(session, clock, terms, ("a", 1, 10_000), amounts={}, currency="CNY") == [800]


async def test_amounts_and_rates_live_in_one_order_and_round_once(
    session: AsyncSession, clock: FixedClock
) -> None:
    terms = Terms((fixed(100, scope=ScopeKind.SKU, scope_id="a"), Rule(50_000)))
    # 100, and 5 % of 33 twice: 100 + 1.65 + 1.65 = 103.3, so 103; the two thirds go to the first.
    lines = ("a", 1, 1_000), ("b", 1, 33), ("c", 1, 33)
    assert await earns(session, clock, terms, *lines, amounts={"a": Money(100, "CNY")}) == [100, 2, 1]


@pytest.mark.parametrize(
    ("terms", "field"),
    [
        (Terms((fixed(0),)), "fixed"),
        (Terms((fixed(-1),)), "fixed"),
        (Terms((fixed(1),), fixed_cap_ppm=0), "fixedCapPpm"),
        (Terms((fixed(1),), tiers=TierTerms((Tier(0, 50_000),), "CNY")), "tiers"),
        (Terms.flat(1, notice_days=6), "noticeDays"),
        (Terms.flat(1, notice_days=91), "noticeDays"),
        (Terms.flat(1, sources=SourceTerms(banned_hosts=("not a host",))), "bannedHosts"),
        (Terms.flat(1, sources=SourceTerms(banned_hosts=("b.example.com", "a.example.com"))), "bannedHosts"),
        (Terms.flat(1, disputes=DisputeTerms(open_days=29)), "openDays"),
        (Terms.flat(1, disputes=DisputeTerms(answer_days=4)), "answerDays"),
    ],
)
def test_clauses_out_of_bounds_are_refused(terms: Terms, field: str) -> None:
    with pytest.raises(BadTerms) as refused:
        checked(terms)
    assert refused.value.field == field


def test_every_clause_survives_its_stored_form() -> None:
    sources = SourceTerms(paid_allowed=False, banned_hosts=("a.example.com", "b.example.com"))
    terms = Terms(
        (fixed(500, rate_ppm=10_000), Rule(80_000, ScopeKind.CATEGORY, "beauty")),
        fixed_cap_ppm=200_000,
        notice_days=14,
        sources=sources,
        disputes=DisputeTerms(60, 10),
    )
    assert Terms.from_json(terms.to_json()) == checked(terms)
