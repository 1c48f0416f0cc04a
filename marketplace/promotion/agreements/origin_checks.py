"""Whether terms may come from where they say they do."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.errors import BadTerms, CampaignEnded, CampaignNotFound
from marketplace.promotion.facts import AttributionModel

_CAMPAIGN = text("SELECT advertiser_id, status, model FROM campaigns WHERE id = :id")
_OFFERED = text("SELECT terms FROM offer_versions WHERE offer_id = :offer AND version = :version")
_ENDED = "ENDED"


async def check_origin(session: AsyncSession, origin: Origin, advertiser_id: BrandId, terms: Terms) -> None:
    """The campaign is the advertiser's, goes on, and attributes as the terms do.

    Raises ``CampaignNotFound``, ``CampaignEnded``, ``BadTerms``.
    """
    if origin.campaign_id is None:
        return
    row = (await session.execute(_CAMPAIGN, {"id": origin.campaign_id})).first()
    if row is None or BrandId.of(row.advertiser_id) != advertiser_id:
        raise CampaignNotFound("no such campaign", field="campaignId")
    if row.status == _ENDED:
        raise CampaignEnded("this campaign has ended")
    if terms.model != AttributionModel(row.model):
        raise BadTerms(f"model: the campaign's, {row.model}", field="model")


async def version_offered(session: AsyncSession, origin: Origin, terms: Terms) -> int | None:
    """The version of the offer whose terms these are; ``None`` when the two brands agreed on others."""
    if origin.offer_id is None:
        return None
    found = await session.scalar(_OFFERED, {"offer": origin.offer_id, "version": origin.offer_version})
    return origin.offer_version if found is not None and Terms.from_json(found) == terms else None
