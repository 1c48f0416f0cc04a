"""Seeding, what advertisers put out: a campaign with a budget each, and an offer for every partner."""

from __future__ import annotations

from typing import Any

from services.demo.http_clients import GraphQL
from services.demo.market import Agreement, Brand
from services.demo.seed_brands import Seeder

_BUDGET = {"amount": "1000000.00", "currencyCode": "CNY"}
"""More than the fortnight's sales can earn."""
_CAMPAIGNS = "query campaigns { campaigns(first: 100) { nodes { id name status } } }"
_NEW_CAMPAIGN = """
mutation campaign($input: CampaignCreateInput!) {
  campaignCreate(input: $input) { campaign { id name status } userErrors { code message field } }
}
"""
_ACTIVATE = """
mutation activate($input: CampaignInput!) {
  campaignActivate(input: $input) { campaign { id } userErrors { code message field } }
}
"""
_OFFERS = """
query offers($campaign: ID!) {
  offers(first: 100, campaignId: $campaign) { nodes { id status current { name } draft { name contentHash } } }
}
"""
_NEW_OFFER = """
mutation offer($input: OfferCreateInput!) {
  offerCreate(input: $input) {
    offer { id status current { name } draft { name contentHash } } userErrors { code message field }
  }
}
"""
_PUBLISH = """
mutation publish($input: OfferPublishInput!) {
  offerPublish(input: $input) { offer { id } userErrors { code message field } }
}
"""


async def seed_campaign(seeder: Seeder, brand: Brand) -> None:
    """The brand's campaign, if anybody promotes it. Goes on where it was left."""
    key = f"campaign:{brand.key}"
    advertises = any(agreement.advertiser == brand.key for agreement in seeder.market.agreements)
    if key in seeder.notes or not advertises:
        return
    api, name = seeder.of(brand.key), f"{brand.zh}好物季 {brand.en} Season"
    found = {node["name"]: node for node in (await api(_CAMPAIGNS))["campaigns"]["nodes"]}
    campaign = found.get(name)
    if campaign is None:
        given = {"name": name, "currencyCode": "CNY", "budget": _BUDGET}
        campaign = (await api.mutate(_NEW_CAMPAIGN, input=given))["campaign"]
    if campaign["status"] == "DRAFT":
        await api.mutate(_ACTIVATE, input={"id": campaign["id"]})
    seeder.notes.update({key: campaign["id"]})


async def published_offer(seeder: Seeder, agreement: Agreement) -> str:
    """The offer that this agreement will be made of. Goes on where it was left."""
    key = f"offer:{agreement.advertiser}:{agreement.promoter}"
    if key in seeder.notes:
        return str(seeder.notes[key])
    brands = seeder.market.by_brand
    name = f"{brands[agreement.advertiser].zh} × {brands[agreement.promoter].zh}"
    api, campaign = seeder.of(agreement.advertiser), seeder.notes[f"campaign:{agreement.advertiser}"]
    offer = await _offer_named(api, campaign, name)
    if offer is None:
        content = {"name": name, "summary": "一起卖得更好。", "terms": _terms(agreement)}
        made = await api.mutate(_NEW_OFFER, input={"campaignId": campaign, "content": content})
        offer = made["offer"]
    if offer["status"] == "DRAFT":
        published = {"id": offer["id"], "contentHash": offer["draft"]["contentHash"]}
        await api.mutate(_PUBLISH, input=published)
    seeder.notes.update({key: offer["id"]})
    return str(offer["id"])


async def _offer_named(api: GraphQL, campaign: str, name: str) -> dict[str, Any] | None:
    for node in (await api(_OFFERS, campaign=campaign))["offers"]["nodes"]:
        if name in ((node["current"] or {}).get("name"), (node["draft"] or {}).get("name")):
            return dict(node)
    return None


def _terms(agreement: Agreement) -> dict[str, Any]:
    rule: dict[str, Any] = {"ratePpm": agreement.rate_ppm}
    if agreement.category:
        rule |= {"scope": "CATEGORY", "scopeId": agreement.category}
    return {
        "rules": [rule],
        "individualPpm": agreement.individual_ppm,
        "windowS": agreement.window_days * 86_400,
        "returnWindowDays": agreement.return_window_days,
    }
