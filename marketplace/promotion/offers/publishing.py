"""Offers of a campaign: a draft is edited, publishing makes it a version that nothing changes any more.

``DRAFT → PUBLISHED → RETIRED``. A published offer may have a next draft beside it. Publishing changes no agreement:
those are signed snapshots of an earlier version, and go on with it until both brands sign another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import BrandId, ProductId
from infra import outbox
from infra.db.base import table_of
from marketplace.catalog import queries as catalog
from marketplace.promotion.agreements.parties import checked_for
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.errors import CampaignEnded, CampaignNotFound
from marketplace.promotion.events import OfferPublished
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.offers.content import OfferContent, checked_content, findable, offer_hash
from marketplace.promotion.offers.errors import (
    BadOffer,
    DraftChanged,
    NothingToPublish,
    OfferInAnotherState,
    OfferNotFound,
)
from marketplace.promotion.offers.models import (
    Campaign,
    CampaignStatus,
    Offer,
    OfferDraft,
    OfferStatus,
    OfferVersion,
    OfferVisibility,
)

_OFFERS, _DRAFTS, _VERSIONS = table_of(Offer), table_of(OfferDraft), table_of(OfferVersion)
_CAMPAIGNS = table_of(Campaign)


@dataclass(frozen=True, slots=True)
class _Found:
    id: CampaignOfferId
    advertiser_id: BrandId
    campaign_id: CampaignId
    status: OfferStatus
    current_version: int


async def create(
    session: AsyncSession,
    actor: Actor,
    campaign_id: CampaignId,
    content: OfferContent,
    *,
    visibility: OfferVisibility = OfferVisibility.INVITED,
    clock: Clock,
) -> CampaignOfferId:
    """A draft in one of the actor's campaigns. Raises ``CampaignNotFound``, ``CampaignEnded``, ``BadOffer``,
    ``BadTerms``."""
    brand_id, now = _writing_brand(actor), clock.now()
    content = await _checked(session, actor, campaign_id, content)
    offer_id = CampaignOfferId.new()
    row = {
        "id": offer_id, "advertiser_id": brand_id, "campaign_id": campaign_id, "visibility": visibility,
        "status": OfferStatus.DRAFT, "current_version": 0, "created_at": now,
    }  # fmt: skip
    await session.execute(insert(_OFFERS), [row])
    await _write_draft(session, offer_id, brand_id, content, clock)
    return offer_id


async def revise(
    session: AsyncSession, actor: Actor, offer_id: CampaignOfferId, content: OfferContent, *, clock: Clock
) -> None:
    """What the next version will say. Raises ``OfferInAnotherState`` for a retired one, ``BadOffer``, ``BadTerms``."""
    found = await _locked(session, actor, offer_id)
    content = await _checked(session, actor, found.campaign_id, content)
    await _write_draft(session, offer_id, found.advertiser_id, content, clock)


async def publish(
    session: AsyncSession,
    actor: Actor,
    offer_id: CampaignOfferId,
    *,
    draft_hash: str | None = None,
    clock: Clock,
) -> int:
    """Make the draft the next version. Returns its number; a draft that says nothing new keeps the version.

    ``draft_hash`` is the hash of the draft that was read. Raises ``NothingToPublish``, ``DraftChanged``,
    ``ProductNotFound`` and ``BadOffer`` for goods that are not the advertiser's, ``CampaignEnded``.
    """
    now = clock.now()
    found = await _locked(session, actor, offer_id)
    d = _DRAFTS.c
    row = (await session.execute(select(d.name, d.summary, d.terms).where(d.offer_id == offer_id))).first()
    if row is None:
        raise NothingToPublish("this offer has no draft")
    content = OfferContent(row.name, row.summary, Terms.from_json(row.terms))
    content = await _checked(session, actor, found.campaign_id, content)
    version = found.current_version + 1
    digest = _hash(found, version, content)
    if draft_hash is not None and draft_hash != digest:
        raise DraftChanged("the draft is not the one that was read")
    await session.execute(delete(_DRAFTS).where(d.offer_id == offer_id))
    if await _says_the_same(session, found, content):
        return found.current_version
    categories = await _categories(session, actor, found.advertiser_id, content.terms)
    published = {
        "offer_id": offer_id, "version": version, "advertiser_id": found.advertiser_id, "name": content.name,
        "summary": content.summary, "terms": content.terms.to_json(), "content_hash": digest,
        "published_at": now, "published_by": str(actor), **findable(content, categories),
    }  # fmt: skip
    await session.execute(insert(_VERSIONS), [published])
    await session.execute(
        update(_OFFERS)
        .where(_OFFERS.c.id == offer_id)
        .values(status=OfferStatus.PUBLISHED, current_version=version, published_at=now)
    )
    await outbox.record(session, OfferPublished(offer_id, found.advertiser_id, version, now))
    return version


async def retire(session: AsyncSession, actor: Actor, offer_id: CampaignOfferId) -> None:
    """Nobody is invited with it any more. Its agreements and open invitations stay. Again changes nothing."""
    found = await _locked(session, actor, offer_id, retired_too=True)
    if found.status is OfferStatus.RETIRED:
        return
    if found.status is OfferStatus.DRAFT:
        raise OfferInAnotherState(offer_id, found.status)
    await session.execute(delete(_DRAFTS).where(_DRAFTS.c.offer_id == offer_id))
    await session.execute(update(_OFFERS).where(_OFFERS.c.id == offer_id).values(status=OfferStatus.RETIRED))


async def set_visibility(
    session: AsyncSession, actor: Actor, offer_id: CampaignOfferId, visibility: OfferVisibility
) -> None:
    """Who may find it: every brand of the directory, or those that are invited."""
    await _locked(session, actor, offer_id)
    await session.execute(update(_OFFERS).where(_OFFERS.c.id == offer_id).values(visibility=visibility))


def draft_hash(
    offer_id: CampaignOfferId,
    current_version: int,
    *,
    campaign_id: CampaignId,
    advertiser_id: BrandId,
    content: OfferContent,
) -> str:
    """The content hash that a draft would be published under: who publishes says which draft was read."""
    return offer_hash(
        offer_id, current_version + 1, campaign_id=campaign_id, advertiser_id=advertiser_id, content=content
    )


def _writing_brand(actor: Actor) -> BrandId:
    actor.require("promotion:write")
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    return actor.brand_id


async def _checked(
    session: AsyncSession, actor: Actor, campaign_id: CampaignId, content: OfferContent
) -> OfferContent:
    c = _CAMPAIGNS.c
    wanted = select(c.status, c.model).where(c.id == campaign_id, c.advertiser_id == actor.brand_id)
    campaign = (await session.execute(wanted)).first()
    if campaign is None:
        raise CampaignNotFound("no such campaign", field="campaignId")
    if campaign.status == CampaignStatus.ENDED:
        raise CampaignEnded("this campaign has ended")
    checked_for(actor, content.terms)
    return checked_content(content, AttributionModel(campaign.model))


async def _write_draft(
    session: AsyncSession, offer_id: CampaignOfferId, brand_id: BrandId, content: OfferContent, clock: Clock
) -> None:
    row = {
        "offer_id": offer_id, "advertiser_id": brand_id, "name": content.name, "summary": content.summary,
        "terms": content.terms.to_json(), "updated_at": clock.now(),
    }  # fmt: skip
    draft = upsert(_DRAFTS).values(row)
    said = {name: draft.excluded[name] for name in ("name", "summary", "terms", "updated_at")}
    await session.execute(draft.on_conflict_do_update(index_elements=["offer_id"], set_=said))


def _hash(found: _Found, version: int, content: OfferContent) -> str:
    return offer_hash(
        found.id, version, campaign_id=found.campaign_id, advertiser_id=found.advertiser_id, content=content
    )


async def _says_the_same(session: AsyncSession, found: _Found, content: OfferContent) -> bool:
    v = _VERSIONS.c
    current = await session.scalar(
        select(v.content_hash).where(v.offer_id == found.id, v.version == found.current_version)
    )
    return current is not None and current == _hash(found, found.current_version, content)


async def _categories(session: AsyncSession, actor: Actor, advertiser_id: BrandId, terms: Terms) -> set[str]:
    """Of the products and SKUs it names, which are the advertiser's own."""
    scope = terms.scope
    wanted: set[ProductId] = set(scope.products)
    if scope.skus:
        variants = await catalog.resolve_skus(session, scope.skus, advertiser_id)
        unknown = sorted(scope.skus - {sku for _, sku in variants})
        if unknown:
            raise BadOffer(f"scopeId: no SKU {unknown[0]!r} of this brand", field="scopeId")
        found = await catalog.variants_by_id(session, list(variants.values()))
        wanted |= {variant.product_id for variant in found.values()}
    products = await catalog.products_of(session, actor, wanted) if wanted else {}
    foreign = [id for id in wanted if id not in products or products[id].brand_id != advertiser_id]
    if foreign:
        raise BadOffer(f"scopeId: no product {foreign[0]} of this brand", field="scopeId")
    return {product.category for product in products.values() if product.category}


async def _locked(
    session: AsyncSession, actor: Actor, offer_id: CampaignOfferId, *, retired_too: bool = False
) -> _Found:
    brand_id = _writing_brand(actor)
    c = _OFFERS.c
    wanted = select(c.id, c.advertiser_id, c.campaign_id, c.status, c.current_version).where(
        c.id == offer_id, c.advertiser_id == brand_id
    )
    row: Any = (await session.execute(wanted.with_for_update())).first()
    if row is None:
        raise OfferNotFound("no such offer", field="id")
    status = OfferStatus(row.status)
    if status is OfferStatus.RETIRED and not retired_too:
        raise OfferInAnotherState(offer_id, status)
    return _Found(row.id, row.advertiser_id, row.campaign_id, status, row.current_version)
