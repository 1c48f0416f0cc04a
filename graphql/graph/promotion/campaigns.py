"""Campaigns in the brand API: the advertiser's own."""

from __future__ import annotations

from datetime import datetime

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.promotion.offer_types import Campaign
from graph.scalars import MoneyInput
from marketplace.promotion.commission.rules import CapMode
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.offers import campaigns, queries
from marketplace.promotion.offers.campaigns import CampaignChange, NewCampaign
from marketplace.promotion.offers.models import CampaignStatus

_READ = scope("promotion:read")


@strawberry.input(description="A draft: nothing earns in it until it is activated. Currency and model stay.")
class CampaignCreateInput:
    name: str
    currency_code: str
    starts_at: datetime | None = strawberry.field(default=None, description="Now when left out.")
    ends_at: datetime | None = strawberry.field(default=None, description="Until it is ended when left out.")
    model: AttributionModel = AttributionModel.LAST_TOUCH
    budget: MoneyInput | None = strawberry.field(
        default=None,
        description="The most commission over all its agreements, in its currency. None now is none for good.",
    )
    budget_mode: CapMode = strawberry.field(
        default=CapMode.TRUNCATE, description="TRUNCATE or ALL_OR_NOTHING."
    )


@strawberry.input(description="What is left out stays.")
class CampaignUpdateInput:
    id: strawberry.ID
    name: str | None = None
    starts_at: datetime | None = strawberry.field(default=None, description="Only before it has started.")
    ends_at: datetime | None = strawberry.field(
        default=None, description="Sooner only after the longest notice of its agreements."
    )
    open_end: bool = strawberry.field(default=False, description="Take the end away.")
    budget: MoneyInput | None = strawberry.field(
        default=None, description="Never below what sales have earned of it."
    )


@strawberry.input
class CampaignInput:
    id: strawberry.ID


@strawberry.input
class CampaignReasonInput:
    id: strawberry.ID
    reason: str = ""


@strawberry.type
class CampaignPayload:
    campaign: Campaign | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


async def _payload(context: Context, session: AsyncSession, campaign_id: CampaignId) -> CampaignPayload:
    return CampaignPayload(campaign=Campaign.of(await queries.campaign(session, context.actor, campaign_id)))


@strawberry.type
class CampaignQueries:
    @strawberry.field(
        permission_classes=[_READ], description="An own one, or one of an offer or agreement of the caller's."
    )
    async def campaign(self, info: Info, id: strawberry.ID) -> Campaign:
        context = info.context
        async with context.reading() as session:
            return Campaign.of(await queries.campaign(session, context.actor, CampaignId.parse(id)))

    @strawberry.field(permission_classes=[_READ], description="The own ones, newest first.")
    async def campaigns(
        self, info: Info, first: First = 20, after: After = None, status: CampaignStatus | None = None
    ) -> Connection[Campaign]:
        context = info.context
        async with context.reading() as session:
            page = await queries.campaigns_page(
                session, context.actor, PageRequest(first, after), status=status
            )

        async def count() -> int:
            async with context.reading() as session:
                return await queries.campaigns_count(session, context.actor, status=status)

        return connection(page, Campaign.of, count)


@strawberry.type
class CampaignMutations:
    @strawberry.mutation
    @expected(CampaignPayload)
    async def campaign_create(self, info: Info, input: CampaignCreateInput) -> CampaignPayload:
        context = info.context
        new = NewCampaign(
            input.name,
            input.currency_code,
            input.starts_at or context.clock.now(),
            input.ends_at,
            input.model,
            input.budget.parsed() if input.budget else None,
            input.budget_mode,
        )
        async with context.db.unit_of_work(context.actor) as session:
            campaign_id = await campaigns.create(session, context.actor, new, clock=context.clock)
            return await _payload(context, session, campaign_id)

    @strawberry.mutation
    @expected(CampaignPayload)
    async def campaign_update(self, info: Info, input: CampaignUpdateInput) -> CampaignPayload:
        context, campaign_id = info.context, CampaignId.parse(input.id)
        change = CampaignChange(
            input.name,
            input.starts_at,
            input.ends_at,
            input.open_end,
            input.budget.parsed() if input.budget else None,
        )
        async with context.db.unit_of_work(context.actor) as session:
            await campaigns.change(session, context.actor, campaign_id, change, clock=context.clock)
            return await _payload(context, session, campaign_id)

    @strawberry.mutation(description="Touches earn from here on, or from its start.")
    @expected(CampaignPayload)
    async def campaign_activate(self, info: Info, input: CampaignInput) -> CampaignPayload:
        context, campaign_id = info.context, CampaignId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await campaigns.activate(session, context.actor, campaign_id, clock=context.clock)
            return await _payload(context, session, campaign_id)

    @strawberry.mutation(description="Touches from now on earn nothing until it resumes.")
    @expected(CampaignPayload)
    async def campaign_pause(self, info: Info, input: CampaignReasonInput) -> CampaignPayload:
        context, campaign_id = info.context, CampaignId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await campaigns.pause(
                session, context.actor, campaign_id, reason=input.reason, clock=context.clock
            )
            return await _payload(context, session, campaign_id)

    @strawberry.mutation
    @expected(CampaignPayload)
    async def campaign_resume(self, info: Info, input: CampaignInput) -> CampaignPayload:
        context, campaign_id = info.context, CampaignId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await campaigns.resume(session, context.actor, campaign_id, clock=context.clock)
            return await _payload(context, session, campaign_id)

    @strawberry.mutation(
        description="It ends, and its agreements with it, after the longest notice among them; without any, now."
    )
    @expected(CampaignPayload)
    async def campaign_end(self, info: Info, input: CampaignReasonInput) -> CampaignPayload:
        context, campaign_id = info.context, CampaignId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await campaigns.end(session, context.actor, campaign_id, reason=input.reason, clock=context.clock)
            return await _payload(context, session, campaign_id)
