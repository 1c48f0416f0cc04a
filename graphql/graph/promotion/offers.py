"""Offers in the brand API: drafted, published, found, applied for, and proposed to who agreed to an earlier one."""

from __future__ import annotations

from datetime import datetime

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import AgreementId, BrandId
from core.pagination import PageRequest
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.pagination import After, Connection, First, connection
from graph.permissions import scope
from graph.promotion.mutations import InvitationPayload, invitation_payload
from graph.promotion.offer_types import Offer
from graph.promotion.terms import TermsInput
from graph.promotion.types import Agreement
from graph.scalars import Ppm
from marketplace.promotion import queries as agreements
from marketplace.promotion.directory import offer_search
from marketplace.promotion.directory.offer_search import OfferFilter
from marketplace.promotion.ids import CampaignId, CampaignOfferId
from marketplace.promotion.offers import offering, publishing, queries
from marketplace.promotion.offers.content import OfferContent
from marketplace.promotion.offers.models import OfferStatus, OfferVisibility

_READ = scope("promotion:read")


@strawberry.input(description="What the next version says.")
class OfferContentInput:
    name: str
    terms: TermsInput
    summary: str = ""

    def parsed(self) -> OfferContent:
        return OfferContent(self.name, self.summary, self.terms.parsed())


@strawberry.input
class OfferCreateInput:
    campaign_id: strawberry.ID
    content: OfferContentInput
    visibility: OfferVisibility = OfferVisibility.INVITED


@strawberry.input
class OfferUpdateInput:
    id: strawberry.ID
    content: OfferContentInput | None = strawberry.field(
        default=None, description="Replaces the draft. What was published stays as it is."
    )
    visibility: OfferVisibility | None = None


@strawberry.input
class OfferPublishInput:
    id: strawberry.ID
    content_hash: str | None = strawberry.field(
        default=None, description="Of the draft that was read: another one since then is a conflict."
    )


@strawberry.input
class OfferInput:
    id: strawberry.ID


@strawberry.input(description="By the advertiser.")
class OfferInviteInput:
    offer_id: strawberry.ID
    promoter_brand_id: strawberry.ID
    message: str = ""
    as_draft: bool = strawberry.field(default=False, description="Not sent yet: see `invitationDraftSend`.")


@strawberry.input(description="By a brand of the directory that wants to promote.")
class OfferApplyInput:
    offer_id: strawberry.ID
    message: str = ""


@strawberry.input
class OfferProposeInput:
    offer_id: strawberry.ID
    agreement_ids: list[strawberry.ID] | None = strawberry.field(
        default=None,
        description="At most 100. Left out: those on other terms, 100 at a time; ask again for the next.",
    )
    effective_at: datetime | None = strawberry.field(
        default=None, description="After the notice of each agreement, which is the default."
    )


@strawberry.type
class OfferPayload:
    offer: Offer | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type(
    description="What became of one agreement: a version that waits for signatures, or why there is none."
)
class OfferProposal:
    agreement: Agreement
    content_hash: str | None
    error: UserError | None


@strawberry.type
class OfferProposePayload:
    proposals: list[OfferProposal] = strawberry.field(default_factory=list)
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input(description="All that is given must hold.")
class OfferFilterInput:
    text: str = strawberry.field(default="", description="Every word of name, summary or category.")
    advertiser_id: strawberry.ID | None = None
    category: str | None = strawberry.field(default=None, description="beauty also finds beauty/skin.")
    region: str | None = strawberry.field(default=None, description="CN-SH also finds who serves all of CN.")
    rate_at_least_ppm: Ppm | None = None
    window_at_least_s: int | None = None
    currency_code: str | None = None

    def parsed(self) -> OfferFilter:
        return OfferFilter(
            self.text,
            BrandId.parse(self.advertiser_id) if self.advertiser_id else None,
            self.category,
            self.region,
            self.rate_at_least_ppm,
            self.window_at_least_s,
            self.currency_code,
        )


async def _payload(context: Context, session: AsyncSession, offer_id: CampaignOfferId) -> OfferPayload:
    return OfferPayload(offer=Offer.of(await queries.offer(session, context.actor, offer_id)))


