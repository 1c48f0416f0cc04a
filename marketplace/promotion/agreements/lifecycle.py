"""A signed agreement, its versions and its states.

``PENDING_SIGNATURE → ACTIVE ⇄ PAUSED → ENDED``, ``ACTIVE → TERMINATED``. A version is signed by both brands over its
content hash and takes effect no earlier than the notice that the terms in force give, at least seven days after it
was proposed. An end gives the same notice; only a breach ends at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import AgreementId, BrandId, InvitationId
from infra import outbox
from infra.db.base import table_of
from infra.db.session import Database
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.agreements.origin_checks import check_origin, version_offered
from marketplace.promotion.agreements.parties import checked_for, party
from marketplace.promotion.agreements.terms import Terms, version_hash
from marketplace.promotion.errors import (
    AgreementInAnotherState,
    AgreementNotFound,
    AlreadySigned,
    BadTerms,
    ContentHashMismatch,
    NothingToSign,
    NoticeTooShort,
    PausedByTheOther,
)
from marketplace.promotion.events import AgreementChanged, AgreementEndAnnounced
from marketplace.promotion.models import (
    Agreement,
    AgreementSignature,
    AgreementStatus,
    AgreementStatusChange,
    AgreementVersion,
)

_LONGEST_REASON = 500
_PLATFORM = "platform"

_AGREEMENTS = table_of(Agreement)
_VERSIONS, _SIGNATURES = table_of(AgreementVersion), table_of(AgreementSignature)
_STATUS_LOG = table_of(AgreementStatusChange)
_NEXT = {
    AgreementStatus.PENDING_SIGNATURE: {AgreementStatus.ACTIVE, AgreementStatus.ENDED},
    AgreementStatus.ACTIVE: {AgreementStatus.PAUSED, AgreementStatus.ENDED, AgreementStatus.TERMINATED},
    AgreementStatus.PAUSED: {AgreementStatus.ACTIVE, AgreementStatus.ENDED},
}
_OPEN_VERSION = text(
    "SELECT v.version, v.effective_at, v.terms, v.content_hash, v.offer_version,"
    " ARRAY(SELECT s.brand_id FROM agreement_signatures s"
    "  WHERE s.agreement_id = v.agreement_id AND s.version = v.version) AS signers"
    " FROM agreement_versions v WHERE v.agreement_id = :agreement AND v.in_force_from IS NULL"
    " AND v.withdrawn_at IS NULL ORDER BY v.version DESC LIMIT 1"
)
_TERMS_IN_FORCE = text(
    "SELECT terms FROM agreement_versions WHERE agreement_id = :agreement AND in_force_from <= :at"
    " ORDER BY version DESC LIMIT 1"
)
# The log says when it took effect, not when the sweep came by: a touch is judged by the log.
_END_DUE = text(
    "WITH due AS (UPDATE agreements SET status = 'ENDED' WHERE id IN (SELECT id FROM agreements"
    "  WHERE ends_at <= :now AND status NOT IN ('ENDED', 'TERMINATED') ORDER BY ends_at LIMIT 500"
    "  FOR UPDATE SKIP LOCKED) RETURNING *),"
    " logged AS (INSERT INTO agreement_status_log (agreement_id, position, status, reason, changed_by, changed_at)"
    "  SELECT due.id, (SELECT coalesce(max(s.position), 0) + 1 FROM agreement_status_log s"
    "   WHERE s.agreement_id = due.id), 'ENDED', coalesce(due.end_reason, ''), :by, due.ends_at FROM due)"
    " SELECT id, advertiser_id, promoter_brand_id, current_version, ends_at FROM due ORDER BY ends_at, id"
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
class _Agreed:
    id: AgreementId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    status: AgreementStatus
    current_version: int
    origin: Origin
    ends_at: datetime | None = None
    ended_by: BrandId | None = None


async def open_agreement(
    session: AsyncSession,
    invitation_id: InvitationId,
    *,
    advertiser_id: BrandId,
    promoter_brand_id: BrandId,
    terms: Terms,
    origin: Origin,
    acceptor: BrandId,
    now: datetime,
) -> OpenedAgreement:
    """The agreement of an accepted invitation, its first version waiting for both signatures."""
    agreement = _Agreed(
        AgreementId.new(), advertiser_id, promoter_brand_id, AgreementStatus.PENDING_SIGNATURE, 0, origin
    )
    row = {
        "id": agreement.id, "invitation_id": invitation_id, "advertiser_id": advertiser_id,
        "promoter_brand_id": promoter_brand_id, "status": agreement.status, "current_version": 0,
        "created_at": now, **origin.to_row(),
    }  # fmt: skip
    await session.execute(insert(_AGREEMENTS), [row])
    await _log_status(session, agreement.id, agreement.status, "accepted", str(acceptor), now)
    offered = await version_offered(session, origin, terms)
    digest = await _propose(session, agreement, 1, terms, offered, acceptor, now, now)
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
    agreement = await _locked(session, actor, agreement_id, now)
    signer = party(actor, agreement.advertiser_id, agreement.promoter_brand_id)
    waiting = (await session.execute(_OPEN_VERSION, {"agreement": agreement_id})).first()
    if waiting is None or agreement.status in (AgreementStatus.ENDED, AgreementStatus.TERMINATED):
        raise NothingToSign("no version of this agreement waits for a signature")
    terms = Terms.from_json(waiting.terms)
    await check_origin(session, agreement.origin, agreement.advertiser_id, terms)
    # Hashed again from what is stored: neither a stale reader nor an edited row can be signed.
    digest = version_hash(
        agreement_id,
        waiting.version,
        advertiser_id=agreement.advertiser_id,
        promoter_brand_id=agreement.promoter_brand_id,
        effective_at=waiting.effective_at,
        terms=terms,
        origin=replace(agreement.origin, offer_version=waiting.offer_version),
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
    offer_version: int | None = None,
    clock: Clock,
) -> OpenedAgreement:
    """New terms as version n+1, effective after the notice of the terms in force. Withdraws a proposal still open.

    ``offer_version`` names the version of the agreement's offer whose terms they are.
    Raises ``NoticeTooShort``, ``BadTerms``, ``AgreementInAnotherState``, ``CampaignEnded``.
    """
    actor.require("promotion:write")
    now = clock.now()
    agreement = await _locked(session, actor, agreement_id, now)
    proposer = party(actor, agreement.advertiser_id, agreement.promoter_brand_id)
    if agreement.status not in (AgreementStatus.ACTIVE, AgreementStatus.PAUSED):
        raise AgreementInAnotherState(agreement_id, agreement.status, "changed")
    earliest = now + await _notice(session, agreement_id, now)
    effective_at = effective_at or earliest
    if effective_at < earliest:
        raise NoticeTooShort(earliest)
    checked_for(actor, terms)
    await check_origin(session, agreement.origin, agreement.advertiser_id, terms)
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
    digest = await _propose(session, agreement, version, terms, offer_version, proposer, effective_at, now)
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
) -> datetime:
    """Give notice: from the moment returned on, no touch qualifies. Saying it again changes nothing.

    At once when nobody has signed yet, and when the other brand, whom the notice protects, ends it too.
    Raises ``AgreementInAnotherState``.
    """
    actor.require("promotion:write")
    _check_reason(reason)
    now = clock.now()
    agreement = await _locked(session, actor, agreement_id, now)
    _require_next(agreement, AgreementStatus.ENDED)
    by = None if actor.sees_everything else actor.brand_id
    waived = by is not None and agreement.ended_by is not None and by != agreement.ended_by
    if agreement.status is AgreementStatus.PENDING_SIGNATURE or waived:
        ends_at = now
    elif agreement.ends_at is not None:
        return agreement.ends_at
    else:
        ends_at = now + await _notice(session, agreement_id, now)
    await session.execute(
        update(_AGREEMENTS)
        .where(_AGREEMENTS.c.id == agreement_id)
        .values(ends_at=ends_at, ended_by=by, end_reason=reason)
    )
    if ends_at == now:
        await _change(session, agreement, AgreementStatus.ENDED, reason, by, now)
        return now
    announced = AgreementEndAnnounced(
        agreement_id, agreement.advertiser_id, agreement.promoter_brand_id, by, reason, ends_at, now
    )
    await outbox.record(session, announced)
    return ends_at


async def terminate(
    session: AsyncSession, actor: Actor, agreement_id: AgreementId, *, cause: str, clock: Clock
) -> None:
    """For a breach; ``cause`` is shown to both and to the platform. Raises ``BadTerms`` without one."""
    if not cause.strip():
        raise BadTerms("a termination names its cause", field="cause")
    await _change_status(session, actor, agreement_id, AgreementStatus.TERMINATED, cause, clock)
    by = None if actor.sees_everything else actor.brand_id
    told = update(_AGREEMENTS).where(_AGREEMENTS.c.id == agreement_id).values(ended_by=by, end_reason=cause)
    await session.execute(told)


async def end_due(db: Database, *, clock: Clock) -> int:
    """Sweep: agreements whose notice is over, or whose campaign ended, are ended as of then. Returns how many."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        ended = [
            AgreementChanged(
                AgreementId.of(row.id), BrandId.of(row.advertiser_id), BrandId.of(row.promoter_brand_id),
                AgreementStatus.ENDED.value, row.current_version, row.ends_at,
            )
            for row in await session.execute(_END_DUE, {"now": now, "by": _PLATFORM})
        ]  # fmt: skip
        await outbox.record(session, *ended)
    return len(ended)


