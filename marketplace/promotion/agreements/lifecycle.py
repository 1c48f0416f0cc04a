"""From an invitation to a signed agreement, its versions and its states.

Invitation ``SENT → ACCEPTED | DECLINED | EXPIRED | WITHDRAWN``; a counter-offer declines the one it answers.
Agreement ``PENDING_SIGNATURE → ACTIVE ⇄ PAUSED → ENDED``, ``ACTIVE → TERMINATED``. A version is signed by
both brands over its content hash and takes effect at least seven days after it was proposed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind, WrongTenant
from core.clock import Clock
from core.ids import AgreementId, BrandId, InvitationId
from infra import outbox
from infra.db.base import table_of
from infra.db.session import Database
from marketplace.brands import queries as brands
from marketplace.brands.errors import BrandNotFound
from marketplace.promotion.agreements.terms import PLATFORM_FEE_PPM, Terms, checked, version_hash
from marketplace.promotion.errors import (
    AgreementInAnotherState,
    AgreementNotFound,
    AlreadySigned,
    BadTerms,
    ContentHashMismatch,
    InvitationNotFound,
    InvitationNotOpen,
    NotAParty,
    NothingToSign,
    NoticeTooShort,
    NotYoursToAnswer,
    PausedByTheOther,
)
from marketplace.promotion.events import AgreementChanged
from marketplace.promotion.models import (
    Agreement,
    AgreementSignature,
    AgreementStatus,
    AgreementStatusChange,
    AgreementVersion,
    Invitation,
    InvitationStatus,
)

INVITATION_LIFE = timedelta(days=30)
NOTICE = timedelta(days=7)
_LONGEST_MESSAGE = 2000
_LONGEST_REASON = 500
_PLATFORM = "platform"
_BRAND = "brand"

_INVITATIONS, _AGREEMENTS = table_of(Invitation), table_of(Agreement)
_VERSIONS, _SIGNATURES = table_of(AgreementVersion), table_of(AgreementSignature)
_STATUS_LOG = table_of(AgreementStatusChange)
_NEXT = {
    AgreementStatus.PENDING_SIGNATURE: {AgreementStatus.ACTIVE, AgreementStatus.ENDED},
    AgreementStatus.ACTIVE: {AgreementStatus.PAUSED, AgreementStatus.ENDED, AgreementStatus.TERMINATED},
    AgreementStatus.PAUSED: {AgreementStatus.ACTIVE, AgreementStatus.ENDED},
}
_OPEN_VERSION = text(
    "SELECT v.version, v.effective_at, v.terms, v.content_hash,"
    " ARRAY(SELECT s.brand_id FROM agreement_signatures s"
    "  WHERE s.agreement_id = v.agreement_id AND s.version = v.version) AS signers"
    " FROM agreement_versions v WHERE v.agreement_id = :agreement AND v.in_force_from IS NULL"
    " AND v.withdrawn_at IS NULL ORDER BY v.version DESC LIMIT 1"
)
_EXPIRE = text(
    "UPDATE invitations SET status = 'EXPIRED', answered_at = :now WHERE id IN (SELECT id FROM invitations"
    " WHERE status = 'SENT' AND expires_at <= :now LIMIT 500 FOR UPDATE SKIP LOCKED) RETURNING id"
)


@dataclass(frozen=True, slots=True)
class OpenedAgreement:
    """An agreement waiting for both signatures over ``content_hash``."""

    agreement_id: AgreementId
    version: int
    content_hash: str


@dataclass(frozen=True, slots=True)
class Signed:
    agreement_id: AgreementId
    version: int
    status: AgreementStatus
    in_force_from: datetime | None
    """``None`` while the other brand has not signed."""


@dataclass(frozen=True, slots=True)
class _Invited:
    id: InvitationId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    sender_id: BrandId
    status: InvitationStatus
    terms: dict[str, Any]
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Agreed:
    id: AgreementId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    status: AgreementStatus
    current_version: int


async def invite(
    session: AsyncSession,
    actor: Actor,
    *,
    advertiser_id: BrandId,
    promoter_brand_id: BrandId,
    terms: Terms,
    message: str = "",
    clock: Clock,
) -> InvitationId:
    """Offer terms to another brand; either side may begin. Open for 30 days.

    Raises ``NotAParty``, ``BrandNotFound``, ``BadTerms``.
    """
    actor.require("promotion:write")
    sender = _party(actor, advertiser_id, promoter_brand_id)
    other = promoter_brand_id if sender == advertiser_id else advertiser_id
    named = (await brands.tenant_names(session, [other])).get(other)
    if named is None or named.kind != _BRAND:
        raise BrandNotFound(
            "no such brand", field="advertiserId" if other == advertiser_id else "promoterBrandId"
        )
    return await _send(session, actor, sender, advertiser_id, promoter_brand_id, terms, message, None, clock)


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
    old = await _open_invitation(session, actor, invitation_id, clock.now())
    sender = _answerer(actor, old)
    await _answer(session, invitation_id, InvitationStatus.DECLINED, clock.now())
    return await _send(
        session, actor, sender, old.advertiser_id, old.promoter_brand_id, terms, message, invitation_id, clock
    )


async def decline(session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, clock: Clock) -> None:
    actor.require("promotion:write")
    _answerer(actor, await _open_invitation(session, actor, invitation_id, clock.now()))
    await _answer(session, invitation_id, InvitationStatus.DECLINED, clock.now())


async def withdraw(session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, clock: Clock) -> None:
    """Only by its sender."""
    actor.require("promotion:write")
    found = await _open_invitation(session, actor, invitation_id, clock.now())
    if found.sender_id != actor.brand_id:
        raise NotYoursToAnswer("only the sender can withdraw an invitation")
    await _answer(session, invitation_id, InvitationStatus.WITHDRAWN, clock.now())


async def accept(
    session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, clock: Clock
) -> OpenedAgreement:
    """Turn an invitation into an agreement whose first version both brands then sign."""
    actor.require("promotion:write")
    now = clock.now()
    found = await _open_invitation(session, actor, invitation_id, now)
    acceptor = _answerer(actor, found)
    await _answer(session, invitation_id, InvitationStatus.ACCEPTED, now)
    agreement = _Agreed(
        AgreementId.new(),
        found.advertiser_id,
        found.promoter_brand_id,
        AgreementStatus.PENDING_SIGNATURE,
        0,
    )
    row = {
        "id": agreement.id, "invitation_id": invitation_id, "advertiser_id": agreement.advertiser_id,
        "promoter_brand_id": agreement.promoter_brand_id, "status": agreement.status, "current_version": 0,
        "created_at": now,
    }  # fmt: skip
    await session.execute(insert(_AGREEMENTS), [row])
    await _log_status(session, agreement.id, agreement.status, "accepted", str(acceptor), now)
    digest = await _propose(session, agreement, 1, Terms.from_json(found.terms), acceptor, now, now)
    return OpenedAgreement(agreement.id, 1, digest)


async def sign_agreement(
    session: AsyncSession, actor: Actor, agreement_id: AgreementId, *, content_hash: str, clock: Clock
) -> Signed:
    """Sign the version that waits. The second signature puts it in force.

    ``content_hash`` is what the signer read. Raises ``ContentHashMismatch`` when it is not the hash of what
    is stored, ``AlreadySigned``, ``NothingToSign``.
    """
    actor.require("promotion:write")
    now = clock.now()
    agreement = await _locked(session, actor, agreement_id)
    signer = _party(actor, agreement.advertiser_id, agreement.promoter_brand_id)
    waiting = (await session.execute(_OPEN_VERSION, {"agreement": agreement_id})).first()
    if waiting is None or agreement.status in (AgreementStatus.ENDED, AgreementStatus.TERMINATED):
        raise NothingToSign("no version of this agreement waits for a signature")
    # Hashed again from what is stored: neither a stale reader nor an edited row can be signed.
    digest = version_hash(
        agreement_id,
        waiting.version,
        advertiser_id=agreement.advertiser_id,
        promoter_brand_id=agreement.promoter_brand_id,
        effective_at=waiting.effective_at,
        terms=Terms.from_json(waiting.terms),
    )
    if digest != waiting.content_hash or content_hash != digest:
        raise ContentHashMismatch(digest)
    if signer in waiting.signers:
        raise AlreadySigned("your brand has signed this version")
    signature = {
        "agreement_id": agreement_id, "version": waiting.version, "brand_id": signer,
        "content_hash": digest, "signed_by": str(actor), "signed_at": now,
    }  # fmt: skip
    await session.execute(insert(_SIGNATURES), [signature])
    if not waiting.signers:
        return Signed(agreement_id, waiting.version, agreement.status, None)
    in_force_from = max(waiting.effective_at, now)
    await _put_in_force(session, agreement, waiting.version, in_force_from, str(signer), now)
    return Signed(agreement_id, waiting.version, _status_after_signing(agreement), in_force_from)


async def propose_version(
    session: AsyncSession,
    actor: Actor,
    agreement_id: AgreementId,
    *,
    terms: Terms,
    effective_at: datetime | None = None,
    clock: Clock,
) -> OpenedAgreement:
    """New terms as version n+1, effective at least seven days from now. Withdraws a proposal still open.

    Raises ``NoticeTooShort``, ``BadTerms``, ``AgreementInAnotherState``.
    """
    actor.require("promotion:write")
    now = clock.now()
    agreement = await _locked(session, actor, agreement_id)
    proposer = _party(actor, agreement.advertiser_id, agreement.promoter_brand_id)
    if agreement.status not in (AgreementStatus.ACTIVE, AgreementStatus.PAUSED):
        raise AgreementInAnotherState(agreement_id, agreement.status, "changed")
    effective_at = effective_at or now + NOTICE
    if effective_at < now + NOTICE:
        raise NoticeTooShort(now + NOTICE)
    _checked_for(actor, terms)
    columns = _VERSIONS.c
    await session.execute(
        update(_VERSIONS)
        .where(columns.agreement_id == agreement_id, columns.in_force_from.is_(None))
        .where(columns.withdrawn_at.is_(None))
        .values(withdrawn_at=now)
    )
    last = await session.scalar(
        select(columns.version)
        .where(columns.agreement_id == agreement_id)
        .order_by(columns.version.desc())
        .limit(1)
    )
    version = (last or 0) + 1
    digest = await _propose(session, agreement, version, terms, proposer, effective_at, now)
    return OpenedAgreement(agreement_id, version, digest)


async def pause(
    session: AsyncSession, actor: Actor, agreement_id: AgreementId, *, reason: str, clock: Clock
) -> None:
    """Clicks from now on earn nothing until it resumes; earlier ones keep what they earn."""
    await _change_status(session, actor, agreement_id, AgreementStatus.PAUSED, reason, clock)


async def resume(session: AsyncSession, actor: Actor, agreement_id: AgreementId, *, clock: Clock) -> None:
    """Only by the brand that paused it, or the platform. Raises ``PausedByTheOther``."""
    await _change_status(session, actor, agreement_id, AgreementStatus.ACTIVE, "resumed", clock)


async def end(
    session: AsyncSession, actor: Actor, agreement_id: AgreementId, *, reason: str, clock: Clock
) -> None:
    await _change_status(session, actor, agreement_id, AgreementStatus.ENDED, reason, clock)


async def terminate(
    session: AsyncSession, actor: Actor, agreement_id: AgreementId, *, cause: str, clock: Clock
) -> None:
    """For a breach; ``cause`` is shown to both and to the platform. Raises ``BadTerms`` without one."""
    if not cause.strip():
        raise BadTerms("a termination names its cause", field="cause")
    await _change_status(session, actor, agreement_id, AgreementStatus.TERMINATED, cause, clock)


async def expire_invitations(db: Database, *, clock: Clock) -> int:
    """Sweep: close invitations nobody answered in time. Returns how many."""
    async with db.unit_of_work(SYSTEM) as session:
        return len((await session.execute(_EXPIRE, {"now": clock.now()})).all())


def _party(actor: Actor, advertiser_id: BrandId, promoter_brand_id: BrandId) -> BrandId:
    if actor.kind is not ActorKind.BRAND:
        raise WrongTenant("only a brand can do this")
    if advertiser_id == promoter_brand_id or actor.brand_id not in (advertiser_id, promoter_brand_id):
        raise NotAParty("your brand is one of two different brands here")
    return actor.brand_id


def _answerer(actor: Actor, invited: _Invited) -> BrandId:
    party = _party(actor, invited.advertiser_id, invited.promoter_brand_id)
    if party == invited.sender_id:
        raise NotYoursToAnswer("the other brand answers this invitation")
    return party


def _checked_for(actor: Actor, terms: Terms) -> Terms:
    return checked(terms, lowest_fee_ppm=0 if actor.sees_everything else PLATFORM_FEE_PPM)


async def _send(
    session: AsyncSession,
    actor: Actor,
    sender: BrandId,
    advertiser_id: BrandId,
    promoter_brand_id: BrandId,
    terms: Terms,
    message: str,
    supersedes: InvitationId | None,
    clock: Clock,
) -> InvitationId:
    _checked_for(actor, terms)
    if len(message) > _LONGEST_MESSAGE:
        raise BadTerms(f"at most {_LONGEST_MESSAGE} characters", field="message")
    now, invitation_id = clock.now(), InvitationId.new()
    row = {
        "id": invitation_id, "advertiser_id": advertiser_id, "promoter_brand_id": promoter_brand_id,
        "sender_id": sender, "supersedes": supersedes, "status": InvitationStatus.SENT,
        "terms": terms.to_json(), "message": message, "sent_at": now, "expires_at": now + INVITATION_LIFE,
    }  # fmt: skip
    await session.execute(insert(_INVITATIONS), [row])
    return invitation_id


async def _open_invitation(
    session: AsyncSession, actor: Actor, invitation_id: InvitationId, now: datetime
) -> _Invited:
    c = _INVITATIONS.c
    wanted = select(
        c.id, c.advertiser_id, c.promoter_brand_id, c.sender_id, c.status, c.terms, c.expires_at
    ).where(
        c.id == invitation_id, (c.advertiser_id == actor.brand_id) | (c.promoter_brand_id == actor.brand_id)
    )
    row = (await session.execute(wanted.with_for_update())).first()
    if row is None:
        raise InvitationNotFound("no such invitation", field="invitationId")
    found = _Invited(*row)
    if found.status != InvitationStatus.SENT:
        raise InvitationNotOpen(invitation_id, found.status)
    if found.expires_at <= now:
        raise InvitationNotOpen(invitation_id, InvitationStatus.EXPIRED)
    return found


async def _answer(
    session: AsyncSession, invitation_id: InvitationId, status: InvitationStatus, now: datetime
) -> None:
    await session.execute(
        update(_INVITATIONS).where(_INVITATIONS.c.id == invitation_id).values(status=status, answered_at=now)
    )


async def _locked(session: AsyncSession, actor: Actor, agreement_id: AgreementId) -> _Agreed:
    c = _AGREEMENTS.c
    wanted = select(c.id, c.advertiser_id, c.promoter_brand_id, c.status, c.current_version).where(
        c.id == agreement_id
    )
    if not actor.sees_everything:
        wanted = wanted.where((c.advertiser_id == actor.brand_id) | (c.promoter_brand_id == actor.brand_id))
    row = (await session.execute(wanted.with_for_update())).first()
    if row is None:
        raise AgreementNotFound("no such agreement", field="agreementId")
    return _Agreed(row[0], row[1], row[2], AgreementStatus(row[3]), row[4])


async def _propose(
    session: AsyncSession,
    agreement: _Agreed,
    version: int,
    terms: Terms,
    proposer: BrandId,
    effective_at: datetime,
    now: datetime,
) -> str:
    digest = version_hash(
        agreement.id,
        version,
        advertiser_id=agreement.advertiser_id,
        promoter_brand_id=agreement.promoter_brand_id,
        effective_at=effective_at,
        terms=terms,
    )
    row = {
        "agreement_id": agreement.id, "version": version, "effective_at": effective_at,
        "terms": terms.to_json(), "content_hash": digest, "proposed_by": proposer, "proposed_at": now,
    }  # fmt: skip
    await session.execute(insert(_VERSIONS), [row])
    return digest


def _status_after_signing(agreement: _Agreed) -> AgreementStatus:
    first = agreement.status is AgreementStatus.PENDING_SIGNATURE
    return AgreementStatus.ACTIVE if first else agreement.status


async def _put_in_force(
    session: AsyncSession,
    agreement: _Agreed,
    version: int,
    in_force_from: datetime,
    signer: str,
    now: datetime,
) -> None:
    status = _status_after_signing(agreement)
    await session.execute(
        update(_VERSIONS)
        .where(_VERSIONS.c.agreement_id == agreement.id, _VERSIONS.c.version == version)
        .values(in_force_from=in_force_from)
    )
    await session.execute(
        update(_AGREEMENTS)
        .where(_AGREEMENTS.c.id == agreement.id)
        .values(status=status, current_version=version)
    )
    if status is not agreement.status:
        await _log_status(session, agreement.id, status, "both brands signed", signer, now)
    await _tell(session, agreement, status, version, now)


async def _change_status(
    session: AsyncSession,
    actor: Actor,
    agreement_id: AgreementId,
    to: AgreementStatus,
    reason: str,
    clock: Clock,
) -> None:
    actor.require("promotion:write")
    if len(reason) > _LONGEST_REASON:
        raise BadTerms(f"at most {_LONGEST_REASON} characters", field="reason")
    agreement, now = await _locked(session, actor, agreement_id), clock.now()
    by = _PLATFORM if actor.sees_everything else str(actor.brand_id)
    if to not in _NEXT.get(agreement.status, set()):
        raise AgreementInAnotherState(agreement_id, agreement.status, to)
    if to is AgreementStatus.ACTIVE:
        if agreement.status is not AgreementStatus.PAUSED:
            raise AgreementInAnotherState(agreement_id, agreement.status, to)
        await _require_same_hand(session, agreement_id, by)
    await session.execute(update(_AGREEMENTS).where(_AGREEMENTS.c.id == agreement_id).values(status=to))
    await _log_status(session, agreement_id, to, reason, by, now)
    await _tell(session, agreement, to, agreement.current_version, now)


async def _require_same_hand(session: AsyncSession, agreement_id: AgreementId, by: str) -> None:
    c = _STATUS_LOG.c
    paused_by = await session.scalar(
        select(c.changed_by).where(c.agreement_id == agreement_id).order_by(c.position.desc()).limit(1)
    )
    if by not in (paused_by, _PLATFORM):
        raise PausedByTheOther("the brand that paused this agreement resumes it")


async def _log_status(
    session: AsyncSession,
    agreement_id: AgreementId,
    status: AgreementStatus,
    reason: str,
    by: str,
    now: datetime,
) -> None:
    c = _STATUS_LOG.c
    last = await session.scalar(
        select(c.position).where(c.agreement_id == agreement_id).order_by(c.position.desc()).limit(1)
    )
    row = {
        "agreement_id": agreement_id, "position": (last or 0) + 1, "status": status, "reason": reason,
        "changed_by": by, "changed_at": now,
    }  # fmt: skip
    await session.execute(insert(_STATUS_LOG), [row])


async def _tell(
    session: AsyncSession, agreement: _Agreed, status: AgreementStatus, version: int, now: datetime
) -> None:
    changed = AgreementChanged(
        agreement.id, agreement.advertiser_id, agreement.promoter_brand_id, status.value, version, now
    )
    await outbox.record(session, changed)
