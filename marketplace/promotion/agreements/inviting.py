"""Invitations: ``DRAFT → SENT → ACCEPTED | DECLINED | EXPIRED | WITHDRAWN``.

A draft is its author's alone. A counter-offer declines the invitation it answers and supersedes it; it keeps the
campaign and offer the talk began with. Accepting makes an agreement that both brands then sign.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import BrandId, InvitationId
from infra.db.base import table_of
from infra.db.session import Database
from marketplace.brands import queries as brands
from marketplace.brands.errors import BrandNotFound
from marketplace.promotion.agreements import lifecycle
from marketplace.promotion.agreements.lifecycle import OpenedAgreement
from marketplace.promotion.agreements.origin import WITHOUT_ORIGIN, Origin
from marketplace.promotion.agreements.origin_checks import check_origin
from marketplace.promotion.agreements.parties import checked_for, party
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.errors import BadTerms, InvitationNotFound, InvitationNotOpen, NotYoursToAnswer
from marketplace.promotion.models import Invitation, InvitationStatus

INVITATION_LIFE = timedelta(days=30)
_LONGEST_MESSAGE = 2000
_BRAND = "brand"
_INVITATIONS = table_of(Invitation)
_EXPIRE = text(
    "UPDATE invitations SET status = 'EXPIRED', answered_at = :now WHERE id IN (SELECT id FROM invitations"
    " WHERE status = 'SENT' AND expires_at <= :now LIMIT 500 FOR UPDATE SKIP LOCKED) RETURNING id"
)


@dataclass(frozen=True, slots=True)
class _Invited:
    id: InvitationId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    sender_id: BrandId
    status: InvitationStatus
    terms: dict[str, Any]
    expires_at: datetime | None
    origin: Origin


async def invite(
    session: AsyncSession,
    actor: Actor,
    *,
    advertiser_id: BrandId,
    promoter_brand_id: BrandId,
    terms: Terms,
    message: str = "",
    origin: Origin = WITHOUT_ORIGIN,
    clock: Clock,
) -> InvitationId:
    """Offer terms to another brand; either side may begin. Open for 30 days.

    Raises ``NotAParty``, ``BrandNotFound``, ``BadTerms``, ``CampaignNotFound``, ``CampaignEnded``.
    """
    invitation_id = await draft_invitation(
        session, actor, advertiser_id=advertiser_id, promoter_brand_id=promoter_brand_id, terms=terms,
        message=message, origin=origin,
    )  # fmt: skip
    await _send(session, invitation_id, clock.now())
    return invitation_id


async def draft_invitation(
    session: AsyncSession,
    actor: Actor,
    *,
    advertiser_id: BrandId,
    promoter_brand_id: BrandId,
    terms: Terms,
    message: str = "",
    origin: Origin = WITHOUT_ORIGIN,
) -> InvitationId:
    """An invitation that is not sent yet: its author edits it, nobody else sees it. Raises as ``invite``."""
    actor.require("promotion:write")
    sender = party(actor, advertiser_id, promoter_brand_id)
    other = promoter_brand_id if sender == advertiser_id else advertiser_id
    named = (await brands.tenant_names(session, [other])).get(other)
    if named is None or named.kind != _BRAND:
        field = "advertiserId" if other == advertiser_id else "promoterBrandId"
        raise BrandNotFound("no such brand", field=field)
    return await _write(
        session, actor, sender, advertiser_id, promoter_brand_id, terms, message, None, origin
    )


async def revise_invitation(
    session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, terms: Terms, message: str = ""
) -> None:
    """Change a draft. Raises ``InvitationNotOpen`` once it was sent, ``BadTerms``."""
    actor.require("promotion:write")
    found = await _drafted(session, actor, invitation_id)
    await _check_content(session, actor, found.origin, found.advertiser_id, terms, message)
    await session.execute(
        update(_INVITATIONS)
        .where(_INVITATIONS.c.id == invitation_id)
        .values(terms=terms.to_json(), message=message)
    )


async def send_invitation(
    session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, clock: Clock
) -> None:
    """Send a draft as it stands. Raises ``InvitationNotOpen`` for one that was, ``CampaignEnded``, ``BadTerms``."""
    actor.require("promotion:write")
    found = await _drafted(session, actor, invitation_id)
    terms = checked_for(actor, Terms.from_json(found.terms))
    await check_origin(session, found.origin, found.advertiser_id, terms)
    await _send(session, invitation_id, clock.now())


async def counter(
    session: AsyncSession,
    actor: Actor,
    invitation_id: InvitationId,
    *,
    terms: Terms,
    message: str = "",
    clock: Clock,
) -> InvitationId:
    """Answer with other terms: the invitation is declined and a new one that supersedes it is sent back."""
    actor.require("promotion:write")
    old = await _open(session, actor, invitation_id, clock.now())
    sender = _answerer(actor, old)
    await _answer(session, invitation_id, InvitationStatus.DECLINED, clock.now())
    sent = await _write(
        session, actor, sender, old.advertiser_id, old.promoter_brand_id, terms, message, invitation_id,
        old.origin,
    )  # fmt: skip
    await _send(session, sent, clock.now())
    return sent


async def decline(session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, clock: Clock) -> None:
    actor.require("promotion:write")
    _answerer(actor, await _open(session, actor, invitation_id, clock.now()))
    await _answer(session, invitation_id, InvitationStatus.DECLINED, clock.now())


async def withdraw(session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, clock: Clock) -> None:
    """Only by its sender. A draft that is withdrawn was never seen."""
    actor.require("promotion:write")
    found = await _found(session, actor, invitation_id)
    if found.status is not InvitationStatus.DRAFT:
        _require_open(found, clock.now())
    if found.sender_id != actor.brand_id:
        raise NotYoursToAnswer("only the sender can withdraw an invitation")
    await _answer(session, invitation_id, InvitationStatus.WITHDRAWN, clock.now())


async def accept(
    session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, clock: Clock
) -> OpenedAgreement:
    """Turn an invitation into an agreement whose first version both brands then sign. Raises ``CampaignEnded``."""
    actor.require("promotion:write")
    now = clock.now()
    found = await _open(session, actor, invitation_id, now)
    acceptor = _answerer(actor, found)
    terms = Terms.from_json(found.terms)
    await check_origin(session, found.origin, found.advertiser_id, terms)
    await _answer(session, invitation_id, InvitationStatus.ACCEPTED, now)
    return await lifecycle.open_agreement(
        session,
        invitation_id,
        advertiser_id=found.advertiser_id,
        promoter_brand_id=found.promoter_brand_id,
        terms=terms,
        origin=found.origin,
        acceptor=acceptor,
        now=now,
    )


async def expire_invitations(db: Database, *, clock: Clock) -> int:
    """Sweep: close invitations nobody answered in time. Returns how many."""
    async with db.unit_of_work(SYSTEM) as session:
        return len((await session.execute(_EXPIRE, {"now": clock.now()})).all())


def _answerer(actor: Actor, invited: _Invited) -> BrandId:
    answering = party(actor, invited.advertiser_id, invited.promoter_brand_id)
    if answering == invited.sender_id:
        raise NotYoursToAnswer("the other brand answers this invitation")
    return answering


async def _check_content(
    session: AsyncSession, actor: Actor, origin: Origin, advertiser_id: BrandId, terms: Terms, message: str
) -> None:
    checked_for(actor, terms)
    if len(message) > _LONGEST_MESSAGE:
        raise BadTerms(f"at most {_LONGEST_MESSAGE} characters", field="message")
    await check_origin(session, origin, advertiser_id, terms)


async def _write(
    session: AsyncSession,
    actor: Actor,
    sender: BrandId,
    advertiser_id: BrandId,
    promoter_brand_id: BrandId,
    terms: Terms,
    message: str,
    supersedes: InvitationId | None,
    origin: Origin,
) -> InvitationId:
    await _check_content(session, actor, origin, advertiser_id, terms, message)
    invitation_id = InvitationId.new()
    row = {
        "id": invitation_id, "advertiser_id": advertiser_id, "promoter_brand_id": promoter_brand_id,
        "sender_id": sender, "supersedes": supersedes, "status": InvitationStatus.DRAFT,
        "terms": terms.to_json(), "message": message, **origin.to_row(),
    }  # fmt: skip
    await session.execute(insert(_INVITATIONS), [row])
    return invitation_id


async def _send(session: AsyncSession, invitation_id: InvitationId, now: datetime) -> None:
    await session.execute(
        update(_INVITATIONS)
        .where(_INVITATIONS.c.id == invitation_id)
        .values(status=InvitationStatus.SENT, sent_at=now, expires_at=now + INVITATION_LIFE)
    )


async def _found(session: AsyncSession, actor: Actor, invitation_id: InvitationId) -> _Invited:
    """Locked. Another brand's draft is not there."""
    c = _INVITATIONS.c
    mine = actor.brand_id
    visible = (c.sender_id == mine) | (
        c.sent_at.is_not(None) & ((c.advertiser_id == mine) | (c.promoter_brand_id == mine))
    )
    wanted = select(
        c.id, c.advertiser_id, c.promoter_brand_id, c.sender_id, c.status, c.terms, c.expires_at,
        c.campaign_id, c.offer_id, c.offer_version,
    ).where(c.id == invitation_id, visible)  # fmt: skip
    row = (await session.execute(wanted.with_for_update())).first()
    if row is None:
        raise InvitationNotFound("no such invitation", field="invitationId")
    return _Invited(*row[:4], InvitationStatus(row.status), row.terms, row.expires_at, Origin(*row[7:10]))


async def _open(session: AsyncSession, actor: Actor, invitation_id: InvitationId, now: datetime) -> _Invited:
    found = await _found(session, actor, invitation_id)
    _require_open(found, now)
    return found


def _require_open(found: _Invited, now: datetime) -> None:
    if found.status is not InvitationStatus.SENT:
        raise InvitationNotOpen(found.id, found.status)
    if found.expires_at is None or found.expires_at <= now:
        raise InvitationNotOpen(found.id, InvitationStatus.EXPIRED)


async def _drafted(session: AsyncSession, actor: Actor, invitation_id: InvitationId) -> _Invited:
    found = await _found(session, actor, invitation_id)
    if found.status is not InvitationStatus.DRAFT:
        raise InvitationNotOpen(invitation_id, found.status)
    return found


async def _answer(
    session: AsyncSession, invitation_id: InvitationId, status: InvitationStatus, now: datetime
) -> None:
    await session.execute(
        update(_INVITATIONS).where(_INVITATIONS.c.id == invitation_id).values(status=status, answered_at=now)
    )
