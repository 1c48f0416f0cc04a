"""Reads of CPS. Two brands see an agreement and what hangs on it; nobody else does."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import (
    AgreementId,
    BrandId,
    CommunityId,
    InvitationId,
    LinkId,
    OrderId,
    OrderLineId,
    PlacementId,
    ProductId,
    PromoterId,
    ProposalId,
)
from core.pagination import Page, PageRequest, page_of
from infra.db.base import table_of
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.agreements.terms import Scope, Terms
from marketplace.promotion.attribution.crediting import Amounts
from marketplace.promotion.errors import AgreementNotFound, InvitationNotFound, LinkNotFound
from marketplace.promotion.facts import read_inputs
from marketplace.promotion.link_target import LinkTarget
from marketplace.promotion.models import (
    Agreement,
    AgreementStatus,
    Invitation,
    InvitationStatus,
    LinkStatus,
    Promoter,
    PromoterKind,
    TrackedLink,
)

_I, _A, _L, _P = (table_of(model).c for model in (Invitation, Agreement, TrackedLink, Promoter))
_IN_FORCE = text(
    "SELECT DISTINCT ON (v.agreement_id) v.agreement_id, v.version, v.terms, v.in_force_from"
    " FROM agreement_versions v WHERE v.agreement_id = ANY(:agreements) AND v.in_force_from <= :at"
    " ORDER BY v.agreement_id, v.version DESC"
)
_VERSIONS = text(
    "SELECT v.agreement_id, v.version, v.effective_at, v.terms, v.content_hash, v.proposed_by, v.proposed_at,"
    " v.in_force_from, v.withdrawn_at, v.offer_version,"
    " coalesce((SELECT jsonb_agg(jsonb_build_array(s.brand_id, s.signed_at)"
    " ORDER BY s.signed_at) FROM agreement_signatures s WHERE s.agreement_id = v.agreement_id"
    " AND s.version = v.version), '[]') AS signatures FROM agreement_versions v"
    " WHERE v.agreement_id = ANY(:agreements) ORDER BY v.agreement_id, v.version"
)
# One statement: what a storefront of a brand may sell besides its own products.
_SELLABLE = text(
    "SELECT a.advertiser_id, a.promoter_brand_id, a.id, v.version, v.terms FROM agreements a"
    " JOIN LATERAL (SELECT version, terms FROM agreement_versions v WHERE v.agreement_id = a.id"
    " AND v.in_force_from <= :at ORDER BY version DESC LIMIT 1) v ON true"
    " WHERE a.status = 'ACTIVE' AND (a.ends_at IS NULL OR a.ends_at > :at) AND (a.campaign_id IS NULL OR EXISTS"
    "  (SELECT FROM campaigns c WHERE c.id = a.campaign_id AND c.status = 'ACTIVE' AND c.starts_at <= :at"
    "   AND (c.ends_at IS NULL OR c.ends_at > :at)))"
    " AND (a.promoter_brand_id = ANY(:promoters) OR :any_promoter)"
    " AND (a.advertiser_id = ANY(:advertisers) OR :any_advertiser) ORDER BY a.id"
)
_CLICKS = text(
    "SELECT link_id, count(*) FILTER (WHERE NOT is_bot AND duplicate_of IS NULL) AS clicks,"
    " count(*) FILTER (WHERE is_bot) AS bots, count(*) FILTER (WHERE duplicate_of IS NOT NULL) AS repeats"
    " FROM touches WHERE link_id = ANY(:links) GROUP BY link_id"
)
_DECIDED = text("SELECT input, amounts FROM attribution_decisions WHERE order_id = :order")
_SOLD_THROUGH = text(
    "SELECT c.order_line_id, c.promoter_brand_id, l.community_id FROM commission_lines c"
    " JOIN tracked_links l ON l.id = c.link_id WHERE c.order_id = :order"
)
_LINK_TARGET = text(
    "SELECT id, code, agreement_id, advertiser_id, promoter_brand_id, destination, revision,"
    " in_app_destination FROM tracked_links WHERE code = :code"
)


@dataclass(frozen=True, slots=True)
class InvitationRow:
    id: InvitationId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    sender_id: BrandId
    supersedes: InvitationId | None
    status: InvitationStatus
    terms: Terms
    message: str
    sent_at: datetime | None
    """``None`` of a draft."""
    expires_at: datetime | None
    answered_at: datetime | None
    origin: Origin


@dataclass(frozen=True, slots=True)
class AgreementRow:
    id: AgreementId
    invitation_id: InvitationId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    status: AgreementStatus
    current_version: int
    created_at: datetime
    origin: Origin
    ends_at: datetime | None
    """Notice was given: no touch qualifies from here on."""
    ended_by: BrandId | None
    end_reason: str | None


@dataclass(frozen=True, slots=True)
class Signature:
    brand_id: BrandId
    signed_at: datetime


@dataclass(frozen=True, slots=True)
class VersionRow:
    agreement_id: AgreementId
    version: int
    effective_at: datetime
    terms: Terms
    content_hash: str
    proposed_by: BrandId
    proposed_at: datetime
    in_force_from: datetime | None
    withdrawn_at: datetime | None
    offer_version: int | None
    """Of the agreement's offer, whose terms these are; ``None`` for terms of their own."""
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class VersionInForce:
    agreement_id: AgreementId
    version: int
    terms: Terms
    in_force_from: datetime


