from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, MissingScope, WrongTenant
from core.clock import FixedClock
from core.ids import AgreementId, BrandId, InvitationId, ProductId
from infra.db.session import Database
from marketplace.promotion import queries, service
from marketplace.promotion.agreements.origin import WITHOUT_ORIGIN
from marketplace.promotion.agreements.terms import Rule, Terms, checked, version_hash
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
from marketplace.promotion.facts import AttributionModel, ScopeKind
from marketplace.promotion.models import AgreementStatus, InvitationStatus
from tests.factories import promotion as make
from tests.factories.brands import brand_actor, shopper

MERCHANT, PROMOTER, STRANGER = (brand_actor(BrandId.new()) for _ in range(3))
WEEK = timedelta(days=7)


async def _invited(session: AsyncSession, clock: FixedClock, sender: Actor = MERCHANT) -> InvitationId:
    """Needs a SYSTEM session."""
    await make.known(session, clock, MERCHANT, PROMOTER)
    return await service.invite(
        session,
        sender,
        advertiser_id=MERCHANT.brand_id,
        promoter_brand_id=PROMOTER.brand_id,
        terms=make.TEN_PERCENT,
        clock=clock,
    )


async def test_an_agreement_is_active_once_both_signed_the_same_text(
    session: AsyncSession, clock: FixedClock
) -> None:
    invitation = await _invited(session, clock)
    opened = await service.accept(session, PROMOTER, invitation, clock=clock)

    first = await service.sign_agreement(
        session, MERCHANT, opened.agreement_id, content_hash=opened.content_hash, clock=clock
    )
    assert (first.status, first.in_force_from) == (AgreementStatus.PENDING_SIGNATURE, None)
    second = await service.sign_agreement(
        session, PROMOTER, opened.agreement_id, content_hash=opened.content_hash, clock=clock
    )

    assert (second.status, second.in_force_from) == (AgreementStatus.ACTIVE, clock.now())
    [version] = (await queries.versions_of(session, [opened.agreement_id]))[opened.agreement_id]
    assert [signature.brand_id for signature in version.signatures] == [MERCHANT.brand_id, PROMOTER.brand_id]
    assert version.terms == make.TEN_PERCENT


@pytest.mark.parametrize(
    "clause",
    [
        {"allow_self_purchase": True}, {"checkout_touch_earns": True}, {"lead_binding_days": 1},
        {"return_window_days": 30}, {"individual_ppm": 1}, {"window_s": 3_600}, {"fixed_cap_ppm": 299_999},
        {"notice_days": 8}, {"model": AttributionModel.LINEAR},
    ],
)  # fmt: skip
def test_a_signature_is_of_every_clause(clause: dict[str, Any]) -> None:
    agreement_id, at = AgreementId.new(), datetime(2026, 3, 1, tzinfo=UTC)

    def signed(terms: Terms) -> str:
        return version_hash(
            agreement_id, 1, advertiser_id=MERCHANT.brand_id, promoter_brand_id=PROMOTER.brand_id,
            effective_at=at, terms=terms, origin=WITHOUT_ORIGIN,
        )  # fmt: skip

    assert signed(make.TEN_PERCENT) != signed(Terms.flat(100_000, **clause))


def test_a_clause_that_came_later_leaves_the_text_of_those_who_do_without_it() -> None:
    assert "checkout_touch_earns" not in make.TEN_PERCENT.to_json()
    for terms in (make.TEN_PERCENT, Terms.flat(100_000, checkout_touch_earns=True)):
        assert Terms.from_json(terms.to_json()) == terms


async def test_a_counter_offer_supersedes_and_changes_who_answers(
    session: AsyncSession, clock: FixedClock
) -> None:
    first = await _invited(session, clock)
    better = Terms.flat(150_000)

    second = await service.counter(session, PROMOTER, first, terms=better, clock=clock)

    old = await queries.invitation(session, MERCHANT, first, at=clock.now())
    new = await queries.invitation(session, MERCHANT, second, at=clock.now())
    assert (old.status, new.status, new.supersedes) == (
        InvitationStatus.DECLINED,
        InvitationStatus.SENT,
        first,
    )
    with pytest.raises(NotYoursToAnswer):
        await service.accept(session, PROMOTER, second, clock=clock)
    with pytest.raises(InvitationNotOpen):
        await service.accept(session, PROMOTER, first, clock=clock)
    opened = await service.accept(session, MERCHANT, second, clock=clock)
    [version] = (await queries.versions_of(session, [opened.agreement_id]))[opened.agreement_id]
    assert version.terms.rules[0].rate_ppm == 150_000


