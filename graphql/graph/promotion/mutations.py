from __future__ import annotations

from datetime import datetime
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import (
    AgreementId,
    BrandId,
    InvitationId,
    LinkId,
    PlacementId,
    ProductId,
    PromoterId,
    StorefrontId,
)
from graph.audiences.mutations import IdentifierInput, vault_of
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.promotion.terms import TermsInput
from graph.promotion.types import Agreement, Invitation, Promoter, TrackedLink
from marketplace.audiences.models import IdentifierKind
from marketplace.promotion import queries, service
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.errors import CampaignNotFound
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.models import PromoterKind


@strawberry.input(description="Either brand may begin; the caller's is one of the two.")
class InvitationSendInput:
    advertiser_id: strawberry.ID = strawberry.field(description="The brand that pays.")
    promoter_brand_id: strawberry.ID = strawberry.field(description="The brand whose communities sell.")
    terms: TermsInput
    message: str = ""
    campaign_id: strawberry.ID | None = strawberry.field(
        default=None, description="Of the advertiser, which alone can name one."
    )


@strawberry.input
class InvitationDraftUpdateInput:
    id: strawberry.ID
    terms: TermsInput
    message: str = ""


@strawberry.input
class InvitationCounterInput:
    id: strawberry.ID
    terms: TermsInput
    message: str = ""


@strawberry.input
class InvitationAnswerInput:
    id: strawberry.ID


@strawberry.type
class InvitationPayload:
    invitation: Invitation | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.type(description="Sign `contentHash` of the waiting version next.")
class AgreementPayload:
    agreement: Agreement | None = None
    content_hash: str | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class AgreementSignInput:
    id: strawberry.ID
    content_hash: str = strawberry.field(description="Of the version that was read.")


@strawberry.input
class AgreementProposeVersionInput:
    id: strawberry.ID
    terms: TermsInput
    effective_at: datetime | None = strawberry.field(
        default=None, description="After the notice of the terms in force, which is the default."
    )


@strawberry.input
class AgreementInput:
    id: strawberry.ID


@strawberry.input
class AgreementReasonInput:
    id: strawberry.ID
    reason: str = ""


@strawberry.input
class PromoterCreateInput:
    name: str
    kind: PromoterKind
    identifiers: list[IdentifierInput] = strawberry.field(
        default_factory=list, description="Kept as keyed hashes, to recognise buying through the own link."
    )
    payout_account: str | None = None


@strawberry.type
class PromoterPayload:
    promoter: Promoter | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input(description="Without an agreement only for the brand's own products.")
class LinkCreateInput:
    agreement_id: strawberry.ID | None = None
    placement_id: strawberry.ID
    product_id: strawberry.ID | None = None
    promoter_id: strawberry.ID | None = None
    storefront_id: strawberry.ID | None = strawberry.field(
        default=None, description="Whose mini-program opens inside WeChat; everybody else gets `destination`."
    )
    destination: str = strawberry.field(description="An https address; it never changes afterwards.")
    expires_at: datetime | None = None


@strawberry.input
class LinkDisableInput:
    id: strawberry.ID


@strawberry.type
class LinkPayload:
    link: TrackedLink | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


def policy_of(context: Context) -> DestinationPolicy:
    return DestinationPolicy.of(context.gateways.settings)


