"""Which of two brands acts, and whether it may."""

from __future__ import annotations

from core.actor import Actor, ActorKind, WrongTenant
from core.ids import BrandId
from marketplace.promotion.agreements.terms import PLATFORM_FEE_PPM, Terms, checked
from marketplace.promotion.errors import NotAParty


def party(actor: Actor, advertiser_id: BrandId, promoter_brand_id: BrandId) -> BrandId:
    """The actor's brand. Raises ``WrongTenant``, ``NotAParty``."""
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    if advertiser_id == promoter_brand_id or actor.brand_id not in (advertiser_id, promoter_brand_id):
        raise NotAParty("your brand is one of two different brands here")
    return actor.brand_id


def checked_for(actor: Actor, terms: Terms) -> Terms:
    """Terms that this actor may offer. Raises ``BadTerms``."""
    return checked(terms, lowest_fee_ppm=0 if actor.sees_everything else PLATFORM_FEE_PPM)
