"""From an offer to an invitation, and from a new version to the agreements that began with an earlier one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.errors import LianyuError
from core.ids import AgreementId, BrandId, InvitationId
from marketplace.promotion.agreements import inviting, lifecycle
from marketplace.promotion.agreements.lifecycle import OpenedAgreement
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.errors import BatchTooLarge
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.offers.errors import (
    AlreadyApplied,
    NotInDirectory,
    OfferInAnotherState,
    OfferNotFound,
    OfferNotOpen,
)

MOST_AT_ONCE = 100
_CURRENT = text(
    "SELECT o.advertiser_id, o.campaign_id, o.visibility, o.status, v.version, v.terms, c.status AS campaign_status,"
    " c.ends_at FROM offers o JOIN campaigns c ON c.id = o.campaign_id"
    " LEFT JOIN offer_versions v ON v.offer_id = o.id AND v.version = o.current_version WHERE o.id = :id"
)
_LISTED = text("SELECT EXISTS (SELECT FROM partner_listings WHERE brand_id = :brand AND brand_active)")
_BETWEEN = text(
    "SELECT (SELECT id FROM invitations WHERE offer_id = :offer AND promoter_brand_id = :brand AND status = 'SENT'"
    "  AND expires_at > :now LIMIT 1) AS invitation_id,"
    " (SELECT id FROM agreements WHERE offer_id = :offer AND promoter_brand_id = :brand"
    "  AND status NOT IN ('ENDED', 'TERMINATED') LIMIT 1) AS agreement_id"
)
# Agreements of the offer on other terms, which have no open proposal of this version.
_BEHIND = text(
    "SELECT a.id FROM agreements a WHERE a.offer_id = :offer AND a.status IN ('ACTIVE', 'PAUSED')"
    " AND coalesce(a.ends_at > :now, true) AND (:all OR a.id = ANY(:agreements))"
    " AND NOT EXISTS (SELECT FROM agreement_versions v WHERE v.agreement_id = a.id AND v.offer_version = :version"
    "  AND v.withdrawn_at IS NULL AND v.version >= a.current_version) ORDER BY a.id LIMIT :most"
)


@dataclass(frozen=True, slots=True)
class OnOffer:
    """The current version of an offer, and where an agreement of it comes from."""

    advertiser_id: BrandId
    terms: Terms
    origin: Origin
    open_to_all: bool


@dataclass(frozen=True, slots=True)
class Proposed:
    """What became of one agreement: its new version that waits, or why there is none."""

    agreement_id: AgreementId
    opened: OpenedAgreement | None = None
    error: LianyuError | None = None


async def on_offer(
    session: AsyncSession, actor: Actor, offer_id: CampaignOfferId, *, at: datetime
) -> OnOffer:
    """An offer that agreements can be made of. Raises ``OfferNotFound``, ``OfferInAnotherState``."""
    row = (await session.execute(_CURRENT, {"id": offer_id})).first()
    if row is None:
        raise OfferNotFound("no such offer", field="offerId")
    if row.status != "PUBLISHED":
        raise OfferInAnotherState(offer_id, row.status)
    origin = Origin(CampaignId.of(row.campaign_id), offer_id, row.version)
    running = row.campaign_status == "ACTIVE" and (row.ends_at is None or row.ends_at > at)
    return OnOffer(
        BrandId.of(row.advertiser_id),
        Terms.from_json(row.terms),
        origin,
        running and row.visibility == "PUBLIC",
    )


async def invite(
    session: AsyncSession,
    actor: Actor,
    offer_id: CampaignOfferId,
    *,
    promoter_brand_id: BrandId,
    message: str = "",
    as_draft: bool = False,
    clock: Clock,
) -> InvitationId:
    """The advertiser offers the current version to a brand. Raises what ``agreements.inviting.invite`` raises."""
    offered = await on_offer(session, actor, offer_id, at=clock.now())
    given: dict[str, Any] = {
        "advertiser_id": offered.advertiser_id, "promoter_brand_id": promoter_brand_id, "terms": offered.terms,
        "message": message, "origin": offered.origin,
    }  # fmt: skip
    if actor.brand_id != offered.advertiser_id:
        raise OfferNotFound("no such offer of this brand", field="offerId")
    if as_draft:
        return await inviting.draft_invitation(session, actor, **given)
    return await inviting.invite(session, actor, **given, clock=clock)


async def apply(
    session: AsyncSession, actor: Actor, offer_id: CampaignOfferId, *, message: str = "", clock: Clock
) -> InvitationId:
    """A brand of the directory asks to promote a public offer on its terms: an invitation that the advertiser answers.

    Raises ``OfferNotOpen``, ``NotInDirectory``, ``AlreadyApplied``, ``NotAParty`` for the own offer.
    """
    now = clock.now()
    offered = await on_offer(session, actor, offer_id, at=now)
    if not offered.open_to_all:
        raise OfferNotOpen("nobody can apply to this offer now", field="offerId")
    if not await session.scalar(_LISTED, {"brand": actor.brand_id}):
        raise NotInDirectory("whoever applies is in the directory: publish your profile first")
    between = {"offer": offer_id, "brand": actor.brand_id, "now": now}
    found = (await session.execute(_BETWEEN, between)).one()
    if found.invitation_id or found.agreement_id:
        raise AlreadyApplied(
            invitation_id=found.invitation_id and InvitationId.of(found.invitation_id),
            agreement_id=found.agreement_id and AgreementId.of(found.agreement_id),
        )
    return await inviting.invite(
        session, actor, advertiser_id=offered.advertiser_id, promoter_brand_id=actor.brand_id,
        terms=offered.terms, message=message, origin=offered.origin, clock=clock,
    )  # fmt: skip


async def propose(
    session: AsyncSession,
    actor: Actor,
    offer_id: CampaignOfferId,
    *,
    agreement_ids: Sequence[AgreementId] | None = None,
    effective_at: datetime | None = None,
    clock: Clock,
) -> list[Proposed]:
    """Propose the current version to agreements of the offer that are on other terms, 100 at most.

    Those that have it, or have it proposed, are passed over: asked again, the next 100 come. Each takes effect when
    both brands have signed it and its notice is over. Raises ``BatchTooLarge``, ``OfferNotFound``.
    """
    if agreement_ids is not None and not 1 <= len(agreement_ids) <= MOST_AT_ONCE:
        raise BatchTooLarge(MOST_AT_ONCE, len(agreement_ids), field="agreementIds")
    actor.require("promotion:write")
    now = clock.now()
    offered = await on_offer(session, actor, offer_id, at=now)
    if actor.brand_id != offered.advertiser_id:
        raise OfferNotFound("no such offer of this brand", field="offerId")
    behind = {
        "offer": offer_id, "version": offered.origin.offer_version, "now": now, "all": agreement_ids is None,
        "agreements": list(agreement_ids or ()), "most": MOST_AT_ONCE,
    }  # fmt: skip
    done = []
    for agreement_id in (await session.execute(_BEHIND, behind)).scalars().all():
        done.append(
            await _propose(session, actor, AgreementId.of(agreement_id), offered, effective_at, clock)
        )
    return done


async def _propose(
    session: AsyncSession,
    actor: Actor,
    agreement_id: AgreementId,
    offered: OnOffer,
    effective_at: datetime | None,
    clock: Clock,
) -> Proposed:
    try:
        opened = await lifecycle.propose_version(
            session, actor, agreement_id, terms=offered.terms, effective_at=effective_at,
            offer_version=offered.origin.offer_version, clock=clock,
        )  # fmt: skip
    except LianyuError as error:
        return Proposed(agreement_id, error=error)
    return Proposed(agreement_id, opened)
