"""What an offer says, checked and hashed, and what it is found by; pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core.canonical import content_hash
from core.ids import BrandId
from infra.db.text import storable
from infra.search.text import tsvector
from marketplace.promotion.agreements.terms import Terms, category_path
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.offers.errors import BadOffer

LONGEST_NAME, LONGEST_SUMMARY = 120, 2_000


@dataclass(frozen=True, slots=True)
class OfferContent:
    """``terms`` with the scope of products; ``name`` one line, ``summary`` for people."""

    name: str
    summary: str
    terms: Terms


def checked_content(content: OfferContent, model: AttributionModel) -> OfferContent:
    """In one form: texts stripped. ``model`` is the campaign's. Raises ``BadOffer``; the terms are checked apart."""
    name, summary = content.name.strip(), content.summary.strip()
    fits = 1 <= len(name) <= LONGEST_NAME and name.isprintable() and storable(name)
    _require(fits, "name", f"one line of 1 to {LONGEST_NAME} characters")
    fits = len(summary) <= LONGEST_SUMMARY and storable(summary)
    _require(fits, "summary", f"at most {LONGEST_SUMMARY} characters of real text")
    _require(content.terms.model is model, "model", f"the campaign's, {model}")
    return OfferContent(name, summary, content.terms)


def offer_hash(
    offer_id: CampaignOfferId,
    version: int,
    *,
    campaign_id: CampaignId,
    advertiser_id: BrandId,
    content: OfferContent,
) -> str:
    """SHA-256 of the canonical JSON of one published version."""
    return content_hash(
        {
            "offer": offer_id, "version": version, "campaign": campaign_id, "advertiser": advertiser_id,
            "name": content.name, "summary": content.summary, "terms": content.terms.to_json(),
        }
    )  # fmt: skip


def findable(content: OfferContent, categories: Iterable[str]) -> dict[str, Any]:
    """The columns a version is found by. ``categories`` are those of the products it names.

    Rates: the lowest and the highest a rule or tier pays; an amount a piece counts as the rule's rate.
    """
    terms = content.terms
    rates = [rate for rule in terms.rules for rate in (rule.rate_ppm, rule.rate_new_ppm) if rate is not None]
    if terms.tiers is not None:
        rates = [tier.rate_ppm for tier in terms.tiers.tiers]
    named = {*terms.scope.categories, *categories}
    return {
        "rate_min_ppm": min(rates), "rate_max_ppm": max(rates), "window_s": terms.window_s,
        "covers_everything": terms.scope.everything,
        "category_paths": sorted({path for category in named for path in category_path(category)}),
        "tokens": tsvector({"A": [content.name], "B": sorted(named), "C": [content.summary]}),
    }  # fmt: skip


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadOffer(f"{field}: {allowed}", field=field)
