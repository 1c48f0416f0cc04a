"""Offers that anybody in the directory may apply to: of brands that are listed, in campaigns that go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, String, and_, cast, func, literal, or_, select, tuple_
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor, ActorKind, WrongTenant
from core.canonical import from_micros, to_micros
from core.ids import BrandId, MalformedId
from core.money import PPM
from core.pagination import BadPage, Page, PageRequest, encode_cursor
from infra.db.base import table_of
from infra.db.text import storable
from infra.search.text import query_words, tsquery
from marketplace.promotion.directory.models import PartnerListing
from marketplace.promotion.directory.profile import checked_category, checked_region
from marketplace.promotion.ids import CampaignOfferId
from marketplace.promotion.offers.errors import BadOffer
from marketplace.promotion.offers.models import (
    Campaign,
    CampaignStatus,
    Offer,
    OfferStatus,
    OfferVersion,
    OfferVisibility,
)
from marketplace.promotion.offers.queries import OfferRow

_LONGEST_TEXT = 200
_OFFERS, _VERSIONS = table_of(Offer), table_of(OfferVersion)
_CAMPAIGNS, _LISTINGS = table_of(Campaign), table_of(PartnerListing)
_O, _V, _C, _L = _OFFERS.c, _VERSIONS.c, _CAMPAIGNS.c, _LISTINGS.c
_FOUND = (
    _OFFERS.join(_VERSIONS, and_(_V.offer_id == _O.id, _V.version == _O.current_version))
    .join(_CAMPAIGNS, _C.id == _O.campaign_id)
    .join(_LISTINGS, _L.brand_id == _O.advertiser_id)
)


@dataclass(frozen=True, slots=True)
class OfferFilter:
    """All that is given must hold. ``category`` finds offers for goods of it or below it, and offers for a whole
    catalogue of a brand that sells such goods; ``region`` those of brands that serve it."""

    text: str = ""
    advertiser_id: BrandId | None = None
    category: str | None = None
    region: str | None = None
    rate_at_least_ppm: int | None = None
    window_at_least_s: int | None = None
    currency: str | None = None


async def offers_page(
    session: AsyncSession, actor: Actor, filter: OfferFilter, request: PageRequest, *, at: datetime
) -> Page[OfferRow]:
    """Public offers of other brands, the latest published first. Raises ``BadOffer``, ``BadPage``. One statement."""
    conditions = _matching(actor, filter, at)
    if request.key:
        conditions.append(tuple_(_O.published_at, _O.id) < _after(request.key))
    wanted = (
        select(
            _O.id, _O.advertiser_id, _O.campaign_id, _O.visibility, _O.status, _O.current_version,
            _O.created_at, _O.published_at,
        )
        .select_from(_FOUND).where(*conditions)
        .order_by(_O.published_at.desc(), _O.id.desc()).limit(request.first + 1)
    )  # fmt: skip
    rows = [_row(row) for row in await session.execute(wanted)]
    items = rows[: request.first]
    cursors = [encode_cursor(str(to_micros(row.published_at or at)), str(row.id)) for row in items]
    return Page(items, cursors, len(rows) > request.first)


async def offers_count(session: AsyncSession, actor: Actor, filter: OfferFilter, *, at: datetime) -> int:
    wanted = select(func.count()).select_from(_FOUND).where(*_matching(actor, filter, at))
    return await session.scalar(wanted) or 0


def _matching(actor: Actor, filter: OfferFilter, at: datetime) -> list[ColumnElement[bool]]:
    actor.require("promotion:read")
    if actor.kind is not ActorKind.BRAND and not actor.sees_everything:
        raise WrongTenant("the directory is for brands")
    wanted: list[ColumnElement[bool]] = [
        _O.visibility == OfferVisibility.PUBLIC,
        _O.status == OfferStatus.PUBLISHED,
        _C.status == CampaignStatus.ACTIVE,
        or_(_C.ends_at.is_(None), _C.ends_at > at),
        _L.brand_active,
    ]
    if actor.kind is ActorKind.BRAND:
        wanted.append(_O.advertiser_id != actor.brand_id)
    if filter.advertiser_id is not None:
        wanted.append(_O.advertiser_id == filter.advertiser_id)
    if filter.currency is not None:
        wanted.append(_C.currency == filter.currency)
    if filter.rate_at_least_ppm is not None:
        fits = 0 <= filter.rate_at_least_ppm <= PPM
        wanted.append(_V.rate_max_ppm >= _bound(fits, filter.rate_at_least_ppm, "rateAtLeastPpm"))
    if filter.window_at_least_s is not None:
        fits = 0 <= filter.window_at_least_s < 2**31
        wanted.append(_V.window_s >= _bound(fits, filter.window_at_least_s, "windowAtLeastS"))
    return wanted + _about(filter)


def _about(filter: OfferFilter) -> list[ColumnElement[bool]]:
    """Words, goods and place."""
    wanted: list[ColumnElement[bool]] = []
    if filter.text.strip():
        if len(filter.text) > _LONGEST_TEXT or not storable(filter.text):
            raise BadOffer(f"text: at most {_LONGEST_TEXT} characters of real text", field="text")
        words = query_words(filter.text)
        query = cast(cast(tsquery(words, every=True), String), TSQUERY) if words else None
        found = literal(False) if query is None else _V.tokens.bool_op("@@")(query)
        wanted.append(found)
    if filter.category is not None:
        category = checked_category(filter.category, field="category")
        sells = func.array_to_string(_L.categories, " ")
        within = or_(
            _L.categories.contains([category]), (" " + sells).contains(f" {category}/", autoescape=True)
        )
        wanted.append(or_(_V.category_paths.contains([category]), and_(_V.covers_everything, within)))
    if filter.region is not None:
        region = checked_region(filter.region, field="region")
        wanted.append(or_(_L.region_paths.contains([region]), _L.regions.contains([region[:2]])))
    return wanted


def _bound(fits: bool, value: int, field: str) -> int:
    if not fits:
        raise BadOffer(f"{field}: out of bounds", field=field)
    return value


def _after(key: tuple[str, ...]) -> Any:
    try:
        micros, offer = key
        at = literal(from_micros(int(micros)), _O.published_at.type)
        return tuple_(at, literal(CampaignOfferId.parse(offer), _O.id.type))
    except (ValueError, OverflowError, MalformedId) as error:
        raise BadPage("the cursor is not one of this list", field="after") from error


def _row(row: Any) -> OfferRow:
    return OfferRow(
        row.id, row.advertiser_id, row.campaign_id, OfferVisibility(row.visibility), OfferStatus(row.status),
        row.current_version, row.created_at, row.published_at,
    )  # fmt: skip