@dataclass(frozen=True, slots=True)
class Sellable:
    """Products of ``advertiser_id`` within ``scope`` may be sold by ``promoter_brand_id``."""

    advertiser_id: BrandId
    promoter_brand_id: BrandId
    agreement_id: AgreementId
    version: int
    scope: Scope
    terms: Terms


@dataclass(frozen=True, slots=True)
class LinkRow:
    id: LinkId
    code: str
    agreement_id: AgreementId | None
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    community_id: CommunityId
    placement_id: PlacementId
    promoter_id: PromoterId | None
    product_id: ProductId | None
    proposal_id: ProposalId | None
    destination: str
    status: LinkStatus
    created_at: datetime
    disabled_at: datetime | None
    expires_at: datetime | None
    in_app_destination: str | None


@dataclass(frozen=True, slots=True)
class ClickCounts:
    clicks: int = 0
    bots: int = 0
    repeats: int = 0


@dataclass(frozen=True, slots=True)
class PromoterRow:
    id: PromoterId
    brand_id: BrandId
    name: str
    kind: PromoterKind
    created_at: datetime


_INVITATION: Select[Any] = select(
    _I.id, _I.advertiser_id, _I.promoter_brand_id, _I.sender_id, _I.supersedes, _I.status, _I.terms,
    _I.message, _I.sent_at, _I.expires_at, _I.answered_at, _I.campaign_id, _I.offer_id, _I.offer_version,
)  # fmt: skip
_AGREEMENT: Select[Any] = select(
    _A.id, _A.invitation_id, _A.advertiser_id, _A.promoter_brand_id, _A.status, _A.current_version,
    _A.created_at, _A.campaign_id, _A.offer_id, _A.offer_version, _A.ends_at, _A.ended_by, _A.end_reason,
)  # fmt: skip
_LINK: Select[Any] = select(
    _L.id, _L.code, _L.agreement_id, _L.advertiser_id, _L.promoter_brand_id, _L.community_id, _L.placement_id,
    _L.promoter_id, _L.product_id, _L.proposal_id, _L.destination, _L.status, _L.created_at, _L.disabled_at,
    _L.expires_at, _L.in_app_destination,
)  # fmt: skip
_PROMOTER: Select[Any] = select(_P.id, _P.brand_id, _P.name, _P.kind, _P.created_at)