@strawberry.type
class PromotionMutations:
    @strawberry.mutation
    @expected(InvitationPayload)
    async def invitation_send(self, info: Info, input: InvitationSendInput) -> InvitationPayload:
        context = info.context
        async with context.db.unit_of_work(context.actor) as session:
            invitation_id = await service.invite(
                session, context.actor, **_invited(context.actor, input), clock=context.clock
            )
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation(description="Not sent yet: only its author sees it.")
    @expected(InvitationPayload)
    async def invitation_draft(self, info: Info, input: InvitationSendInput) -> InvitationPayload:
        context = info.context
        async with context.db.unit_of_work(context.actor) as session:
            invitation_id = await service.draft_invitation(
                session, context.actor, **_invited(context.actor, input)
            )
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation
    @expected(InvitationPayload)
    async def invitation_draft_update(
        self, info: Info, input: InvitationDraftUpdateInput
    ) -> InvitationPayload:
        context, invitation_id = info.context, InvitationId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await service.revise_invitation(
                session, context.actor, invitation_id, terms=input.terms.parsed(), message=input.message
            )
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation(description="Open for 30 days from now.")
    @expected(InvitationPayload)
    async def invitation_draft_send(self, info: Info, input: InvitationAnswerInput) -> InvitationPayload:
        context, invitation_id = info.context, InvitationId.parse(input.id)
        async with context.db.unit_of_work(context.actor) as session:
            await service.send_invitation(session, context.actor, invitation_id, clock=context.clock)
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation(description="Declines the invitation and sends one back that supersedes it.")
    @expected(InvitationPayload)
    async def invitation_counter(self, info: Info, input: InvitationCounterInput) -> InvitationPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            invitation_id = await service.counter(
                session,
                actor,
                InvitationId.parse(input.id),
                terms=input.terms.parsed(),
                message=input.message,
                clock=context.clock,
            )
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation
    @expected(InvitationPayload)
    async def invitation_decline(self, info: Info, input: InvitationAnswerInput) -> InvitationPayload:
        context, actor, invitation_id = info.context, info.context.actor, InvitationId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.decline(session, actor, invitation_id, clock=context.clock)
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation(description="By its sender, drafts too.")
    @expected(InvitationPayload)
    async def invitation_withdraw(self, info: Info, input: InvitationAnswerInput) -> InvitationPayload:
        context, actor, invitation_id = info.context, info.context.actor, InvitationId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.withdraw(session, actor, invitation_id, clock=context.clock)
            return await invitation_payload(context, session, invitation_id)

    @strawberry.mutation(description="Makes an agreement that both brands then sign.")
    @expected(AgreementPayload)
    async def invitation_accept(self, info: Info, input: InvitationAnswerInput) -> AgreementPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            opened = await service.accept(session, actor, InvitationId.parse(input.id), clock=context.clock)
            return await _agreement(session, actor, opened.agreement_id, opened.content_hash)

    @strawberry.mutation(description="The second signature puts the version in force.")
    @expected(AgreementPayload)
    async def agreement_sign(self, info: Info, input: AgreementSignInput) -> AgreementPayload:
        context, actor, agreement_id = info.context, info.context.actor, AgreementId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.sign_agreement(
                session, actor, agreement_id, content_hash=input.content_hash, clock=context.clock
            )
            return await _agreement(session, actor, agreement_id, input.content_hash)

    @strawberry.mutation(description="New terms, effective after the notice in force once both signed.")
    @expected(AgreementPayload)
    async def agreement_propose_version(
        self, info: Info, input: AgreementProposeVersionInput
    ) -> AgreementPayload:
        context, actor, agreement_id = info.context, info.context.actor, AgreementId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            opened = await service.propose_version(
                session,
                actor,
                agreement_id,
                terms=input.terms.parsed(),
                effective_at=input.effective_at,
                clock=context.clock,
            )
            return await _agreement(session, actor, agreement_id, opened.content_hash)

    @strawberry.mutation(description="Clicks from now on earn nothing until it resumes.")
    @expected(AgreementPayload)
    async def agreement_pause(self, info: Info, input: AgreementReasonInput) -> AgreementPayload:
        context, actor, agreement_id = info.context, info.context.actor, AgreementId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.pause(session, actor, agreement_id, reason=input.reason, clock=context.clock)
            return await _agreement(session, actor, agreement_id)

    @strawberry.mutation(description="By the brand that paused it.")
    @expected(AgreementPayload)
    async def agreement_resume(self, info: Info, input: AgreementInput) -> AgreementPayload:
        context, actor, agreement_id = info.context, info.context.actor, AgreementId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.resume(session, actor, agreement_id, clock=context.clock)
            return await _agreement(session, actor, agreement_id)

    @strawberry.mutation(
        description="Gives notice: see `endsAt`. At once when the other brand gave it before, or nobody has signed."
    )
    @expected(AgreementPayload)
    async def agreement_end(self, info: Info, input: AgreementReasonInput) -> AgreementPayload:
        context, actor, agreement_id = info.context, info.context.actor, AgreementId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.end(session, actor, agreement_id, reason=input.reason, clock=context.clock)
            return await _agreement(session, actor, agreement_id)

    @strawberry.mutation(description="For a breach; the reason is its cause and may not be empty.")
    @expected(AgreementPayload)
    async def agreement_terminate(self, info: Info, input: AgreementReasonInput) -> AgreementPayload:
        context, actor, agreement_id = info.context, info.context.actor, AgreementId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.terminate(session, actor, agreement_id, cause=input.reason, clock=context.clock)
            return await _agreement(session, actor, agreement_id)

    @strawberry.mutation
    @expected(PromoterPayload)
    async def promoter_create(self, info: Info, input: PromoterCreateInput) -> PromoterPayload:
        context, actor = info.context, info.context.actor
        async with context.db.unit_of_work(actor) as session:
            promoter_id = await service.create_promoter(
                session,
                actor,
                name=input.name,
                kind=input.kind,
                identifiers=[(IdentifierKind(each.kind), each.value) for each in input.identifiers],
                payout_account=input.payout_account,
                vault=vault_of(context),
                clock=context.clock,
            )
            rows = await queries.promoters_named(session, actor, [promoter_id])
        return PromoterPayload(promoter=Promoter.of(rows[promoter_id]))

    @strawberry.mutation
    @expected(LinkPayload)
    async def link_create(self, info: Info, input: LinkCreateInput) -> LinkPayload:
        context, actor = info.context, info.context.actor
        agreement_id = AgreementId.parse(input.agreement_id) if input.agreement_id else None
        product_id = ProductId.parse(input.product_id) if input.product_id else None
        promoter_id = PromoterId.parse(input.promoter_id) if input.promoter_id else None
        async with context.db.unit_of_work(actor) as session:
            created = await service.create_link(
                session,
                actor,
                agreement_id=agreement_id,
                placement_id=PlacementId.parse(input.placement_id),
                destination=input.destination,
                product_id=product_id,
                promoter_id=promoter_id,
                storefront_id=StorefrontId.parse(input.storefront_id) if input.storefront_id else None,
                expires_at=input.expires_at,
                policy=policy_of(context),
                clock=context.clock,
            )
            row = await queries.link(session, actor, created.id)
        return LinkPayload(link=TrackedLink.of(row))

    @strawberry.mutation(description="It goes on redirecting; clicks from now on qualify for nothing.")
    @expected(LinkPayload)
    async def link_disable(self, info: Info, input: LinkDisableInput) -> LinkPayload:
        context, actor, link_id = info.context, info.context.actor, LinkId.parse(input.id)
        async with context.db.unit_of_work(actor) as session:
            await service.disable_link(session, actor, link_id, clock=context.clock)
            row = await queries.link(session, actor, link_id)
        return LinkPayload(link=TrackedLink.of(row))


def _invited(actor: Actor, input: InvitationSendInput) -> dict[str, Any]:
    """What invites, as the service takes it. A campaign is its advertiser's to name."""
    advertiser_id = BrandId.parse(input.advertiser_id)
    campaign_id = CampaignId.parse(input.campaign_id) if input.campaign_id else None
    if campaign_id is not None and actor.tenant_id != advertiser_id:
        raise CampaignNotFound("no campaign of this brand", field="campaignId")
    return {
        "advertiser_id": advertiser_id, "promoter_brand_id": BrandId.parse(input.promoter_brand_id),
        "terms": input.terms.parsed(), "message": input.message, "origin": Origin(campaign_id),
    }  # fmt: skip


async def invitation_payload(
    context: Context, session: AsyncSession, invitation_id: InvitationId
) -> InvitationPayload:
    row = await queries.invitation(session, context.actor, invitation_id, at=context.clock.now())
    return InvitationPayload(invitation=Invitation.of(row))


async def _agreement(
    session: AsyncSession, actor: Actor, agreement_id: AgreementId, content_hash: str | None = None
) -> AgreementPayload:
    row = await queries.agreement(session, actor, agreement_id)
    return AgreementPayload(agreement=Agreement.of(row), content_hash=content_hash)
