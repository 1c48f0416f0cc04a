"""Reads of campaigns and offers. The advertiser sees all of its own; a partner what it was offered or agreed on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import BrandId
from core.money import Money
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.commission.rules import CapMode
from marketplace.promotion.errors import CampaignNotFound
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.offers.content import OfferContent
from marketplace.promotion.offers.errors import OfferNotFound
from marketplace.promotion.offers.models import (
    Campaign,
    CampaignBudget,
    CampaignStatus,
    Offer,
    OfferDraft,
    OfferStatus,
    OfferVersion,
    OfferVisibility,
)
from marketplace.promotion.offers.publishing import draft_hash

MOST_VERSIONS = 10
_C, _B, _O, _D, _V = (
    table_of(model).c for model in (Campaign, CampaignBudget, Offer, OfferDraft, OfferVersion)
)
_CAMPAIGN = select(
    _C.id, _C.advertiser_id, _C.name, _C.currency, _C.model, _C.status, _C.starts_at, _C.ends_at, _C.used_up,
    _C.created_at, _B.limit_minor, _B.mode, _B.reserved_minor, _B.spent_minor,
).outerjoin(table_of(CampaignBudget), _B.campaign_id == _C.id)  # fmt: skip
_OFFER = select(
    _O.id, _O.advertiser_id, _O.campaign_id, _O.visibility, _O.status, _O.current_version, _O.created_at,
    _O.published_at,
)  # fmt: skip
_LATEST = text(
    "SELECT v.offer_id, v.version, v.name, v.summary, v.terms, v.content_hash, v.published_at"
    " FROM unnest(CAST(:offers AS uuid[])) AS wanted (id) CROSS JOIN LATERAL (SELECT * FROM offer_versions v"
    "  WHERE v.offer_id = wanted.id ORDER BY v.version DESC LIMIT :most) v ORDER BY v.offer_id, v.version DESC"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """``reserved``: earned, in its return window; ``spent``: confirmed; ``left`` is never below zero."""

    limit: Money
    reserved: Money
    spent: Money
    mode: CapMode

    @property
    def left(self) -> Money:
        committed = self.reserved.amount_minor + self.spent.amount_minor
        return Money(max(self.limit.amount_minor - committed, 0), self.limit.currency)


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """``budget`` is ``None`` without one, and for everybody but the advertiser; all see whether it is used up."""

    id: CampaignId
    advertiser_id: BrandId
    name: str
    currency: str
    model: AttributionModel
    status: CampaignStatus
    starts_at: datetime
    ends_at: datetime | None
    used_up: bool
    created_at: datetime
    budget: Budget | None

    def runs_at(self, at: datetime) -> bool:
        """Whether a touch of this moment, which is now, would earn."""
        within = self.starts_at <= at and (self.ends_at is None or at < self.ends_at)
        return self.status is CampaignStatus.ACTIVE and within


@dataclass(frozen=True, slots=True)
class OfferRow:
    id: CampaignOfferId
    advertiser_id: BrandId
    campaign_id: CampaignId
    visibility: OfferVisibility
    status: OfferStatus
    current_version: int
    created_at: datetime
    published_at: datetime | None


@dataclass(frozen=True, slots=True)
class OfferVersionRow:
    offer_id: CampaignOfferId
    version: int
    content: OfferContent
    content_hash: str
    published_at: datetime


@dataclass(frozen=True, slots=True)
class OfferDraftRow:
    """``content_hash`` is what it would be published under now."""

    content: OfferContent
    content_hash: str
    updated_at: datetime


async def campaign(session: AsyncSession, actor: Actor, campaign_id: CampaignId) -> CampaignRow:
    """Own, or of an offer or agreement that the actor may see. Raises ``CampaignNotFound``."""
    found = await campaigns_of(session, actor, [campaign_id])
    if campaign_id not in found:
        raise CampaignNotFound("no such campaign", field="id")
    return found[campaign_id]


async def campaigns_of(
    session: AsyncSession, actor: Actor, ids: Iterable[CampaignId]
) -> dict[CampaignId, CampaignRow]:
    """Those of the ids that the session's tenant may see (row-level security). One statement."""
    rows = await session.execute(_CAMPAIGN.where(_C.id.in_(list(ids))))
    return {found.id: found for found in (_campaign(row, actor) for row in rows)}


