"""Agreements between two brands, and what hangs on them, as either of the two sees them."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.ids import BrandId
from graph.audiences import loaders as audiences
from graph.audiences.types import Community, Placement
from graph.brands import loaders as brands
from graph.brands.types import TenantName
from graph.catalog.types import Product
from graph.context import Info
from graph.promotion import loaders
from graph.promotion.offer_types import Campaign, Offer, campaigns, offers
from graph.promotion.terms import Terms
from marketplace.promotion.agreements.history import StatusChange
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.attribution.decision import RejectReason
from marketplace.promotion.links import qr
from marketplace.promotion.models import (
    AgreementStatus,
    CommissionStatus,
    InvitationStatus,
    LinkStatus,
    PromoterKind,
    ShareRole,
)
from marketplace.promotion.queries import (
    AgreementRow,
    InvitationRow,
    LinkRow,
    PromoterRow,
    VersionRow,
)

strawberry.enum(AgreementStatus, name="AgreementStatus")
strawberry.enum(InvitationStatus, name="InvitationStatus")
strawberry.enum(LinkStatus, name="LinkStatus")
strawberry.enum(PromoterKind, name="PromoterKind")
strawberry.enum(CommissionStatus, name="CommissionStatus")
strawberry.enum(ShareRole, name="CommissionShareRole")
strawberry.enum(RejectReason, name="TouchRejectReason", description="Why a touch earns nothing.")


async def tenant_name(info: Info, brand_id: BrandId) -> TenantName | None:
    row = await info.context.loader(brands.tenant_names).load(brand_id)
    return None if row is None else TenantName(id=strawberry.ID(str(brand_id)), kind=row.kind, name=row.name)


async def _campaign(info: Info, origin: Origin) -> Campaign | None:
    if origin.campaign_id is None:
        return None
    row = await info.context.loader(campaigns).load(origin.campaign_id)
    return None if row is None else Campaign.of(row)


async def _offer(info: Info, origin: Origin) -> Offer | None:
    if origin.offer_id is None:
        return None
    row = await info.context.loader(offers).load(origin.offer_id)
    return None if row is None else Offer.of(row)


@strawberry.type(description="Terms that one brand offers another.")
class Invitation:
    id: strawberry.ID
    status: InvitationStatus
    terms: Terms
    message: str
    supersedes: strawberry.ID | None
    sent_at: datetime | None = strawberry.field(description="Null of a draft, which only its author sees.")
    expires_at: datetime | None
    answered_at: datetime | None
    offer_version: int | None = strawberry.field(description="Of `offer`: what the talk began from.")
    row: strawberry.Private[InvitationRow]

    @classmethod
    def of(cls, row: InvitationRow) -> Invitation:
        return cls(
            id=strawberry.ID(str(row.id)),
            status=row.status,
            terms=Terms.of(row.terms),
            message=row.message,
            supersedes=None if row.supersedes is None else strawberry.ID(str(row.supersedes)),
            sent_at=row.sent_at,
            expires_at=row.expires_at,
            answered_at=row.answered_at,
            offer_version=row.origin.offer_version,
            row=row,
        )

    @strawberry.field
    async def campaign(self, info: Info) -> Campaign | None:
        return await _campaign(info, self.row.origin)

    @strawberry.field
    async def offer(self, info: Info) -> Offer | None:
        return await _offer(info, self.row.origin)

    @strawberry.field(description="The brand that would pay.")
    async def advertiser(self, info: Info) -> TenantName | None:
        return await tenant_name(info, self.row.advertiser_id)

    @strawberry.field(description="The brand whose communities would sell.")
    async def promoter_brand(self, info: Info) -> TenantName | None:
        return await tenant_name(info, self.row.promoter_brand_id)

    @strawberry.field(description="Whether the caller's brand sent it; the other one answers.")
    def sent_by_me(self, info: Info) -> bool:
        return self.row.sender_id == info.context.actor.tenant_id


@strawberry.type
class Signature:
    brand_id: strawberry.ID
    signed_at: datetime


@strawberry.type(description="One version of an agreement: never changed, signed by both over `contentHash`.")
class AgreementVersion:
    version: int
    terms: Terms
    content_hash: str
    effective_at: datetime
    proposed_at: datetime
    in_force_from: datetime | None = strawberry.field(description="Null until both have signed.")
    withdrawn_at: datetime | None
    offer_version: int | None = strawberry.field(
        description="Of the agreement's offer, whose terms these are; null for terms of their own."
    )
    signatures: list[Signature]

    @classmethod
    def of(cls, row: VersionRow) -> AgreementVersion:
        return cls(
            version=row.version,
            terms=Terms.of(row.terms),
            content_hash=row.content_hash,
            effective_at=row.effective_at,
            proposed_at=row.proposed_at,
            in_force_from=row.in_force_from,
            withdrawn_at=row.withdrawn_at,
            offer_version=row.offer_version,
            signatures=[
                Signature(brand_id=strawberry.ID(str(each.brand_id)), signed_at=each.signed_at)
                for each in row.signatures
            ],
        )


@strawberry.type(description="A step in the life of an agreement.")
class AgreementStatusChange:
    status: AgreementStatus
    reason: str = strawberry.field(description="As whoever paused or ended it put it; may be empty.")
    by: strawberry.ID | None = strawberry.field(
        description="The brand that changed it; null where the platform or the agreed day did."
    )
    at: datetime

    @classmethod
    def of(cls, row: StatusChange) -> AgreementStatusChange:
        by = None if row.by is None else strawberry.ID(str(row.by))
        return cls(status=row.status, reason=row.reason, by=by, at=row.at)


@strawberry.type(description="What two brands have agreed: who pays, whose communities sell, on which terms.")
class Agreement:
    id: strawberry.ID
    advertiser_id: strawberry.ID
    promoter_brand_id: strawberry.ID
    status: AgreementStatus
    current_version: int = strawberry.field(description="The latest that both signed; 0 before the first.")
    created_at: datetime
    offer_version: int | None = strawberry.field(description="Of `offer`: what it began from.")
    ends_at: datetime | None = strawberry.field(
        description="Notice was given: touches from here on earn nothing."
    )
    ended_by: strawberry.ID | None = strawberry.field(
        description="The brand that gave notice, or terminated."
    )
    end_reason: str | None = strawberry.field(description="Of an end, or the cause of a termination.")
    row: strawberry.Private[AgreementRow]

    @classmethod
    def of(cls, row: AgreementRow) -> Agreement:
        return cls(
            id=strawberry.ID(str(row.id)),
            advertiser_id=strawberry.ID(str(row.advertiser_id)),
            promoter_brand_id=strawberry.ID(str(row.promoter_brand_id)),
            status=row.status,
            current_version=row.current_version,
            created_at=row.created_at,
            offer_version=row.origin.offer_version,
            ends_at=row.ends_at,
            ended_by=None if row.ended_by is None else strawberry.ID(str(row.ended_by)),
            end_reason=row.end_reason,
            row=row,
        )

    @strawberry.field(description="The brand that pays.")
    async def advertiser(self, info: Info) -> TenantName | None:
        return await tenant_name(info, self.row.advertiser_id)

    @strawberry.field(description="The brand whose communities sell.")
    async def promoter_brand(self, info: Info) -> TenantName | None:
        return await tenant_name(info, self.row.promoter_brand_id)

    @strawberry.field(description="Null where two brands agreed by themselves.")
    async def campaign(self, info: Info) -> Campaign | None:
        return await _campaign(info, self.row.origin)

    @strawberry.field
    async def offer(self, info: Info) -> Offer | None:
        return await _offer(info, self.row.origin)

    @strawberry.field(description="Oldest first.")
    async def versions(self, info: Info) -> list[AgreementVersion]:
        rows = await info.context.loader(loaders.versions).load(self.row.id)
        return [AgreementVersion.of(row) for row in rows]

    @strawberry.field(description="Who signed, paused, resumed or ended it, when and why; oldest first.")
    async def status_history(self, info: Info) -> list[AgreementStatusChange]:
        rows = await info.context.loader(loaders.histories).load(self.row.id)
        return [AgreementStatusChange.of(row) for row in rows]

    @strawberry.field(description="The version that earns for a click made now.")
    async def in_force(self, info: Info) -> AgreementVersion | None:
        now = info.context.clock.now()
        rows = await info.context.loader(loaders.versions).load(self.row.id)
        reached = [row for row in rows if row.in_force_from is not None and row.in_force_from <= now]
        return AgreementVersion.of(reached[-1]) if reached else None

    @strawberry.field(description="The version that waits for a signature.")
    async def waiting(self, info: Info) -> AgreementVersion | None:
        rows = await info.context.loader(loaders.versions).load(self.row.id)
        open_ones = [row for row in rows if row.in_force_from is None and row.withdrawn_at is None]
        return AgreementVersion.of(open_ones[-1]) if open_ones else None


@strawberry.type(description="A person who promotes for the own brand.")
class Promoter:
    id: strawberry.ID
    name: str
    kind: PromoterKind
    created_at: datetime

    @classmethod
    def of(cls, row: PromoterRow) -> Promoter:
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            kind=PromoterKind(row.kind),
            created_at=row.created_at,
        )


@strawberry.type(description="Clicks without bots; a browser that clicks again within seconds counts once.")
class ClickCount:
    clicks: int
    bots: int
    repeats: int


@strawberry.type(description="A tracked link: open `url`, or print `qrSvgUrl`.")
class TrackedLink:
    id: strawberry.ID
    code: str
    destination: str
    status: LinkStatus
    agreement_id: strawberry.ID | None
    created_at: datetime
    expires_at: datetime | None
    in_app_destination: str | None = strawberry.field(
        description="What WeChat opens instead of `destination`; {touch} is where the touch goes."
    )
    row: strawberry.Private[LinkRow]

    @classmethod
    def of(cls, row: LinkRow) -> TrackedLink:
        return cls(
            id=strawberry.ID(str(row.id)),
            code=row.code,
            destination=row.destination,
            status=LinkStatus(row.status),
            agreement_id=None if row.agreement_id is None else strawberry.ID(str(row.agreement_id)),
            created_at=row.created_at,
            expires_at=row.expires_at,
            in_app_destination=row.in_app_destination,
            row=row,
        )

    def _edge(self, info: Info) -> str:
        return f"{info.context.gateways.settings.edge_url.rstrip('/')}/l/{self.code}"

    @strawberry.field
    def url(self, info: Info) -> str:
        return self._edge(info)

    @strawberry.field
    def qr_svg_url(self, info: Info) -> str:
        return f"{self._edge(info)}.svg"

    @strawberry.field
    def qr_png_url(self, info: Info) -> str:
        return f"{self._edge(info)}.png"

    @strawberry.field(description="The QR code itself, as an SVG document.")
    def qr_svg(self, info: Info) -> str:
        return qr.svg(qr.scan_url(info.context.gateways.settings.edge_url, self.code)).decode()

    @strawberry.field
    async def clicks(self, info: Info) -> ClickCount:
        found = await info.context.loader(loaders.clicks).load(self.row.id)
        return ClickCount(clicks=found.clicks, bots=found.bots, repeats=found.repeats)

    @strawberry.field
    async def agreement(self, info: Info) -> Agreement | None:
        if self.row.agreement_id is None:
            return None
        row = await info.context.loader(loaders.agreements).load(self.row.agreement_id)
        return None if row is None else Agreement.of(row)

    @strawberry.field
    async def community(self, info: Info) -> Community | None:
        row = await info.context.loader(audiences.communities).load(self.row.community_id)
        return None if row is None else Community.of(row)

    @strawberry.field
    async def placement(self, info: Info) -> Placement | None:
        row = await info.context.loader(audiences.placements).load(self.row.placement_id)
        return None if row is None else Placement.of(row)

    @strawberry.field(description="Only shown to the brand the person promotes for.")
    async def promoter(self, info: Info) -> Promoter | None:
        if self.row.promoter_id is None:
            return None
        row = await info.context.loader(loaders.promoters).load(self.row.promoter_id)
        return None if row is None else Promoter.of(row)

    @strawberry.field
    async def product(self, info: Info) -> Product | None:
        if self.row.product_id is None:
            return None
        row = await info.context.loader(loaders.products).load(self.row.product_id)
        return None if row is None else Product.of(row)
