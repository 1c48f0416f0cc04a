"""Many links at once, links into mini-programs, links that end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import AgreementId, BrandId, PlacementId, ProductId, PromoterId, StorefrontId
from infra.db.session import Database
from marketplace.audiences.identity import IdentifierKind
from marketplace.brands.errors import StorefrontNotFound
from marketplace.promotion import queries, service
from marketplace.promotion.errors import BadDeepLink, BatchTooLarge, DeepLinkNotFound
from marketplace.promotion.links import deep_links
from marketplace.promotion.links.deep_links import Templates
from marketplace.promotion.models import PromoterKind
from marketplace.promotion.service import NewLink
from tests.factories import promotion as make
from tests.factories.audiences import VAULT
from tests.factories.brands import brand_actor, committed_brand, committed_storefront
from tests.factories.promotion import POLICY, Market
from tests.fixtures.statements import statements_of

APP = "wx0123456789abcdef"
TEMPLATES = Templates(APP, "pages/product/index", "id={product}&from={code}&lyt={touch}")


def _actor() -> Actor:
    return brand_actor(BrandId.new())


@pytest.fixture
async def market(session: AsyncSession, clock: FixedClock) -> Market:
    return await make.market(session, _actor(), _actor(), clock)


def _link(market: Market, **facts: Any) -> NewLink:
    given: dict[str, Any] = {
        "placement_id": market.placement_id, "destination": "https://shop.example.com/cream",
        "agreement_id": market.agreement_id,
    }  # fmt: skip
    return NewLink(**(given | facts))


async def test_good_rows_are_made_and_each_bad_one_is_named(
    session: AsyncSession, market: Market, clock: FixedClock
) -> None:
    person = await service.create_promoter(
        session, market.promoter, name="Anna", kind=PromoterKind.KOC,
        identifiers=[(IdentifierKind.EMAIL, "anna@example.com")], vault=VAULT, clock=clock,
    )  # fmt: skip
    rows = [
        _link(market),
        _link(market, destination="javascript:alert(1)"),
        _link(market, promoter_id=person),
        _link(market, placement_id=PlacementId.new()),
        _link(market, agreement_id=AgreementId.new()),
        _link(market, promoter_id=PromoterId.new()),
        _link(market, product_id=ProductId.new()),
        _link(market, storefront_id=StorefrontId.new()),
        _link(market, expires_at=clock.now()),
    ]

    made = await service.create_links(session, market.promoter, rows, policy=POLICY, clock=clock)

    assert [link is not None for link in made.links] == [True, False, True] + 6 * [False]
    assert [(each.row, each.error.code) for each in made.errors] == [
        (2, "BAD_DESTINATION"), (4, "PLACEMENT_NOT_FOUND"), (5, "AGREEMENT_NOT_FOUND"), (6, "PROMOTER_NOT_FOUND"),
        (7, "PRODUCT_NOT_FOUND"), (8, "DEEP_LINK_NOT_FOUND"), (9, "BAD_DESTINATION"),
    ]  # fmt: skip
    codes = {link.code for link in made.links if link is not None}
    stored = (await session.execute(text("SELECT code, promoter_id FROM tracked_links"))).all()
    assert {row.code for row in stored} == codes
    assert {row.promoter_id for row in stored} == {None, person}


async def test_all_or_none_makes_none(session: AsyncSession, market: Market, clock: FixedClock) -> None:
    rows = [_link(market), _link(market, destination="ftp://x")]
    made = await service.create_links(
        session, market.promoter, rows, all_or_none=True, policy=POLICY, clock=clock
    )
    assert made.links == (None, None)
    assert [each.row for each in made.errors] == [2]
    assert await session.scalar(text("SELECT count(*) FROM tracked_links")) == 0


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_one_to_a_thousand_rows(
    session: AsyncSession, market: Market, clock: FixedClock, count: int
) -> None:
    with pytest.raises(BatchTooLarge):
        await service.create_links(
            session, market.promoter, [_link(market)] * count, policy=POLICY, clock=clock
        )


async def test_a_thousand_links_take_as_many_statements_as_one(db: Database, clock: FixedClock) -> None:
    merchant, promoter = _actor(), _actor()
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, merchant, promoter, clock)
    seen = []
    for count in (1, 1000):
        with statements_of(db) as statements:
            async with db.unit_of_work(promoter) as session:
                made = await service.create_links(
                    session, promoter, [_link(market)] * count, policy=POLICY, clock=clock
                )
        assert len({link.code for link in made.links if link is not None}) == count
        seen.append(len(statements))
    assert seen[0] == seen[1] <= 8


async def test_a_link_whose_time_is_over_says_so(db: Database, clock: FixedClock) -> None:
    merchant, promoter = _actor(), _actor()
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, merchant, promoter, clock)
        short = await make.link(session, market, clock, expires_at=clock.now() + timedelta(hours=1))
        await make.link(session, market, clock)
    assert await service.expire_links(db, clock=clock) == 0
    clock.advance(timedelta(hours=1))
    assert await service.expire_links(db, clock=clock) == 1
    assert await service.expire_links(db, clock=clock) == 0
    async with db.reading(promoter) as session:
        assert (await queries.link(session, promoter, short.id)).status == "EXPIRED"


# --- mini-programs ---


def test_templates_are_filled_in_and_escaped_and_keep_a_place_for_the_touch() -> None:
    assert deep_links.filled(TEMPLATES, code="abc", product_id=None) == (
        f"weixin://dl/business/?appid={APP}&path=pages%2Fproduct%2Findex"
        "&query=id%3D%26from%3Dabc%26lyt%3D{touch}"
    )
    product = ProductId.new()
    url_link = Templates(APP, "pages/x", "p={product}&lyt={touch}&z=1", "https://wxaurl.cn/abc?cq={query}")
    assert deep_links.filled(url_link, code="abc", product_id=product) == (
        f"https://wxaurl.cn/abc?cq=p%3D{product}%26lyt%3D{{touch}}%26z%3D1"
    )


@pytest.mark.parametrize(
    ("templates", "field"),
    [
        (Templates("0123456789abcdef", "pages/x", "lyt={touch}"), "appId"),
        (Templates(APP, "", "lyt={touch}"), "path"),
        (Templates(APP, "pages/{touch}", "lyt={touch}"), "path"),
        (Templates(APP, "pages/页", "lyt={touch}"), "path"),
        (Templates(APP, "pages/x", "id={product}"), "query"),
        (Templates(APP, "pages/x", "a={touch}&b={touch}"), "query"),
        (Templates(APP, "pages/x", "lyt={touch}&x={secret}"), "query"),
        (Templates(APP, "pages/x", "lyt={touch}{"), "query"),
        (Templates(APP, "pages/x", "lyt={touch}", "weixin://dl/business/?appid={app_id}"), "url"),
        (Templates(APP, "pages/x", "lyt={touch}", "javascript:alert({query})"), "url"),
        (Templates(APP, "pages/x", "lyt={touch}", "http://wxaurl.cn/a?cq={query}"), "url"),
        (Templates(APP, "pages/x", "lyt={touch}", "https://10.0.0.1/a?cq={query}"), "url"),
        (Templates(APP, "pages/x", "lyt={touch}", "https://wxaurl.cn/a#{query}"), "url"),
        (Templates(APP, "pages/x", "lyt={touch}", "weixin://dl/business/?q={query}" + "x" * 1024), "url"),
    ],
)
def test_a_template_that_opens_nothing_or_loses_the_touch_is_refused(
    templates: Templates, field: str
) -> None:
    with pytest.raises(BadDeepLink) as refused:
        deep_links.checked(templates, POLICY)
    assert refused.value.field == field


async def test_a_link_keeps_the_mini_program_it_was_made_for(db: Database, clock: FixedClock) -> None:
    merchant, _ = await committed_brand(db, clock)
    promoter, _ = await committed_brand(db, clock)
    stranger, _ = await committed_brand(db, clock)
    own, theirs, other = [
        (await committed_storefront(db, clock, actor)).id for actor in (promoter, merchant, stranger)
    ]
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, merchant, promoter, clock)
    for actor, storefront in ((promoter, own), (merchant, theirs), (stranger, other)):
        async with db.unit_of_work(actor) as session:
            await deep_links.set_deep_link(session, actor, storefront, TEMPLATES, policy=POLICY, clock=clock)
    async with db.unit_of_work(promoter) as session:
        made = await service.create_links(
            session, promoter,
            [_link(market, storefront_id=each) for each in (own, theirs, other)], policy=POLICY, clock=clock,
        )  # fmt: skip
        assert [(each.row, each.error.code) for each in made.errors] == [(3, "DEEP_LINK_NOT_FOUND")]
        with pytest.raises(StorefrontNotFound):
            await deep_links.set_deep_link(session, promoter, other, TEMPLATES, policy=POLICY, clock=clock)
        with pytest.raises(DeepLinkNotFound):
            await deep_links.remove_deep_link(session, promoter, other)
        await deep_links.remove_deep_link(session, promoter, own)
    async with db.reading(SYSTEM) as session:
        for link in made.links[:2]:
            assert link is not None
            target = await queries.link_by_code(session, link.code)
            assert target is not None
            assert target.in_app_destination == deep_links.filled(TEMPLATES, code=link.code, product_id=None)