async def campaigns_page(
    session: AsyncSession, actor: Actor, request: PageRequest, *, status: CampaignStatus | None = None
) -> Page[CampaignRow]:
    """The brand's own, newest first."""
    wanted = _CAMPAIGN.where(*_own(_C, actor, status)).order_by(_C.id.desc()).limit(request.first + 1)
    if request.key:
        wanted = wanted.where(_C.id < CampaignId.parse(request.key[0]))
    rows = [_campaign(row, actor) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def campaigns_count(
    session: AsyncSession, actor: Actor, *, status: CampaignStatus | None = None
) -> int:
    wanted = select(func.count()).select_from(table_of(Campaign)).where(*_own(_C, actor, status))
    return await session.scalar(wanted) or 0


async def offer(session: AsyncSession, actor: Actor, offer_id: CampaignOfferId) -> OfferRow:
    """Own, public, or one the actor was invited with or agreed on. Raises ``OfferNotFound``."""
    found = await offers_of(session, [offer_id])
    if offer_id not in found:
        raise OfferNotFound("no such offer", field="id")
    return found[offer_id]


async def offers_of(session: AsyncSession, ids: Iterable[CampaignOfferId]) -> dict[CampaignOfferId, OfferRow]:
    """Those of the ids that the session's tenant may see (row-level security). One statement."""
    rows = await session.execute(_OFFER.where(_O.id.in_(list(ids))))
    return {found.id: found for found in map(_offer, rows)}


async def offers_page(
    session: AsyncSession,
    actor: Actor,
    request: PageRequest,
    *,
    campaign_id: CampaignId | None = None,
    status: OfferStatus | None = None,
) -> Page[OfferRow]:
    """The brand's own, newest first."""
    conditions = _own_offers(actor, campaign_id, status)
    wanted = _OFFER.where(*conditions).order_by(_O.id.desc()).limit(request.first + 1)
    if request.key:
        wanted = wanted.where(_O.id < CampaignOfferId.parse(request.key[0]))
    rows = [_offer(row) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def offers_count(
    session: AsyncSession,
    actor: Actor,
    *,
    campaign_id: CampaignId | None = None,
    status: OfferStatus | None = None,
) -> int:
    conditions = _own_offers(actor, campaign_id, status)
    return await session.scalar(select(func.count()).select_from(table_of(Offer)).where(*conditions)) or 0


async def versions_of(
    session: AsyncSession, offer_ids: Sequence[CampaignOfferId], *, most: int = MOST_VERSIONS
) -> dict[CampaignOfferId, list[OfferVersionRow]]:
    """The latest published versions of offers that the session's tenant may see, newest first. One statement."""
    found: dict[CampaignOfferId, list[OfferVersionRow]] = {}
    for row in await session.execute(_LATEST, {"offers": list(offer_ids), "most": most}):
        version = _version(row)
        found.setdefault(version.offer_id, []).append(version)
    return found


async def offer_version(
    session: AsyncSession, actor: Actor, offer_id: CampaignOfferId, version: int | None = None
) -> OfferVersionRow:
    """A published version of an offer that the actor may see, the current one by default.

    Raises ``OfferNotFound``.
    """
    actor.require("promotion:read")
    if version is None:
        version = (await offer(session, actor, offer_id)).current_version
    wanted = select(
        _V.offer_id, _V.version, _V.name, _V.summary, _V.terms, _V.content_hash, _V.published_at
    ).where(_V.offer_id == offer_id, _V.version == version)
    row = (await session.execute(wanted)).first()
    if row is None:
        raise OfferNotFound("no such version of an offer", field="version")
    return _version(row)


async def drafts_of(
    session: AsyncSession, offers: Sequence[OfferRow]
) -> Mapping[CampaignOfferId, OfferDraftRow]:
    """Drafts of the session's own offers (row-level security). One statement."""
    known = {offer.id: offer for offer in offers}
    wanted = select(_D.offer_id, _D.name, _D.summary, _D.terms, _D.updated_at).where(_D.offer_id.in_(known))
    found = {}
    for row in await session.execute(wanted):
        content, of = OfferContent(row.name, row.summary, Terms.from_json(row.terms)), known[row.offer_id]
        digest = draft_hash(
            of.id,
            of.current_version,
            campaign_id=of.campaign_id,
            advertiser_id=of.advertiser_id,
            content=content,
        )
        found[of.id] = OfferDraftRow(content, digest, row.updated_at)
    return found


def _own(columns: Any, actor: Actor, status: CampaignStatus | None) -> list[ColumnElement[bool]]:
    actor.require("promotion:read")
    wanted = [] if actor.sees_everything else [columns.advertiser_id == actor.brand_id]
    return wanted + ([] if status is None else [columns.status == status])


def _own_offers(
    actor: Actor, campaign_id: CampaignId | None, status: OfferStatus | None
) -> list[ColumnElement[bool]]:
    actor.require("promotion:read")
    wanted = [] if actor.sees_everything else [_O.advertiser_id == actor.brand_id]
    if campaign_id is not None:
        wanted.append(_O.campaign_id == campaign_id)
    return wanted + ([] if status is None else [_O.status == status])


def _campaign(row: Any, actor: Actor) -> CampaignRow:
    budget = None
    mine = actor.sees_everything or actor.tenant_id == row.advertiser_id
    if row.limit_minor is not None and mine:
        limit, reserved, spent = (
            Money(minor, row.currency) for minor in (row.limit_minor, row.reserved_minor, row.spent_minor)
        )
        budget = Budget(limit, reserved, spent, CapMode(row.mode))
    return CampaignRow(
        row.id, row.advertiser_id, row.name, row.currency, AttributionModel(row.model),
        CampaignStatus(row.status), row.starts_at, row.ends_at, row.used_up, row.created_at, budget,
    )  # fmt: skip


def _offer(row: Any) -> OfferRow:
    return OfferRow(
        row.id, row.advertiser_id, row.campaign_id, OfferVisibility(row.visibility), OfferStatus(row.status),
        row.current_version, row.created_at, row.published_at,
    )  # fmt: skip


def _version(row: Any) -> OfferVersionRow:
    content = OfferContent(row.name, row.summary, Terms.from_json(row.terms))
    offer_id = CampaignOfferId.of(row.offer_id)
    return OfferVersionRow(offer_id, row.version, content, row.content_hash, row.published_at)
