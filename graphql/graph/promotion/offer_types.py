"""Campaigns and offers, as their advertiser and its partners see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import strawberry

from core.ids import BrandId
from graph.brands import loaders as brands
from graph.brands.types import TenantName
from graph.context import Context, Info
from graph.promotion.terms import Terms
from graph.scalars import Money
from marketplace.promotion.commission.rules import CapMode
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.offers import queries
from marketplace.promotion.offers.models import CampaignStatus, OfferStatus, OfferVisibility
from marketplace.promotion.offers.queries import Budget, CampaignRow, OfferDraftRow, OfferRow, OfferVersionRow

strawberry.enum(CampaignStatus, name="CampaignStatus")
strawberry.enum(OfferStatus, name="OfferStatus")
strawberry.enum(
    OfferVisibility,
    name="OfferVisibility",
    description="PUBLIC: every brand of the directory may find it and apply. INVITED: who is invited with it.",
)


async def campaigns(context: Context, ids: Sequence[CampaignId]) -> list[CampaignRow | None]:
    async with context.reading() as session:
        found = await queries.campaigns_of(session, context.actor, ids)
    return [found.get(campaign_id) for campaign_id in ids]


async def offers(context: Context, ids: Sequence[CampaignOfferId]) -> list[OfferRow | None]:
    async with context.reading() as session:
        found = await queries.offers_of(session, ids)
    return [found.get(offer_id) for offer_id in ids]


async def _versions(context: Context, ids: Sequence[CampaignOfferId]) -> list[list[OfferVersionRow]]:
    async with context.reading() as session:
        found = await queries.versions_of(session, ids)
    return [found.get(offer_id, []) for offer_id in ids]


async def _drafts(context: Context, rows: Sequence[OfferRow]) -> list[OfferDraftRow | None]:
    async with context.reading() as session:
        found = await queries.drafts_of(session, rows)
    return [found.get(row.id) for row in rows]


async def _tenant_name(info: Info, brand_id: BrandId) -> TenantName | None:
    row = await info.context.loader(brands.tenant_names).load(brand_id)
    return None if row is None else TenantName(id=strawberry.ID(str(brand_id)), kind=row.kind, name=row.name)


@strawberry.type(
    description="`limit` is `reserved`, `spent` and `left`. It caps commission in its own currency."
)
class CampaignBudget:
    limit: Money
    reserved: Money = strawberry.field(description="Earned by sales whose return window is open.")
    spent: Money = strawberry.field(description="Of sales that stayed.")
    left: Money
    mode: CapMode = strawberry.field(description="What an order earns that the budget does not cover whole.")

    @classmethod
    def of(cls, budget: Budget) -> CampaignBudget:
        return cls(
            limit=Money.of(budget.limit),
            reserved=Money.of(budget.reserved),
            spent=Money.of(budget.spent),
            left=Money.of(budget.left),
            mode=budget.mode,
        )


@strawberry.type(
    description="What an advertiser does in a period of time: a touch earns while its campaign runs."
)
class Campaign:
    id: strawberry.ID
    name: str
    currency_code: str
    model: AttributionModel
    status: CampaignStatus
    starts_at: datetime
    ends_at: datetime | None = strawberry.field(
        description="From here on no touch earns; null: until it is ended."
    )
    budget: CampaignBudget | None = strawberry.field(
        description="Null without one, and for everybody but the advertiser."
    )
    budget_used_up: bool = strawberry.field(
        description="Nothing is left of its budget now: sales earn nothing."
    )
    created_at: datetime
    row: strawberry.Private[CampaignRow]

    @classmethod
    def of(cls, row: CampaignRow) -> Campaign:
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            currency_code=row.currency,
            model=row.model,
            status=row.status,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            budget=None if row.budget is None else CampaignBudget.of(row.budget),
            budget_used_up=row.used_up,
            created_at=row.created_at,
            row=row,
        )

    @strawberry.field(description="The brand that pays.")
    async def advertiser(self, info: Info) -> TenantName | None:
        return await _tenant_name(info, self.row.advertiser_id)

    @strawberry.field(description="Whether a touch made now would earn.")
    def running(self, info: Info) -> bool:
        return self.row.runs_at(info.context.clock.now())


@strawberry.type(description="A published version: never changed, under `contentHash`.")
class OfferVersion:
    version: int
    name: str
    summary: str
    terms: Terms
    content_hash: str
    published_at: datetime

    @classmethod
    def of(cls, row: OfferVersionRow) -> OfferVersion:
        return cls(
            version=row.version,
            name=row.content.name,
            summary=row.content.summary,
            terms=Terms.of(row.content.terms),
            content_hash=row.content_hash,
            published_at=row.published_at,
        )


@strawberry.type(description="What the next version would say; its advertiser's alone.")
class OfferDraft:
    name: str
    summary: str
    terms: Terms
    content_hash: str = strawberry.field(
        description="Of the version it would become: say it when publishing."
    )
    updated_at: datetime

    @classmethod
    def of(cls, row: OfferDraftRow) -> OfferDraft:
        return cls(
            name=row.content.name,
            summary=row.content.summary,
            terms=Terms.of(row.content.terms),
            content_hash=row.content_hash,
            updated_at=row.updated_at,
        )


@strawberry.type(
    description="What an advertiser offers to brands that promote: goods, rates and rules, in versions."
)
class Offer:
    id: strawberry.ID
    visibility: OfferVisibility
    status: OfferStatus
    created_at: datetime
    row: strawberry.Private[OfferRow]

    @classmethod
    def of(cls, row: OfferRow) -> Offer:
        return cls(
            id=strawberry.ID(str(row.id)),
            visibility=row.visibility,
            status=row.status,
            created_at=row.created_at,
            row=row,
        )

    @strawberry.field(description="The brand that pays.")
    async def advertiser(self, info: Info) -> TenantName | None:
        return await _tenant_name(info, self.row.advertiser_id)

    @strawberry.field
    async def campaign(self, info: Info) -> Campaign | None:
        row = await info.context.loader(campaigns).load(self.row.campaign_id)
        return None if row is None else Campaign.of(row)

    @strawberry.field(description="What is offered now; null before the first.")
    async def current(self, info: Info) -> OfferVersion | None:
        rows = await info.context.loader(_versions).load(self.row.id)
        return OfferVersion.of(rows[0]) if rows else None

    @strawberry.field(description="The last ten, newest first.")
    async def versions(self, info: Info) -> list[OfferVersion]:
        rows = await info.context.loader(_versions).load(self.row.id)
        return [OfferVersion.of(row) for row in rows]

    @strawberry.field(description="What the next version would say; null without one, and for other brands.")
    async def draft(self, info: Info) -> OfferDraft | None:
        row = await info.context.loader(_drafts).load(self.row)
        return None if row is None else OfferDraft.of(row)
