"""Agreements, links and clicks for tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import AgreementId, CommunityId, PlacementId, ProductId, PromoterId, TouchId
from core.money import Money
from marketplace.promotion import queries, service
from marketplace.promotion.agreements.origin import WITHOUT_ORIGIN, Origin
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.commission.rules import CapMode
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.offers import campaigns, publishing
from marketplace.promotion.offers.campaigns import NewCampaign
from marketplace.promotion.offers.content import OfferContent
from marketplace.promotion.offers.models import OfferVisibility
from marketplace.promotion.service import CreatedLink
from marketplace.promotion.touches.clicks import Click
from marketplace.promotion.touches.touch_token import TouchSigner
from tests.factories import audiences

SIGNER = TouchSigner("a secret of the tests, long enough to be one")
POLICY = DestinationPolicy()
TEN_PERCENT = Terms.flat(100_000)
_TENANT = text(
    "INSERT INTO tenants (id, kind, name, slug, status, country, currency, created_at) VALUES"
    " (:id, 'brand', 'A brand', :slug, 'active', 'CN', 'CNY', :now) ON CONFLICT DO NOTHING"
)


@dataclass(frozen=True, slots=True)
class Market:
    """A merchant that pays, a brand that promotes in its community, and their active agreement."""

    merchant: Actor
    promoter: Actor
    agreement_id: AgreementId
    community_id: CommunityId
    placement_id: PlacementId


async def known(session: AsyncSession, clock: Clock, *actors: Actor) -> None:
    """Rows for brands that a test made up. Needs a SYSTEM session."""
    for actor in actors:
        await session.execute(_TENANT, {"id": actor.brand_id, "slug": actor.brand_id.hex, "now": clock.now()})


async def campaign(
    session: AsyncSession,
    merchant: Actor,
    clock: Clock,
    *,
    budget_minor: int | None = None,
    mode: CapMode = CapMode.TRUNCATE,
    model: AttributionModel = AttributionModel.LAST_TOUCH,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
    draft: bool = False,
) -> CampaignId:
    """In yuan, active unless it stays a draft."""
    budget = None if budget_minor is None else Money(budget_minor, "CNY")
    new = NewCampaign("a private campaign", "CNY", starts_at or clock.now(), ends_at, model, budget, mode)
    campaign_id = await campaigns.create(session, merchant, new, clock=clock)
    if not draft:
        await campaigns.activate(session, merchant, campaign_id, clock=clock)
    return campaign_id


async def offer(
    session: AsyncSession,
    merchant: Actor,
    clock: Clock,
    campaign_id: CampaignId,
    *,
    terms: Terms = TEN_PERCENT,
    visibility: OfferVisibility = OfferVisibility.INVITED,
    name: str = "a private offer",
    summary: str = "",
) -> CampaignOfferId:
    """Published, in its first version."""
    content = OfferContent(name, summary, terms)
    offer_id = await publishing.create(
        session, merchant, campaign_id, content, visibility=visibility, clock=clock
    )
    await publishing.publish(session, merchant, offer_id, clock=clock)
    return offer_id


async def signed(
    session: AsyncSession,
    merchant: Actor,
    promoter: Actor,
    clock: Clock,
    terms: Terms = TEN_PERCENT,
    origin: Origin = WITHOUT_ORIGIN,
) -> AgreementId:
    """From the invitation to both signatures. Needs a SYSTEM session."""
    await known(session, clock, merchant, promoter)
    invitation = await service.invite(
        session,
        merchant,
        advertiser_id=merchant.brand_id,
        promoter_brand_id=promoter.brand_id,
        terms=terms,
        origin=origin,
        clock=clock,
    )
    opened = await service.accept(session, promoter, invitation, clock=clock)
    for signer in (merchant, promoter):
        await service.sign_agreement(
            session, signer, opened.agreement_id, content_hash=opened.content_hash, clock=clock
        )
    return opened.agreement_id


async def market(
    session: AsyncSession,
    merchant: Actor,
    promoter: Actor,
    clock: Clock,
    terms: Terms = TEN_PERCENT,
    origin: Origin = WITHOUT_ORIGIN,
) -> Market:
    agreement_id = await signed(session, merchant, promoter, clock, terms, origin)
    community_id = await audiences.community(session, promoter, clock)
    placement_id = await audiences.placement(session, promoter, clock, community_id)
    return Market(merchant, promoter, agreement_id, community_id, placement_id)


async def link(
    session: AsyncSession,
    market: Market,
    clock: Clock,
    *,
    promoter_id: PromoterId | None = None,
    product_id: ProductId | None = None,
    expires_at: datetime | None = None,
) -> CreatedLink:
    return await service.create_link(
        session,
        market.promoter,
        agreement_id=market.agreement_id,
        placement_id=market.placement_id,
        destination="https://shop.example.com/cream",
        promoter_id=promoter_id,
        product_id=product_id,
        expires_at=expires_at,
        policy=POLICY,
        clock=clock,
    )


async def click(
    session: AsyncSession,
    created: CreatedLink,
    at: datetime,
    *,
    is_bot: bool = False,
    session_key: bytes = b"",
) -> str:
    """Record a click through a link; gives the signed token the storefront would pass on."""
    target = await queries.link_by_code(session, created.code)
    assert target is not None
    touch = Click(
        TouchId.new(),
        target.id,
        target.agreement_id,
        target.advertiser_id,
        target.promoter_brand_id,
        at,
        is_bot=is_bot,
        session_key=session_key,
    )
    assert await service.record_clicks(session, [touch]) == 1
    return SIGNER.token(touch.id, touch.link_id, at)
