"""Offers: drafted, published in versions that nothing changes, retired."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import BrandId, ProductId
from core.money import Money
from infra.db.session import Database
from marketplace.promotion.agreements.limits import CapScope, CapTerm
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.errors import BadTerms, CampaignEnded, CampaignNotFound
from marketplace.promotion.facts import AttributionModel, ScopeKind
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.offers import campaigns, publishing, queries
from marketplace.promotion.offers.content import OfferContent, findable, offer_hash
from marketplace.promotion.offers.errors import (
    BadOffer,
    DraftChanged,
    NothingToPublish,
    OfferInAnotherState,
    OfferNotFound,
)
from marketplace.promotion.offers.models import OfferStatus, OfferVisibility
from tests.factories import promotion as make
from tests.factories.brands import brand_actor, committed_brand
from tests.factories.catalog import committed_product

MERCHANT, STRANGER = (brand_actor(BrandId.new()) for _ in range(2))
RICH = Terms(
    (
        Rule(120_000, ScopeKind.CATEGORY, "beauty/skin", rate_new_ppm=200_000),
        Rule(80_000, ScopeKind.CATEGORY, "beauty", fixed=Money(500, "CNY")),
    ),
    individual_ppm=600_000,
    window_s=7 * 86_400,
    return_window_days=30,
    allow_self_purchase=True,
    checkout_touch_earns=True,
    lead_binding_days=30,
    caps=(CapTerm(CapScope.ORDER, 9_000, "CNY"),),
    notice_days=14,
)


async def drafted(
    session: AsyncSession, clock: FixedClock, terms: Terms = RICH, *, name: str = "spring cream"
) -> tuple[CampaignId, CampaignOfferId]:
    campaign_id = await make.campaign(session, MERCHANT, clock)
    content = OfferContent(name, "for dry skin", terms)
    return campaign_id, await publishing.create(session, MERCHANT, campaign_id, content, clock=clock)


async def test_a_draft_becomes_a_version_under_its_hash(session: AsyncSession, clock: FixedClock) -> None:
    campaign_id, offer_id = await drafted(session, clock)
    draft = (await queries.drafts_of(session, [await queries.offer(session, MERCHANT, offer_id)]))[offer_id]

    assert (
        await publishing.publish(session, MERCHANT, offer_id, draft_hash=draft.content_hash, clock=clock) == 1
    )

    found = await queries.offer(session, MERCHANT, offer_id)
    assert (found.status, found.current_version, found.published_at) == (
        OfferStatus.PUBLISHED, 1, clock.now(),
    )  # fmt: skip
    version = await queries.offer_version(session, MERCHANT, offer_id)
    assert version.content == OfferContent("spring cream", "for dry skin", RICH)
    assert version.content_hash == draft.content_hash
    assert version.content_hash == offer_hash(
        offer_id, 1, campaign_id=campaign_id, advertiser_id=MERCHANT.brand_id, content=version.content
    )
    assert await queries.drafts_of(session, [found]) == {}
    with pytest.raises(NothingToPublish):
        await publishing.publish(session, MERCHANT, offer_id, clock=clock)


async def test_another_draft_is_another_version_and_the_first_stays(
    session: AsyncSession, clock: FixedClock
) -> None:
    _, offer_id = await drafted(session, clock)
    await publishing.publish(session, MERCHANT, offer_id, clock=clock)
    clock.advance(timedelta(days=1))
    second = OfferContent("spring cream", "for dry skin", Terms.flat(90_000))
    await publishing.revise(session, MERCHANT, offer_id, second, clock=clock)
    assert (await queries.offer_version(session, MERCHANT, offer_id)).content.terms == RICH

    assert await publishing.publish(session, MERCHANT, offer_id, clock=clock) == 2

    versions = (await queries.versions_of(session, [offer_id]))[offer_id]
    assert [(v.version, v.content.terms) for v in versions] == [(2, Terms.flat(90_000)), (1, RICH)]
    assert (await queries.offer_version(session, MERCHANT, offer_id, 1)).content.terms == RICH
    with pytest.raises(OfferNotFound):
        await queries.offer_version(session, MERCHANT, offer_id, 3)


async def test_saying_the_same_again_makes_no_version(session: AsyncSession, clock: FixedClock) -> None:
    _, offer_id = await drafted(session, clock)
    await publishing.publish(session, MERCHANT, offer_id, clock=clock)
    same = OfferContent(" spring cream ", "for dry skin\n", RICH)
    await publishing.revise(session, MERCHANT, offer_id, same, clock=clock)
    assert await publishing.publish(session, MERCHANT, offer_id, clock=clock) == 1


async def test_only_the_draft_that_was_read_is_published(session: AsyncSession, clock: FixedClock) -> None:
    _, offer_id = await drafted(session, clock)
    read = (await queries.drafts_of(session, [await queries.offer(session, MERCHANT, offer_id)]))[offer_id]
    await publishing.revise(
        session, MERCHANT, offer_id, OfferContent("spring cream", "", Terms.flat(1)), clock=clock
    )
    with pytest.raises(DraftChanged):
        await publishing.publish(session, MERCHANT, offer_id, draft_hash=read.content_hash, clock=clock)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE offer_versions SET terms = jsonb_set(terms, '{window_s}', '3600')",
        "UPDATE offer_versions SET content_hash = 'x'",
        "UPDATE offer_versions SET name = 'another'",
        "UPDATE offer_versions SET version = 7",
        "DELETE FROM offer_versions",
        "TRUNCATE offer_versions",
        "ALTER TABLE offer_versions DISABLE TRIGGER immutable",
        "INSERT INTO offer_versions SELECT * FROM offer_versions",
    ],
)
async def test_the_application_role_cannot_rewrite_a_published_version(
    db: Database, clock: FixedClock, statement: str
) -> None:
    """Not as its advertiser, and not with the rights of the platform."""
    async with db.unit_of_work(SYSTEM) as session:
        _, offer_id = await drafted(session, clock)
        await publishing.publish(session, MERCHANT, offer_id, clock=clock)
    for actor in (MERCHANT, SYSTEM):
        async with db.reading(actor) as session:
            with pytest.raises(DBAPIError):
                await session.execute(text(statement))


async def test_a_retired_offer_is_offered_no_more(session: AsyncSession, clock: FixedClock) -> None:
    _, offer_id = await drafted(session, clock)
    with pytest.raises(OfferInAnotherState):
        await publishing.retire(session, MERCHANT, offer_id)
    await publishing.publish(session, MERCHANT, offer_id, clock=clock)
    for _ in range(2):
        await publishing.retire(session, MERCHANT, offer_id)
    content = OfferContent("again", "", RICH)
    with pytest.raises(OfferInAnotherState):
        await publishing.revise(session, MERCHANT, offer_id, content, clock=clock)
    with pytest.raises(OfferInAnotherState):
        await publishing.set_visibility(session, MERCHANT, offer_id, OfferVisibility.PUBLIC)
    assert (await queries.offer(session, MERCHANT, offer_id)).status is OfferStatus.RETIRED


async def test_an_offer_is_of_an_own_campaign_that_goes_on(session: AsyncSession, clock: FixedClock) -> None:
    campaign_id, offer_id = await drafted(session, clock)
    content = OfferContent("mine", "", RICH)
    with pytest.raises(CampaignNotFound):
        await publishing.create(session, STRANGER, campaign_id, content, clock=clock)
    with pytest.raises(OfferNotFound):
        await publishing.publish(session, STRANGER, offer_id, clock=clock)
    await campaigns.end(session, MERCHANT, campaign_id, clock=clock)
    with pytest.raises(CampaignEnded):
        await publishing.publish(session, MERCHANT, offer_id, clock=clock)


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (OfferContent(" ", "", RICH), "name"),
        (OfferContent("x" * 121, "", RICH), "name"),
        (OfferContent("x", "y" * 2_001, RICH), "summary"),
        (OfferContent("x", "", Terms.flat(1, model=AttributionModel.LINEAR)), "model"),
        (OfferContent("x", "", Terms.flat(900_001)), "ratePpm"),
    ],
)
async def test_offers_that_cannot_be_are_refused_by_field(
    session: AsyncSession, clock: FixedClock, content: OfferContent, field: str
) -> None:
    campaign_id = await make.campaign(session, MERCHANT, clock)
    with pytest.raises((BadOffer, BadTerms)) as refused:
        await publishing.create(session, MERCHANT, campaign_id, content, clock=clock)
    assert refused.value.field == field


async def test_goods_that_are_named_are_the_advertisers_own_and_give_the_categories(
    db: Database, clock: FixedClock
) -> None:
    merchant, _ = await committed_brand(db, clock)
    other, _ = await committed_brand(db, clock)
    own, foreign = [await committed_product(db, clock, actor) for actor in (merchant, other)]

    async def published(actor: Actor, terms: Terms) -> CampaignOfferId:
        async with db.unit_of_work(actor) as session:
            campaign_id = await make.campaign(session, actor, clock)
            return await make.offer(session, actor, clock, campaign_id, terms=terms)

    for terms in (
        Terms.flat(1, products=[foreign.id]),
        Terms.flat(1, products=[ProductId.new()]),
        Terms((Rule(1, ScopeKind.SKU, "NO-SUCH-SKU"),)),
    ):
        with pytest.raises(BadOffer) as refused:
            await published(merchant, terms)
        assert refused.value.field == "scopeId"
    for terms in (
        Terms.flat(1, products=[own.id]),
        Terms((Rule(1, ScopeKind.SKU, own.skus[0]),)),
    ):
        offer_id = await published(merchant, terms)
        async with db.reading(SYSTEM) as session:
            paths = await session.scalar(
                text("SELECT category_paths FROM offer_versions WHERE offer_id = :id"), {"id": offer_id}
            )
            category = await session.scalar(
                text("SELECT category FROM products WHERE id = :id"), {"id": own.id}
            )
        assert category in paths


def test_an_offer_is_found_by_its_rates_goods_and_words() -> None:
    columns = findable(OfferContent("Spring 春季", "for dry skin", RICH), ["food/tea"])
    assert (columns["rate_min_ppm"], columns["rate_max_ppm"]) == (80_000, 200_000)
    assert (columns["window_s"], columns["covers_everything"]) == (7 * 86_400, False)
    assert columns["category_paths"] == ["beauty", "beauty/skin", "food", "food/tea"]
    assert findable(OfferContent("x", "", Terms.flat(5)), [])["covers_everything"]