@strawberry.type
class OfferQueries:
    @strawberry.field(
        permission_classes=[_READ],
        description="An own one, a public one, or one the caller was invited with.",
    )
    async def offer(self, info: Info, id: strawberry.ID) -> Offer:
        context = info.context
        async with context.reading() as session:
            return Offer.of(await queries.offer(session, context.actor, CampaignOfferId.parse(id)))

    @strawberry.field(permission_classes=[_READ], description="The own ones, newest first.")
    async def offers(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        campaign_id: strawberry.ID | None = None,
        status: OfferStatus | None = None,
    ) -> Connection[Offer]:
        context = info.context
        campaign = CampaignId.parse(campaign_id) if campaign_id else None
        async with context.reading() as session:
            page = await queries.offers_page(
                session, context.actor, PageRequest(first, after), campaign_id=campaign, status=status
            )

        async def count() -> int:
            async with context.reading() as session:
                return await queries.offers_count(session, context.actor, campaign_id=campaign, status=status)

        return connection(page, Offer.of, count)

    @strawberry.field(
        permission_classes=[_READ],
        description="Public offers of brands in the directory whose campaign goes on, the latest first.",
    )
    async def partner_offers(
        self, info: Info, filter: OfferFilterInput | None = None, first: First = 20, after: After = None
    ) -> Connection[Offer]:
        context, at = info.context, info.context.clock.now()
        wanted = filter.parsed() if filter else OfferFilter()
        async with context.reading() as session:
            page = await offer_search.offers_page(
                session, context.actor, wanted, PageRequest(first, after), at=at
            )

        async def count() -> int:
            async with context.reading() as session:
                return await offer_search.offers_count(session, context.actor, wanted, at=at)

        return connection(page, Offer.of, count)


@strawberry.type
class OfferMutations:
    @strawberry.mutation(description="A draft in an own campaign.")
    @expected(OfferPayload)
    async def offer_create(self, info: Info, input: OfferCreateInput) -> OfferPayload:
        context = info.context
        async with context.db.unit_of_work(context.actor) as session:
            offer_id = await publishing.create(
                session,
                context.actor,
                CampaignId.parse(input.campaign_id),
                input.content.parsed(),
                visibility=input.visibility,
                clock=context.clock,
            )
            return await _payload(context, session, offer_id)

    @strawberry.mutation
    @expected(OfferPayload)
    async def offer_update(self, info: Info, input: OfferUpdateInput) -> OfferPayload:
        context, offer_id = info.context, CampaignOfferId.parse(input.id)
        content = input.content.parsed() if input.content else None
        async with context.db.unit_of_work(context.actor) as session:
            if content is not None:
                await publishing.revise(session, context.actor, offer_id, content, clock=context.clock)
            if input.visibility is not None:
                await publishing.set_visibility(session, context.actor, offer_id, input.visibility)
            return await _payload(context, session, offer_id)

    @strawberry.mutation(description="The draft becomes the next version, which nothing changes any more.")
    @expected(OfferPayload)
    async def offer_publish(self, info: Info, input: OfferPublishInput) -> OfferPayload:
        context, offer_id = info.context, CampaignOfferId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await publishing.publish(
                session, context.actor, offer_id, draft_hash=input.content_hash, clock=context.clock
            )
            return await _payload(context, session, offer_id)

    @strawberry.mutation(description="Nobody is invited with it any more; its agreements go on.")
    @expected(OfferPayload)
    async def offer_retire(self, info: Info, input: OfferInput) -> OfferPayload:
        context, offer_id = info.context, CampaignOfferId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await publishing.retire(session, context.actor, offer_id)
            return await _payload(context, session, offer_id)

    @strawberry.mutation(description="Offer its current version to a brand.")
    @expected(InvitationPayload)
    async def offer_invite(self, info: Info, input: OfferInviteInput) -> InvitationPayload:
        context = info.context
        async with context.db.unit_of_work(context.actor) as session:
            invitation_id = await offering.invite(
                session,
                context.actor,
                CampaignOfferId.parse(input.offer_id),
                promoter_brand_id=BrandId.parse(input.promoter_brand_id),
                message=input.message,
                as_draft=input.as_draft,
                clock=context.clock,
            )
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation(description="Ask to promote a public offer on its terms; its advertiser answers.")
    @expected(InvitationPayload)
    async def offer_apply(self, info: Info, input: OfferApplyInput) -> InvitationPayload:
        context = info.context
        async with context.db.unit_of_work(context.actor) as session:
            invitation_id = await offering.apply(
                session,
                context.actor,
                CampaignOfferId.parse(input.offer_id),
                message=input.message,
                clock=context.clock,
            )
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation(
        description="Propose the current version to agreements of an earlier one; each is signed by both brands."
    )
    @expected(OfferProposePayload)
    async def offer_propose(self, info: Info, input: OfferProposeInput) -> OfferProposePayload:
        context = info.context
        ids = None if input.agreement_ids is None else [AgreementId.parse(id) for id in input.agreement_ids]
        async with context.db.unit_of_work(context.actor) as session:
            done = await offering.propose(
                session,
                context.actor,
                CampaignOfferId.parse(input.offer_id),
                agreement_ids=ids,
                effective_at=input.effective_at,
                clock=context.clock,
            )
            rows = await agreements.agreements_of(
                session, context.actor, [each.agreement_id for each in done]
            )
        proposals = [
            OfferProposal(
                agreement=Agreement.of(rows[each.agreement_id]),
                content_hash=each.opened.content_hash if each.opened else None,
                error=UserError.of(each.error) if each.error else None,
            )
            for each in done
        ]
        return OfferProposePayload(proposals=proposals)