async def test_an_invitation_is_answered_by_the_other_brand_in_time(
    session: AsyncSession, clock: FixedClock
) -> None:
    invitation = await _invited(session, clock)
    with pytest.raises(NotYoursToAnswer):
        await service.accept(session, MERCHANT, invitation, clock=clock)
    with pytest.raises(NotYoursToAnswer):
        await service.withdraw(session, PROMOTER, invitation, clock=clock)
    with pytest.raises(InvitationNotFound):
        await service.accept(session, STRANGER, invitation, clock=clock)
    clock.advance(timedelta(days=30))
    with pytest.raises(InvitationNotOpen):
        await service.accept(session, PROMOTER, invitation, clock=clock)
    seen = await queries.invitation(session, PROMOTER, invitation, at=clock.now())
    assert seen.status is InvitationStatus.EXPIRED


async def test_a_tampered_hash_is_refused_and_so_is_a_tampered_row(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        invitation = await _invited(session, clock)
    async with db.unit_of_work(PROMOTER) as session:
        opened = await service.accept(session, PROMOTER, invitation, clock=clock)
    async with db.reading(MERCHANT) as session:
        for wrong in ("0" * 64, opened.content_hash.upper(), ""):
            with pytest.raises(ContentHashMismatch):
                await service.sign_agreement(
                    session, MERCHANT, opened.agreement_id, content_hash=wrong, clock=clock
                )
    # Even the platform's own role cannot rewrite what is being signed.
    async with db.reading(SYSTEM) as session:
        with pytest.raises(DBAPIError, match="immutable"):
            await session.execute(
                text("UPDATE agreement_versions SET terms = jsonb_set(terms, '{window_s}', '3600')")
            )


async def test_nobody_signs_twice_or_for_another(session: AsyncSession, clock: FixedClock) -> None:
    invitation = await _invited(session, clock)
    opened = await service.accept(session, PROMOTER, invitation, clock=clock)
    sign = partial(service.sign_agreement, content_hash=opened.content_hash, clock=clock)
    await sign(session, MERCHANT, opened.agreement_id)
    with pytest.raises(AlreadySigned):
        await sign(session, MERCHANT, opened.agreement_id)
    with pytest.raises(AgreementNotFound):
        await sign(session, STRANGER, opened.agreement_id)
    with pytest.raises(WrongTenant):
        await sign(session, SYSTEM, opened.agreement_id)
    with pytest.raises(MissingScope):
        await sign(session, shopper(PROMOTER.brand_id), opened.agreement_id)


async def test_a_change_of_rates_waits_seven_days_and_both_signatures(
    session: AsyncSession, clock: FixedClock
) -> None:
    agreement = await make.signed(session, MERCHANT, PROMOTER, clock)
    start = clock.now()
    with pytest.raises(NoticeTooShort):
        await service.propose_version(
            session,
            MERCHANT,
            agreement,
            terms=Terms.flat(50_000),
            effective_at=start + WEEK - timedelta(seconds=1),
            clock=clock,
        )

    opened = await service.propose_version(
        session, MERCHANT, agreement, terms=Terms.flat(50_000), clock=clock
    )
    for signer in (MERCHANT, PROMOTER):
        done = await service.sign_agreement(
            session, signer, agreement, content_hash=opened.content_hash, clock=clock
        )

    assert (opened.version, done.in_force_from) == (2, start + WEEK)
    before = await queries.version_in_force(session, agreement, start + WEEK - timedelta(seconds=1))
    after = await queries.version_in_force(session, agreement, start + WEEK)
    assert before is not None
    assert after is not None
    assert (before.version, after.version) == (1, 2)


async def test_a_newer_proposal_withdraws_the_one_that_waits(
    session: AsyncSession, clock: FixedClock
) -> None:
    agreement = await make.signed(session, MERCHANT, PROMOTER, clock)
    second = await service.propose_version(
        session, MERCHANT, agreement, terms=Terms.flat(50_000), clock=clock
    )
    third = await service.propose_version(session, PROMOTER, agreement, terms=Terms.flat(70_000), clock=clock)
    with pytest.raises(ContentHashMismatch):
        await service.sign_agreement(
            session, PROMOTER, agreement, content_hash=second.content_hash, clock=clock
        )
    assert third.version == 3
    versions = (await queries.versions_of(session, [agreement]))[agreement]
    assert [version.withdrawn_at for version in versions] == [None, clock.now(), None]


async def test_states_change_only_along_the_machine(session: AsyncSession, clock: FixedClock) -> None:
    agreement = await make.signed(session, MERCHANT, PROMOTER, clock)
    await service.pause(session, MERCHANT, agreement, reason="stock check", clock=clock)
    with pytest.raises(PausedByTheOther):
        await service.resume(session, PROMOTER, agreement, clock=clock)
    with pytest.raises(AgreementInAnotherState):
        await service.terminate(session, PROMOTER, agreement, cause="breach", clock=clock)
    await service.resume(session, MERCHANT, agreement, clock=clock)
    with pytest.raises(AgreementInAnotherState):
        await service.resume(session, MERCHANT, agreement, clock=clock)
    with pytest.raises(BadTerms):
        await service.terminate(session, MERCHANT, agreement, cause=" ", clock=clock)
    await service.terminate(session, MERCHANT, agreement, cause="paid traffic", clock=clock)
    with pytest.raises(AgreementInAnotherState):
        await service.pause(session, MERCHANT, agreement, reason="", clock=clock)
    with pytest.raises(NothingToSign):
        await service.sign_agreement(session, MERCHANT, agreement, content_hash="x", clock=clock)
    assert await queries.sellable_through(session, PROMOTER.brand_id, clock.now()) == []


async def test_sellable_through_lists_what_active_agreements_allow(
    session: AsyncSession, clock: FixedClock
) -> None:
    product = ProductId.new()
    await make.signed(session, MERCHANT, PROMOTER, clock, Terms.flat(80_000, products=[product]))
    await make.signed(session, STRANGER, PROMOTER, clock, Terms.flat(90_000, categories=["beauty/skin"]))
    paused = await make.signed(session, PROMOTER, MERCHANT, clock)
    await service.pause(session, PROMOTER, paused, reason="", clock=clock)

    found = await queries.sellable_through(session, PROMOTER.brand_id, clock.now())

    assert [each.advertiser_id for each in found] == [MERCHANT.brand_id, STRANGER.brand_id]
    assert found[0].scope.covers(product, "toys")
    assert not found[0].scope.covers(ProductId.new(), "toys")
    assert found[1].scope.covers(product, "beauty/skin/cream")
    assert not found[1].scope.covers(product, "beauty/skincare")
    assert await queries.sellable_through(session, MERCHANT.brand_id, clock.now()) == []


async def test_row_level_security_shows_an_agreement_to_its_two_brands_alone(
    db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await make.signed(session, MERCHANT, PROMOTER, clock)
    tables = (
        "invitations", "agreements", "agreement_versions", "agreement_signatures", "agreement_status_log",
    )  # fmt: skip
    for table in tables:
        for actor, sees in ((MERCHANT, True), (PROMOTER, True), (STRANGER, False)):
            async with db.reading(actor) as session:
                count = (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar()
            assert bool(count) is sees, (table, actor)


async def test_signatures_and_history_cannot_be_rewritten(session: AsyncSession, clock: FixedClock) -> None:
    await make.signed(session, MERCHANT, PROMOTER, clock)
    for statement in (
        "DELETE FROM agreement_signatures",
        "UPDATE agreement_status_log SET status = 'PAUSED'",
        "DELETE FROM agreement_versions",
        "UPDATE agreement_versions SET in_force_from = NULL",
    ):
        with pytest.raises(DBAPIError):
            async with session.begin_nested():
                await session.execute(text(statement))


@pytest.mark.parametrize(
    "terms",
    [
        Terms.flat(-1),
        Terms.flat(900_001),
        Terms.flat(100_000, fee_ppm=49_999),
        Terms.flat(100_000, fee_ppm=500_001),
        Terms.flat(100_000, individual_ppm=1_000_001),
        Terms.flat(100_000, window_s=3599),
        Terms.flat(100_000, window_s=90 * 86_400 + 1),
        Terms.flat(100_000, return_window_days=14),
        Terms.flat(100_000, lead_binding_days=91),
        Terms(()),
        Terms((Rule(1), Rule(2))),
        Terms((Rule(1, ScopeKind.CAMPAIGN, "x"),)),
        Terms((Rule(1, ScopeKind.PRODUCT, "brd_00000000000000000000000000"),)),
        Terms((Rule(1, ScopeKind.CATEGORY, "Beauty Skin"),)),
        Terms((Rule(1, ScopeKind.SKU, ""),)),
        Terms((Rule(1, rate_new_ppm=900_001),)),
    ],
)
def test_terms_out_of_bounds_are_refused(terms: Terms) -> None:
    with pytest.raises(BadTerms):
        checked(terms)


def test_terms_survive_their_stored_form() -> None:
    terms = Terms(
        (Rule(80_000, ScopeKind.CATEGORY, "beauty", rate_new_ppm=120_000, priority=3), Rule(50_000)),
        individual_ppm=600_000,
        allow_self_purchase=True,
        checkout_touch_earns=True,
    )
    assert Terms.from_json(terms.to_json()) == checked(terms)


async def test_a_brand_cannot_agree_with_itself_or_for_others(
    session: AsyncSession, clock: FixedClock
) -> None:
    for advertiser, promoter in ((MERCHANT, MERCHANT), (PROMOTER, STRANGER)):
        with pytest.raises(NotAParty):
            await service.invite(
                session,
                MERCHANT,
                advertiser_id=advertiser.brand_id,
                promoter_brand_id=promoter.brand_id,
                terms=make.TEN_PERCENT,
                clock=clock,
            )


async def test_forgotten_invitations_are_closed_by_the_sweep(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await _invited(session, clock)
    assert await service.expire_invitations(db, clock=clock) == 0
    clock.advance(timedelta(days=30))
    assert await service.expire_invitations(db, clock=clock) == 1
    assert await service.expire_invitations(db, clock=clock) == 0
