"""How an agreement ends: with notice, at once by both, or for a breach; and which touches still earn."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import AgreementId, BrandId, OrderId, OrderLineId, ProductId
from infra.db.session import Database
from marketplace.promotion import queries, service
from marketplace.promotion.agreements import lifecycle
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.attribution.decision import RejectReason
from marketplace.promotion.errors import (
    AgreementInAnotherState,
    AgreementNotFound,
    NothingToSign,
    NoticeTooShort,
)
from marketplace.promotion.models import AgreementStatus
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from tests.factories import promotion as make
from tests.factories.brands import brand_actor

MERCHANT, PROMOTER, STRANGER = (brand_actor(BrandId.new()) for _ in range(3))
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
FORTNIGHT = Terms.flat(100_000, notice_days=14)


async def status_of(session: AsyncSession, agreement_id: AgreementId) -> AgreementStatus:
    return (await queries.agreement(session, SYSTEM, agreement_id)).status


async def told(session: AsyncSession, name: str) -> list[dict[str, object]]:
    rows = await session.execute(
        text("SELECT body FROM outbox WHERE name = :name ORDER BY id"), {"name": name}
    )
    return list(rows.scalars())


@pytest.mark.parametrize("who", [MERCHANT, PROMOTER])
async def test_an_end_gives_the_notice_that_both_signed(
    session: AsyncSession, clock: FixedClock, who: Actor
) -> None:
    agreement_id = await make.signed(session, MERCHANT, PROMOTER, clock, FORTNIGHT)

    ends_at = await service.end(session, who, agreement_id, reason="another plan", clock=clock)

    assert ends_at == clock.now() + 14 * DAY
    found = await queries.agreement(session, SYSTEM, agreement_id)
    assert (found.status, found.ends_at, found.ended_by, found.end_reason) == (
        AgreementStatus.ACTIVE, ends_at, who.brand_id, "another plan",
    )  # fmt: skip
    [announced] = await told(session, "promotion.agreement_end_announced")
    assert (announced["by"], announced["reason"]) == (str(who.brand_id), "another plan")
    clock.advance(3 * DAY)
    assert await service.end(session, who, agreement_id, reason="again", clock=clock) == ends_at


async def test_touches_earn_to_the_last_moment_of_the_notice_and_not_a_second_longer(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, MERCHANT, PROMOTER, clock, FORTNIGHT)
    made = await make.link(session, market, clock)
    ends_at = await service.end(session, MERCHANT, market.agreement_id, reason="", clock=clock)
    clock.at = ends_at + timedelta(hours=1)  # no sweep has come by
    for at, reason in ((ends_at - SECOND, None), (ends_at, RejectReason.AGREEMENT_NOT_ACTIVE)):
        token = await make.click(session, made, at)
        line = LineForAttribution(OrderLineId.new(), ProductId.new(), "s", "beauty", 1, 10_000)
        order = OrderForAttribution(
            OrderId.new(), MERCHANT.brand_id, "CNY", clock.now(), [line], touch_tokens=[token],
            paid_at=clock.now(),
        )  # fmt: skip
        done = await service.attribute(session, order, signer=make.SIGNER, clock=clock)
        explained = await service.explain_attribution(session, SYSTEM, done.order_id)
        assert [touch.rejected for touch in explained.touches] == [reason]
    assert await queries.sellable_through(session, PROMOTER.brand_id, clock.now()) == []
    for verb in (service.pause, service.end):
        with pytest.raises(AgreementInAnotherState):
            await verb(session, MERCHANT, market.agreement_id, reason="", clock=clock)
    with pytest.raises(NothingToSign):
        await service.sign_agreement(session, MERCHANT, market.agreement_id, content_hash="", clock=clock)


async def test_the_brand_that_notice_protects_may_waive_it(session: AsyncSession, clock: FixedClock) -> None:
    agreement_id = await make.signed(session, MERCHANT, PROMOTER, clock, FORTNIGHT)
    await service.end(session, MERCHANT, agreement_id, reason="", clock=clock)
    clock.advance(DAY)

    assert await service.end(session, PROMOTER, agreement_id, reason="fine", clock=clock) == clock.now()

    assert await status_of(session, agreement_id) is AgreementStatus.ENDED
    [*_, changed] = await told(session, "promotion.agreement_changed")
    assert (changed["status"], changed["advertiser_id"], changed["promoter_brand_id"]) == (
        "ENDED", str(MERCHANT.brand_id), str(PROMOTER.brand_id),
    )  # fmt: skip


async def test_nobody_else_ends_it_and_the_platform_gives_notice_too(
    session: AsyncSession, clock: FixedClock
) -> None:
    agreement_id = await make.signed(session, MERCHANT, PROMOTER, clock)
    with pytest.raises(AgreementNotFound):
        await service.end(session, STRANGER, agreement_id, reason="", clock=clock)
    ends_at = await service.end(session, SYSTEM, agreement_id, reason="brand left", clock=clock)
    assert ends_at == clock.now() + 7 * DAY
    # Neither brand gave this notice, so neither shortens the other's.
    assert await service.end(session, PROMOTER, agreement_id, reason="", clock=clock) == ends_at


async def test_what_nobody_signed_ends_at_once(session: AsyncSession, clock: FixedClock) -> None:
    await make.known(session, clock, MERCHANT, PROMOTER)
    invitation = await service.invite(
        session, MERCHANT, advertiser_id=MERCHANT.brand_id, promoter_brand_id=PROMOTER.brand_id,
        terms=FORTNIGHT, clock=clock,
    )  # fmt: skip
    opened = await service.accept(session, PROMOTER, invitation, clock=clock)
    assert await service.end(session, MERCHANT, opened.agreement_id, reason="", clock=clock) == clock.now()
    assert await status_of(session, opened.agreement_id) is AgreementStatus.ENDED


async def test_a_pause_within_the_notice_keeps_its_end_and_a_breach_ends_it_sooner(
    session: AsyncSession, clock: FixedClock
) -> None:
    first = await make.signed(session, MERCHANT, PROMOTER, clock)
    ends_at = await service.end(session, MERCHANT, first, reason="", clock=clock)
    await service.pause(session, PROMOTER, first, reason="", clock=clock)
    await service.resume(session, PROMOTER, first, clock=clock)
    assert (await queries.agreement(session, SYSTEM, first)).ends_at == ends_at
    await service.terminate(session, PROMOTER, first, cause="unpaid", clock=clock)
    assert await status_of(session, first) is AgreementStatus.TERMINATED


async def test_the_sweep_ends_it_as_of_the_day_that_was_said(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        agreement_id = await make.signed(session, MERCHANT, PROMOTER, clock)
        ends_at = await service.end(session, PROMOTER, agreement_id, reason="enough", clock=clock)
    assert await lifecycle.end_due(db, clock=clock) == 0
    clock.at = ends_at + timedelta(hours=3)
    assert await lifecycle.end_due(db, clock=clock) == 1
    assert await lifecycle.end_due(db, clock=clock) == 0
    async with db.reading(SYSTEM) as session:
        assert await status_of(session, agreement_id) is AgreementStatus.ENDED
        row = (
            await session.execute(
                text(
                    "SELECT status, reason, changed_at FROM agreement_status_log WHERE agreement_id = :id"
                    " ORDER BY position DESC LIMIT 1"
                ),
                {"id": agreement_id},
            )
        ).one()
        assert tuple(row) == ("ENDED", "enough", ends_at)
        [*_, changed] = await told(session, "promotion.agreement_changed")
        assert changed["status"] == "ENDED"


async def test_other_terms_wait_for_the_same_notice(session: AsyncSession, clock: FixedClock) -> None:
    agreement_id = await make.signed(session, MERCHANT, PROMOTER, clock, FORTNIGHT)
    earliest = clock.now() + 14 * DAY
    with pytest.raises(NoticeTooShort) as refused:
        await service.propose_version(
            session,
            MERCHANT,
            agreement_id,
            terms=make.TEN_PERCENT,
            effective_at=earliest - SECOND,
            clock=clock,
        )
    assert refused.value.earliest == str(earliest)
    opened = await service.propose_version(
        session, MERCHANT, agreement_id, terms=make.TEN_PERCENT, clock=clock
    )
    [_, version] = (await queries.versions_of(session, [agreement_id]))[agreement_id]
    assert (version.version, version.effective_at) == (opened.version, earliest)
