"""From an offer to an agreement, and from a new version to the agreements of an earlier one."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import AgreementId, BrandId, InvitationId
from infra.db.session import Database
from marketplace.promotion import queries as agreements
from marketplace.promotion import service
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.errors import (
    AgreementInAnotherState,
    BatchTooLarge,
    InvitationNotFound,
    NotAParty,
    NoticeTooShort,
)
from marketplace.promotion.ids import CampaignOfferId
from marketplace.promotion.models import AgreementStatus, InvitationStatus
from marketplace.promotion.offers import campaigns, offering, publishing, queries
from marketplace.promotion.offers.content import OfferContent
from marketplace.promotion.offers.errors import (
    AlreadyApplied,
    NotInDirectory,
    OfferInAnotherState,
    OfferNotFound,
    OfferNotOpen,
)
from marketplace.promotion.offers.models import OfferVisibility
from tests.factories import directory
from tests.factories import promotion as make
from tests.factories.brands import brand_actor

MERCHANT, PROMOTER, OTHER = (brand_actor(BrandId.new()) for _ in range(3))
PUBLIC = OfferVisibility.PUBLIC
FIRST, SECOND = Terms.flat(100_000), Terms.flat(120_000)
WEEK = timedelta(days=7)


async def on_offer(
    session: AsyncSession, clock: FixedClock, visibility: OfferVisibility = PUBLIC
) -> tuple[Origin, CampaignOfferId]:
    """Needs a SYSTEM session. Both promoters are in the directory."""
    await make.known(session, clock, MERCHANT, PROMOTER, OTHER)
    for promoter in (PROMOTER, OTHER):
        await directory.listed(session, promoter, clock)
    campaign_id = await make.campaign(session, MERCHANT, clock)
    offer_id = await make.offer(session, MERCHANT, clock, campaign_id, terms=FIRST, visibility=visibility)
    return Origin(campaign_id, offer_id, 1), offer_id


async def signed(session: AsyncSession, clock: FixedClock, invitation_id: InvitationId) -> AgreementId:
    """By both, from an application of the promoter."""
    opened = await service.accept(session, MERCHANT, invitation_id, clock=clock)
    found = await agreements.agreement(session, SYSTEM, opened.agreement_id)
    for signer in (MERCHANT, PROMOTER if found.promoter_brand_id == PROMOTER.brand_id else OTHER):
        await service.sign_agreement(
            session, signer, opened.agreement_id, content_hash=opened.content_hash, clock=clock
        )
    return opened.agreement_id


async def publish_second(session: AsyncSession, clock: FixedClock, offer_id: CampaignOfferId) -> None:
    content = OfferContent("a private offer", "", SECOND)
    await publishing.revise(session, MERCHANT, offer_id, content, clock=clock)
    assert await publishing.publish(session, MERCHANT, offer_id, clock=clock) == 2


async def test_an_application_becomes_a_signed_snapshot_of_the_version(
    session: AsyncSession, clock: FixedClock
) -> None:
    origin, offer_id = await on_offer(session, clock)
    invitation_id = await offering.apply(session, PROMOTER, offer_id, message="we fit", clock=clock)
    sent = await agreements.invitation(session, MERCHANT, invitation_id, at=clock.now())
    assert (sent.sender_id, sent.origin, sent.terms) == (PROMOTER.brand_id, origin, FIRST)

    agreement_id = await signed(session, clock, invitation_id)
    await publish_second(session, clock, offer_id)

    found = await agreements.agreement(session, PROMOTER, agreement_id)
    assert (found.status, found.origin) == (AgreementStatus.ACTIVE, origin)
    [version] = (await agreements.versions_of(session, [agreement_id]))[agreement_id]
    assert (version.terms, version.offer_version) == (FIRST, 1)


async def test_the_advertiser_invites_with_an_offer_nobody_can_find(
    session: AsyncSession, clock: FixedClock
) -> None:
    origin, offer_id = await on_offer(session, clock, OfferVisibility.INVITED)
    with pytest.raises(OfferNotOpen):
        await offering.apply(session, PROMOTER, offer_id, clock=clock)
    with pytest.raises(OfferNotFound):
        await offering.invite(session, OTHER, offer_id, promoter_brand_id=PROMOTER.brand_id, clock=clock)
    invited = await offering.invite(
        session, MERCHANT, offer_id, promoter_brand_id=PROMOTER.brand_id, clock=clock
    )
    opened = await service.accept(session, PROMOTER, invited, clock=clock)
    assert (await agreements.agreement(session, PROMOTER, opened.agreement_id)).origin == origin


async def test_a_counter_keeps_the_offer_but_its_terms_are_nobodys_version(
    session: AsyncSession, clock: FixedClock
) -> None:
    origin, offer_id = await on_offer(session, clock)
    first = await offering.apply(session, PROMOTER, offer_id, clock=clock)
    better = await service.counter(session, MERCHANT, first, terms=Terms.flat(80_000), clock=clock)
    opened = await service.accept(session, PROMOTER, better, clock=clock)
    assert (await agreements.agreement(session, PROMOTER, opened.agreement_id)).origin == origin
    [version] = (await agreements.versions_of(session, [opened.agreement_id]))[opened.agreement_id]
    assert (version.terms, version.offer_version) == (Terms.flat(80_000), None)


async def test_who_may_apply_and_when(session: AsyncSession, clock: FixedClock) -> None:
    origin, offer_id = await on_offer(session, clock)
    assert origin.campaign_id is not None
    unlisted = brand_actor(BrandId.new())
    await make.known(session, clock, unlisted)
    with pytest.raises(NotInDirectory):
        await offering.apply(session, unlisted, offer_id, clock=clock)
    await directory.listed(session, MERCHANT, clock)
    with pytest.raises(NotAParty):
        await offering.apply(session, MERCHANT, offer_id, clock=clock)

    await campaigns.pause(session, MERCHANT, origin.campaign_id, clock=clock)
    with pytest.raises(OfferNotOpen):
        await offering.apply(session, PROMOTER, offer_id, clock=clock)
    await campaigns.resume(session, MERCHANT, origin.campaign_id, clock=clock)

    applied = await offering.apply(session, PROMOTER, offer_id, clock=clock)
    with pytest.raises(AlreadyApplied) as twice:
        await offering.apply(session, PROMOTER, offer_id, clock=clock)
    assert twice.value.invitation_id == str(applied)
    agreement_id = await signed(session, clock, applied)
    with pytest.raises(AlreadyApplied) as agreed:
        await offering.apply(session, PROMOTER, offer_id, clock=clock)
    assert agreed.value.agreement_id == str(agreement_id)

    await publishing.retire(session, MERCHANT, offer_id)
    with pytest.raises(OfferInAnotherState):
        await offering.apply(session, OTHER, offer_id, clock=clock)
    with pytest.raises(OfferNotFound):
        await offering.apply(session, OTHER, CampaignOfferId.new(), clock=clock)


async def test_a_declined_application_can_be_made_again(session: AsyncSession, clock: FixedClock) -> None:
    _, offer_id = await on_offer(session, clock)
    first = await offering.apply(session, PROMOTER, offer_id, clock=clock)
    await service.decline(session, MERCHANT, first, clock=clock)
    assert await offering.apply(session, PROMOTER, offer_id, clock=clock) != first


async def test_an_offered_draft_is_sent_later_on_the_terms_it_was_made_with(
    session: AsyncSession, clock: FixedClock
) -> None:
    _, offer_id = await on_offer(session, clock)
    drafted = await offering.invite(
        session, MERCHANT, offer_id, promoter_brand_id=PROMOTER.brand_id, as_draft=True, clock=clock
    )
    with pytest.raises(InvitationNotFound):
        await agreements.invitation(session, PROMOTER, drafted, at=clock.now())
    await publish_second(session, clock, offer_id)
    await service.send_invitation(session, MERCHANT, drafted, clock=clock)
    sent = await agreements.invitation(session, PROMOTER, drafted, at=clock.now())
    assert (sent.status, sent.terms, sent.origin.offer_version) == (InvitationStatus.SENT, FIRST, 1)


async def test_a_new_version_is_proposed_to_who_is_behind_and_takes_effect_signed_after_its_notice(
    session: AsyncSession, clock: FixedClock
) -> None:
    _, offer_id = await on_offer(session, clock)
    first = await signed(session, clock, await offering.apply(session, PROMOTER, offer_id, clock=clock))
    ended = await signed(session, clock, await offering.apply(session, OTHER, offer_id, clock=clock))
    await service.terminate(session, MERCHANT, ended, cause="a breach", clock=clock)
    assert await offering.propose(session, MERCHANT, offer_id, clock=clock) == []
    await publish_second(session, clock, offer_id)

    [proposed] = await offering.propose(session, MERCHANT, offer_id, clock=clock)
    assert (proposed.agreement_id, proposed.error) == (first, None)
    assert await offering.propose(session, MERCHANT, offer_id, clock=clock) == []

    assert proposed.opened is not None
    for signer in (PROMOTER, MERCHANT):
        await service.sign_agreement(
            session, signer, first, content_hash=proposed.opened.content_hash, clock=clock
        )
    start = clock.now()
    before, after = [await agreements.version_in_force(session, first, at) for at in (start, start + WEEK)]
    assert before is not None
    assert after is not None
    assert (before.terms, after.terms) == (FIRST, SECOND)
    versions = (await agreements.versions_of(session, [first]))[first]
    assert [version.offer_version for version in versions] == [1, 2]


async def test_what_cannot_be_proposed_is_said_by_agreement(session: AsyncSession, clock: FixedClock) -> None:
    _, offer_id = await on_offer(session, clock)
    agreement_id = await signed(
        session, clock, await offering.apply(session, PROMOTER, offer_id, clock=clock)
    )
    await publish_second(session, clock, offer_id)
    [soon] = await offering.propose(
        session, MERCHANT, offer_id, agreement_ids=[agreement_id], effective_at=clock.now(), clock=clock
    )
    assert isinstance(soon.error, NoticeTooShort)
    with pytest.raises(BatchTooLarge):
        await offering.propose(session, MERCHANT, offer_id, agreement_ids=[], clock=clock)
    with pytest.raises(OfferNotFound):
        await offering.propose(session, PROMOTER, offer_id, clock=clock)
    await service.end(session, PROMOTER, agreement_id, reason="", clock=clock)
    clock.advance(WEEK)
    assert await offering.propose(session, MERCHANT, offer_id, clock=clock) == []
    with pytest.raises(AgreementInAnotherState):
        await service.propose_version(session, MERCHANT, agreement_id, terms=SECOND, clock=clock)


async def test_an_offer_is_seen_by_who_was_invited_with_it_and_public_ones_by_all(
    db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        _, hidden = await on_offer(session, clock, OfferVisibility.INVITED)
        campaign_id = await make.campaign(session, MERCHANT, clock)
        shown = await make.offer(session, MERCHANT, clock, campaign_id, visibility=PUBLIC)
        await offering.invite(session, MERCHANT, hidden, promoter_brand_id=PROMOTER.brand_id, clock=clock)
        await publishing.revise(
            session, MERCHANT, shown, OfferContent("secret next", "", SECOND), clock=clock
        )
    for actor, seen in ((MERCHANT, {hidden, shown}), (PROMOTER, {hidden, shown}), (OTHER, {shown})):
        async with db.reading(actor) as session:
            found = await queries.offers_of(session, [hidden, shown])
            assert found.keys() == seen
            assert (await queries.versions_of(session, [hidden, shown])).keys() == seen
            drafts = await queries.drafts_of(session, list(found.values()))
            assert drafts.keys() == ({shown} if actor is MERCHANT else set())
            assert (await queries.campaigns_of(session, actor, [campaign_id])).keys() == {campaign_id}