async def _notice(session: AsyncSession, agreement_id: AgreementId, now: datetime) -> timedelta:
    """Of the terms in force now. An active agreement has some."""
    found = await session.scalar(_TERMS_IN_FORCE, {"agreement": agreement_id, "at": now})
    return Terms.from_json(found).notice


async def _locked(session: AsyncSession, actor: Actor, agreement_id: AgreementId, now: datetime) -> _Agreed:
    """As it is now, whether or not the sweep has come by since its end."""
    c = _AGREEMENTS.c
    wanted = select(
        c.id, c.advertiser_id, c.promoter_brand_id, c.status, c.current_version, c.campaign_id, c.offer_id,
        c.offer_version, c.ends_at, c.ended_by,
    ).where(c.id == agreement_id)  # fmt: skip
    if not actor.sees_everything:
        wanted = wanted.where((c.advertiser_id == actor.brand_id) | (c.promoter_brand_id == actor.brand_id))
    row = (await session.execute(wanted.with_for_update())).first()
    if row is None:
        raise AgreementNotFound("no such agreement", field="agreementId")
    status = AgreementStatus(row.status)
    if row.ends_at is not None and row.ends_at <= now and status in _NEXT:
        status = AgreementStatus.ENDED
    return _Agreed(*row[:3], status, row.current_version, Origin(*row[5:8]), row.ends_at, row.ended_by)