def _party(columns: Any, actor: Actor) -> ColumnElement[bool]:
    if actor.sees_everything:
        return columns.id.is_not(None)  # type: ignore[no-any-return]
    mine = actor.brand_id
    return (columns.advertiser_id == mine) | (columns.promoter_brand_id == mine)  # type: ignore[no-any-return]


def _told(actor: Actor) -> ColumnElement[bool]:
    """Invitations that concern the actor; another brand's draft is not there."""
    if actor.sees_everything:
        return _I.id.is_not(None)
    return _party(_I, actor) & (_I.sent_at.is_not(None) | (_I.sender_id == actor.brand_id))


async def invitation(
    session: AsyncSession, actor: Actor, invitation_id: InvitationId, *, at: datetime
) -> InvitationRow:
    """Raises ``InvitationNotFound`` for one between others."""
    row = (await session.execute(_INVITATION.where(_I.id == invitation_id, _told(actor)))).first()
    if row is None:
        raise InvitationNotFound("no such invitation", field="id")
    return _invitation(row, at)


async def invitations_page(
    session: AsyncSession, actor: Actor, request: PageRequest, *, at: datetime
) -> Page[InvitationRow]:
    """Own drafts, sent and received, newest first."""
    wanted = _INVITATION.where(_told(actor)).order_by(_I.id.desc()).limit(request.first + 1)
    if request.key:
        wanted = wanted.where(_I.id < InvitationId.parse(request.key[0]))
    rows = [_invitation(row, at) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


def _invitation(row: Row[Any], at: datetime) -> InvitationRow:
    status = InvitationStatus(row.status)
    if status is InvitationStatus.SENT and row.expires_at <= at:
        status = InvitationStatus.EXPIRED  # the sweep has not come by yet
    facts: tuple[Any, ...] = (
        *row[:5], status, Terms.from_json(row.terms), *row[7:11], Origin(*row[11:14]),
    )  # fmt: skip
    return InvitationRow(*facts)


async def agreement(session: AsyncSession, actor: Actor, agreement_id: AgreementId) -> AgreementRow:
    """Raises ``AgreementNotFound`` for one between others."""
    row = (await session.execute(_AGREEMENT.where(_A.id == agreement_id, _party(_A, actor)))).first()
    if row is None:
        raise AgreementNotFound("no such agreement", field="agreementId")
    return _agreement(row)


async def agreements_page(
    session: AsyncSession, actor: Actor, request: PageRequest, *, status: AgreementStatus | None = None
) -> Page[AgreementRow]:
    """On either side, newest first."""
    wanted = _AGREEMENT.where(_party(_A, actor)).order_by(_A.id.desc()).limit(request.first + 1)
    if status is not None:
        wanted = wanted.where(_A.status == status)
    if request.key:
        wanted = wanted.where(_A.id < AgreementId.parse(request.key[0]))
    rows = [_agreement(row) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def agreements_of(
    session: AsyncSession, actor: Actor, ids: Iterable[AgreementId]
) -> dict[AgreementId, AgreementRow]:
    rows = await session.execute(_AGREEMENT.where(_A.id.in_(list(ids)), _party(_A, actor)))
    return {found.id: found for found in map(_agreement, rows)}


def _agreement(row: Row[Any]) -> AgreementRow:
    facts: tuple[Any, ...] = (
        *row[:4], AgreementStatus(row.status), *row[5:7], Origin(*row[7:10]), *row[10:],
    )  # fmt: skip
    return AgreementRow(*facts)


async def versions_of(
    session: AsyncSession, agreement_ids: Sequence[AgreementId]
) -> dict[AgreementId, list[VersionRow]]:
    """Every version of agreements the caller was allowed, oldest first, with who signed. One statement."""
    found: dict[AgreementId, list[VersionRow]] = {}
    for row in await session.execute(_VERSIONS, {"agreements": list(agreement_ids)}):
        agreement_id = AgreementId.of(row.agreement_id)
        signatures = tuple(
            Signature(BrandId(brand), datetime.fromisoformat(at)) for brand, at in row.signatures
        )
        version = VersionRow(
            agreement_id, row.version, row.effective_at, Terms.from_json(row.terms), row.content_hash,
            BrandId.of(row.proposed_by), row.proposed_at, row.in_force_from, row.withdrawn_at,
            row.offer_version, signatures,
        )  # fmt: skip
        found.setdefault(agreement_id, []).append(version)
    return found


async def versions_in_force(
    session: AsyncSession, agreement_ids: Sequence[AgreementId], at: datetime
) -> dict[AgreementId, VersionInForce]:
    rows = await session.execute(_IN_FORCE, {"agreements": list(agreement_ids), "at": at})
    found = (
        VersionInForce(AgreementId.of(r.agreement_id), r.version, Terms.from_json(r.terms), r.in_force_from)
        for r in rows
    )
    return {version.agreement_id: version for version in found}


async def version_in_force(
    session: AsyncSession, agreement_id: AgreementId, at: datetime
) -> VersionInForce | None:
    return (await versions_in_force(session, [agreement_id], at)).get(agreement_id)


async def sellable_through(
    session: AsyncSession, storefront_brand_id: BrandId, at: datetime
) -> list[Sellable]:
    """What a storefront of this brand may sell besides its own products. One statement.

    The session's tenant must be that brand, or the platform.
    """
    return await _sellable(session, promoters=[storefront_brand_id], at=at)


async def agreements_in_force(
    session: AsyncSession, promoter_brand_id: BrandId, advertiser_ids: Sequence[BrandId], at: datetime
) -> list[Sellable]:
    return await _sellable(session, promoters=[promoter_brand_id], advertisers=advertiser_ids, at=at)


async def promoters_of(session: AsyncSession, advertiser_id: BrandId, at: datetime) -> list[Sellable]:
    """Who may sell this brand's products now, and which."""
    return await _sellable(session, advertisers=[advertiser_id], at=at)


async def _sellable(
    session: AsyncSession,
    *,
    promoters: Sequence[BrandId] | None = None,
    advertisers: Sequence[BrandId] | None = None,
    at: datetime,
) -> list[Sellable]:
    rows = await session.execute(
        _SELLABLE,
        {
            "promoters": list(promoters or ()), "any_promoter": promoters is None,
            "advertisers": list(advertisers or ()), "any_advertiser": advertisers is None, "at": at,
        },
    )  # fmt: skip
    found = []
    for row in rows:
        terms = Terms.from_json(row.terms)
        found.append(
            Sellable(
                BrandId.of(row.advertiser_id),
                BrandId.of(row.promoter_brand_id),
                AgreementId.of(row.id),
                row.version,
                terms.scope,
                terms,
            )
        )
    return found


async def link(session: AsyncSession, actor: Actor, link_id: LinkId) -> LinkRow:
    """Raises ``LinkNotFound`` for one between others."""
    row = (await session.execute(_LINK.where(_L.id == link_id, _party(_L, actor)))).first()
    if row is None:
        raise LinkNotFound("no such link", field="linkId")
    return LinkRow(*row)


async def links_of(session: AsyncSession, actor: Actor, ids: Iterable[LinkId]) -> dict[LinkId, LinkRow]:
    """Those of the ids that the actor may see. One statement."""
    rows = await session.execute(_LINK.where(_L.id.in_(list(ids)), _party(_L, actor)))
    return {found.id: found for found in (LinkRow(*row) for row in rows)}


async def links_page(session: AsyncSession, actor: Actor, request: PageRequest) -> Page[LinkRow]:
    """The brand's own links and its partners' for its products, newest first."""
    wanted = _LINK.where(_party(_L, actor)).order_by(_L.id.desc()).limit(request.first + 1)
    if request.key:
        wanted = wanted.where(_L.id < LinkId.parse(request.key[0]))
    rows = [LinkRow(*row) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def link_by_code(session: AsyncSession, code: str) -> LinkTarget | None:
    row = (await session.execute(_LINK_TARGET, {"code": code})).first()
    return None if row is None else LinkTarget.of(tuple(row))


async def click_counts(session: AsyncSession, link_ids: Sequence[LinkId]) -> dict[LinkId, ClickCounts]:
    """Of links the caller has been allowed. A repeat by the same browser within seconds counts once."""
    rows = await session.execute(_CLICKS, {"links": list(link_ids)})
    return {LinkId.of(row.link_id): ClickCounts(row.clicks, row.bots, row.repeats) for row in rows}


async def promoters_page(session: AsyncSession, actor: Actor, request: PageRequest) -> Page[PromoterRow]:
    wanted = _PROMOTER.order_by(_P.id).limit(request.first + 1)
    if not actor.sees_everything:
        wanted = wanted.where(_P.brand_id == actor.brand_id)
    if request.key:
        wanted = wanted.where(_P.id > PromoterId.parse(request.key[0]))
    rows = [PromoterRow(*row) for row in await session.execute(wanted)]
    return page_of(rows, request, lambda found: (str(found.id),))


async def promoters_named(
    session: AsyncSession, actor: Actor, ids: Iterable[PromoterId]
) -> dict[PromoterId, PromoterRow]:
    wanted = _PROMOTER.where(_P.id.in_(list(ids)))
    if not actor.sees_everything:
        wanted = wanted.where(_P.brand_id == actor.brand_id)
    return {found.id: found for found in (PromoterRow(*row) for row in await session.execute(wanted))}


async def agreements_count(
    session: AsyncSession, actor: Actor, *, status: AgreementStatus | None = None
) -> int:
    wanted = select(func.count()).select_from(table_of(Agreement)).where(_party(_A, actor))
    if status is not None:
        wanted = wanted.where(_A.status == status)
    return await session.scalar(wanted) or 0


async def links_count(session: AsyncSession, actor: Actor) -> int:
    return (
        await session.scalar(select(func.count()).select_from(table_of(TrackedLink)).where(_party(_L, actor)))
        or 0
    )


@dataclass(frozen=True, slots=True)
class PurchaseFact:
    """One line of a credited order: what was bought, by whom (a keyed digest), through which community."""

    order_line_id: OrderLineId
    order_id: OrderId
    merchant_id: BrandId
    seller_id: BrandId
    community_id: CommunityId | None
    buyer: str
    product_id: ProductId
    quantity: int
    bought_at: datetime


async def purchases_of(session: AsyncSession, order_id: OrderId) -> list[PurchaseFact]:
    """The lines of a credited order, read back from its decision, but for what no catalog knows: a shop of its own may
    sell that, too. Needs a SYSTEM session. Two statements."""
    row = (await session.execute(_DECIDED, {"order": order_id})).first()
    if row is None:
        return []
    order, _, _ = read_inputs(row.input)
    quantities = {line.id: line.quantity for line in Amounts.read(row.amounts).lines}
    sold = {
        OrderLineId.of(line.order_line_id): line
        for line in await session.execute(_SOLD_THROUGH, {"order": order_id})
    }
    merchant, facts = BrandId.parse(order.advertiser_id), []
    for line in order.lines:
        if not line.product_id:
            continue
        line_id = OrderLineId.parse(line.id)
        through = sold.get(line_id)
        facts.append(
            PurchaseFact(
                line_id,
                order_id,
                merchant,
                merchant if through is None else BrandId.of(through.promoter_brand_id),
                None if through is None else CommunityId.of(through.community_id),
                min(order.buyer_keys, default=str(order_id)),
                ProductId.parse(line.product_id),
                quantities[line.id],
                order.paid_at or order.created_at,
            )
        )
    return facts
