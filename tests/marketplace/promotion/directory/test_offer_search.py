"""Offers that anybody in the directory may apply to, found by what they pay, for what, where and how long."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind, WrongTenant
from core.clock import FixedClock
from core.ids import BrandId, SupplierId
from core.pagination import BadPage, PageRequest
from infra.db.session import Database
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.directory import offer_search, publishing
from marketplace.promotion.directory.errors import BadPartnerProfile
from marketplace.promotion.directory.offer_search import OfferFilter
from marketplace.promotion.facts import ScopeKind
from marketplace.promotion.offers import campaigns
from marketplace.promotion.offers import publishing as offers
from marketplace.promotion.offers.errors import BadOffer
from marketplace.promotion.offers.models import OfferVisibility
from tests.factories import directory
from tests.factories import promotion as make
from tests.factories.brands import brand_actor

CREAM, TEA, READER = (brand_actor(BrandId.new()) for _ in range(3))
PUBLIC = OfferVisibility.PUBLIC
DAY_S = 86_400


async def put_out(
    session: AsyncSession, clock: FixedClock, actor: Actor, name: str, terms: Terms, **more: Any
) -> Any:
    """(campaign, offer) of a public offer; a minute later than the one before."""
    clock.advance(timedelta(minutes=1))
    campaign_id = await make.campaign(session, actor, clock)
    given: dict[str, Any] = {"visibility": PUBLIC, "terms": terms, "name": name, **more}
    return campaign_id, await make.offer(session, actor, clock, campaign_id, **given)


async def market(session: AsyncSession, clock: FixedClock) -> dict[str, Any]:
    """Three public offers and two that nobody finds. Needs a SYSTEM session."""
    await directory.listed(session, CREAM, clock, categories=("beauty/skin",), regions=("CN-SH",))
    await directory.listed(session, TEA, clock, categories=("food/tea", "home"), regions=("CN",))
    everything = Terms.flat(100_000, window_s=7 * DAY_S)
    tea = Terms((Rule(150_000, ScopeKind.CATEGORY, "food/tea/green"),), window_s=30 * DAY_S)
    made = {
        "cream": await put_out(session, clock, CREAM, "Cream 保湿霜", everything),
        "tea": await put_out(session, clock, TEA, "Green tea 绿茶", tea, summary="first flush"),
        "home": await put_out(session, clock, TEA, "All of ours", Terms.flat(60_000)),
    }
    await put_out(session, clock, CREAM, "Hidden", everything, visibility=OfferVisibility.INVITED)
    unlisted = brand_actor(BrandId.new())
    await put_out(session, clock, unlisted, "Unlisted", everything)
    return made


async def found(session: AsyncSession, clock: FixedClock, actor: Actor = READER, **wanted: Any) -> list[Any]:
    filter = OfferFilter(**wanted)
    page = await offer_search.offers_page(session, actor, filter, PageRequest(), at=clock.now())
    ids = [row.id for row in page.items]
    assert await offer_search.offers_count(session, actor, filter, at=clock.now()) == len(ids)
    return ids


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        ({}, ["home", "tea", "cream"]),
        ({"rate_at_least_ppm": 100_000}, ["tea", "cream"]),
        ({"rate_at_least_ppm": 150_001}, []),
        ({"window_at_least_s": 30 * DAY_S}, ["tea"]),
        ({"category": "beauty"}, ["cream"]),
        ({"category": "beauty/skin"}, ["cream"]),
        ({"category": "beauty/skincare"}, []),
        ({"category": "food"}, ["home", "tea"]),
        ({"category": "food/tea/green"}, ["tea"]),
        ({"category": "home"}, ["home"]),
        ({"region": "CN-SH"}, ["home", "tea", "cream"]),
        ({"region": "CN-GD"}, ["home", "tea"]),
        ({"region": "DE"}, []),
        ({"text": "green flush"}, ["tea"]),
        ({"text": "绿茶"}, ["tea"]),
        ({"text": "green cream"}, []),
        ({"text": "…"}, []),
        ({"advertiser_id": TEA.brand_id, "rate_at_least_ppm": 100_000}, ["tea"]),
        ({"currency": "EUR"}, []),
        ({"currency": "CNY", "text": "cream"}, ["cream"]),
    ],
)
async def test_offers_are_found_by_what_is_asked(
    session: AsyncSession, clock: FixedClock, wanted: dict[str, Any], names: list[str]
) -> None:
    made = await market(session, clock)
    assert await found(session, clock, **wanted) == [made[name][1] for name in names]


async def test_what_cannot_be_applied_to_is_not_found(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        made = await market(session, clock)
        for name, verb in (("cream", campaigns.pause), ("tea", campaigns.end)):
            owner = CREAM if name == "cream" else TEA
            await verb(session, owner, made[name][0], clock=clock)
    async with db.reading(READER) as session:
        assert await found(session, clock) == [made["home"][1]]
    async with db.reading(TEA) as session:
        assert await found(session, clock, TEA) == []  # its own are in its own list
    async with db.unit_of_work(TEA) as session:
        await offers.set_visibility(session, TEA, made["home"][1], OfferVisibility.INVITED)
    async with db.reading(READER) as session:
        assert await found(session, clock) == []


async def test_a_brand_that_leaves_the_directory_takes_its_offers_along(
    session: AsyncSession, clock: FixedClock
) -> None:
    made = await market(session, clock)
    await publishing.withdraw(session, TEA, clock=clock)
    assert await found(session, clock) == [made["cream"][1]]


async def test_pages_go_on_where_they_stopped(session: AsyncSession, clock: FixedClock) -> None:
    made = await market(session, clock)
    seen, after = [], None
    for _ in range(3):
        page = await offer_search.offers_page(
            session, READER, OfferFilter(), PageRequest(1, after), at=clock.now()
        )
        seen += [row.id for row in page.items]
        after = page.cursors[-1]
        assert page.has_next is (len(seen) < 3)
    assert seen == [made[name][1] for name in ("home", "tea", "cream")]
    for cursor in ("x", "MQ", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OR9vZmZfMA"):
        with pytest.raises(BadPage):
            await offer_search.offers_page(
                session, READER, OfferFilter(), PageRequest(1, cursor), at=clock.now()
            )


@pytest.mark.parametrize(
    "wanted",
    [
        {"rate_at_least_ppm": -1}, {"rate_at_least_ppm": 1_000_001}, {"window_at_least_s": -1},
        {"category": "Beauty"}, {"region": "x"}, {"text": "x" * 201},
    ],
)  # fmt: skip
async def test_a_filter_that_means_nothing_is_refused(
    session: AsyncSession, clock: FixedClock, wanted: dict[str, Any]
) -> None:
    with pytest.raises((BadOffer, BadPartnerProfile)):
        await found(session, clock, **wanted)


async def test_the_directory_is_for_brands(session: AsyncSession, clock: FixedClock) -> None:
    supplier = Actor(ActorKind.SUPPLIER, SupplierId.new(), scopes=READER.scopes)
    with pytest.raises(WrongTenant):
        await found(session, clock, supplier)