async def _propose(
    session: AsyncSession,
    agreement: _Agreed,
    version: int,
    terms: Terms,
    offer_version: int | None,
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
        origin=replace(agreement.origin, offer_version=offer_version),
    )
    row = {
        "agreement_id": agreement.id, "version": version, "effective_at": effective_at,
        "terms": terms.to_json(), "content_hash": digest, "proposed_by": proposer, "proposed_at": now,
        "offer_version": offer_version,
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
    _check_reason(reason)
    now = clock.now()
    agreement = await _locked(session, actor, agreement_id, now)
    by = None if actor.sees_everything else actor.brand_id
    _require_next(agreement, to)
    if to is AgreementStatus.ACTIVE:
        if agreement.status is not AgreementStatus.PAUSED:
            raise AgreementInAnotherState(agreement_id, agreement.status, to)
        await _require_same_hand(session, agreement_id, _hand(by))
    await _change(session, agreement, to, reason, by, now)


def _check_reason(reason: str) -> None:
    if len(reason) > _LONGEST_REASON:
        raise BadTerms(f"at most {_LONGEST_REASON} characters", field="reason")


def _require_next(agreement: _Agreed, to: AgreementStatus) -> None:
    if to not in _NEXT.get(agreement.status, set()):
        raise AgreementInAnotherState(agreement.id, agreement.status, to)


def _hand(by: BrandId | None) -> str:
    return _PLATFORM if by is None else str(by)


async def _change(
    session: AsyncSession,
    agreement: _Agreed,
    to: AgreementStatus,
    reason: str,
    by: BrandId | None,
    now: datetime,
) -> None:
    await session.execute(update(_AGREEMENTS).where(_AGREEMENTS.c.id == agreement.id).values(status=to))
    await _log_status(session, agreement.id, to, reason, _hand(by), now)
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
