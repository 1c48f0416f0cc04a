"""A campaign's life, and which touches earn in it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, MissingScope, WrongTenant
from core.clock import FixedClock
from core.ids import AgreementId, BrandId
from core.money import Money, UnknownCurrency
from infra.db.session import Database
from marketplace.promotion import queries as agreements
from marketplace.promotion import service
from marketplace.promotion.agreements import lifecycle
from marketplace.promotion.agreements.origin import Origin
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.attribution.decision import RejectReason
from marketplace.promotion.commission.rules import CapMode
from marketplace.promotion.errors import BadTerms, CampaignEnded, CampaignNotFound
from marketplace.promotion.facts import AttributionModel
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.models import AgreementStatus
from marketplace.promotion.offers import campaigns, queries
from marketplace.promotion.offers.campaigns import CampaignChange, NewCampaign
from marketplace.promotion.offers.errors import BadCampaign, BudgetBelowCommitted, CampaignInAnotherState
from marketplace.promotion.offers.models import CampaignStatus
from tests.factories import promotion as make
from tests.factories.brands import brand_actor, shopper
from tests.marketplace.promotion.offers.selling import budget, earned, line, link_token, order_of, sell

MERCHANT, PROMOTER, STRANGER = (brand_actor(BrandId.new()) for _ in range(3))
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
DRAFT, ACTIVE, PAUSED, ENDED = CampaignStatus
VERBS: dict[str, Any] = {
    "activate": campaigns.activate, "pause": campaigns.pause, "resume": campaigns.resume, "end": campaigns.end,
}  # fmt: skip
MACHINE = {
    (DRAFT, "activate"): ACTIVE, (DRAFT, "end"): ENDED, (ACTIVE, "pause"): PAUSED, (ACTIVE, "end"): ENDED,
    (PAUSED, "resume"): ACTIVE, (PAUSED, "end"): ENDED,
}  # fmt: skip
PATHS: dict[CampaignStatus, list[str]] = {
    DRAFT: [], ACTIVE: ["activate"], PAUSED: ["activate", "pause"], ENDED: ["end"],
}  # fmt: skip


async def status_of(session: AsyncSession, campaign_id: CampaignId) -> CampaignStatus:
    return (await queries.campaign(session, MERCHANT, campaign_id)).status


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("source", PATHS)
async def test_states_change_only_along_the_machine(
    session: AsyncSession, clock: FixedClock, source: CampaignStatus, verb: str
) -> None:
    campaign_id = await make.campaign(session, MERCHANT, clock, draft=True)
    for step in PATHS[source]:
        await VERBS[step](session, MERCHANT, campaign_id, clock=clock)
    target = MACHINE.get((source, verb))
    if target is None:
        with pytest.raises(CampaignInAnotherState):
            await VERBS[verb](session, MERCHANT, campaign_id, clock=clock)
        target = source
    else:
        await VERBS[verb](session, MERCHANT, campaign_id, clock=clock)
    assert await status_of(session, campaign_id) is target


async def test_only_its_advertiser_moves_a_campaign(session: AsyncSession, clock: FixedClock) -> None:
    campaign_id = await make.campaign(session, MERCHANT, clock, draft=True)
    for verb in VERBS.values():
        with pytest.raises(CampaignNotFound):
            await verb(session, STRANGER, campaign_id, clock=clock)
        with pytest.raises(MissingScope):
            await verb(session, shopper(MERCHANT.brand_id), campaign_id, clock=clock)
    with pytest.raises(WrongTenant):
        await campaigns.create(session, SYSTEM, NewCampaign("x", "CNY", clock.now()), clock=clock)


async def test_a_touch_earns_as_its_campaign_was_at_its_own_moment(
    session: AsyncSession, clock: FixedClock
) -> None:
    """Every hour a click, judged at the end: what the campaign became later changes nothing."""
    start = clock.now()
    campaign_id = await make.campaign(
        session, MERCHANT, clock, draft=True, starts_at=start + timedelta(hours=2), ends_at=start + 8 * DAY
    )
    market = await make.market(session, MERCHANT, PROMOTER, clock, make.TEN_PERCENT, Origin(campaign_id))
    made = await make.link(session, market, clock)
    verbs = [None, campaigns.activate, None, None, campaigns.pause, None, campaigns.resume, None]
    tokens = []
    for verb in verbs:
        if verb is not None:
            await verb(session, MERCHANT, campaign_id, clock=clock)
        tokens.append(await make.click(session, made, clock.now()))
        clock.advance(timedelta(hours=1))
    # At 0 a draft, at 1 active but not begun, 2 and 3 running, 4 and 5 paused, 6 and 7 running.
    expected = [False, False, True, True, False, False, True, True]
    for token, earns in zip(tokens, expected, strict=True):
        done = await sell(session, order_of(MERCHANT, clock, [token], line(10_000)), clock)
        assert (earned(done) == 1_000) is earns
        told = await service.explain_attribution(session, SYSTEM, done.order_id)
        wanted = None if earns else RejectReason.CAMPAIGN_NOT_RUNNING
        assert [touch.rejected for touch in told.touches] == [wanted]


async def test_the_last_second_of_a_campaign_earns_and_the_first_after_it_does_not(
    session: AsyncSession, clock: FixedClock
) -> None:
    ends_at = clock.now() + DAY
    campaign_id = await make.campaign(session, MERCHANT, clock, ends_at=ends_at)
    market = await make.market(session, MERCHANT, PROMOTER, clock, make.TEN_PERCENT, Origin(campaign_id))
    made = await make.link(session, market, clock)
    clock.at = ends_at + timedelta(hours=1)  # no sweep has come by
    for at, commission in ((ends_at - SECOND, 1_000), (ends_at, 0)):
        token = await make.click(session, made, at)
        done = await sell(session, order_of(MERCHANT, clock, [token], line(10_000)), clock)
        assert earned(done) == commission


async def test_what_does_not_run_is_not_for_sale(session: AsyncSession, clock: FixedClock) -> None:
    ends_at = clock.now() + DAY
    campaign_id = await make.campaign(session, MERCHANT, clock, draft=True, ends_at=ends_at)
    await make.signed(session, MERCHANT, PROMOTER, clock, origin=Origin(campaign_id))

    async def sold() -> int:
        return len(await agreements.sellable_through(session, PROMOTER.brand_id, clock.now()))

    assert await sold() == 0
    await campaigns.activate(session, MERCHANT, campaign_id, clock=clock)
    assert await sold() == 1
    await campaigns.pause(session, MERCHANT, campaign_id, clock=clock)
    assert await sold() == 0
    await campaigns.resume(session, MERCHANT, campaign_id, clock=clock)
    clock.at = ends_at
    assert await sold() == 0


async def test_dates_move_only_ahead_of_now(session: AsyncSession, clock: FixedClock) -> None:
    now = clock.now()

    async def refused(campaign_id: CampaignId, change: CampaignChange, field: str) -> None:
        with pytest.raises(BadCampaign) as error:
            await campaigns.change(session, MERCHANT, campaign_id, change, clock=clock)
        assert error.value.field == field

    planned = await make.campaign(session, MERCHANT, clock, starts_at=now + DAY, ends_at=now + 9 * DAY)
    await campaigns.change(session, MERCHANT, planned, CampaignChange(starts_at=now + 2 * DAY), clock=clock)
    await refused(planned, CampaignChange(starts_at=now - SECOND), "startsAt")
    await refused(planned, CampaignChange(starts_at=now + 9 * DAY), "endsAt")
    clock.advance(3 * DAY)
    await refused(planned, CampaignChange(starts_at=now + 5 * DAY), "startsAt")
    await refused(planned, CampaignChange(ends_at=clock.now()), "endsAt")
    await campaigns.change(session, MERCHANT, planned, CampaignChange(open_end=True), clock=clock)
    assert (await queries.campaign(session, MERCHANT, planned)).ends_at is None


async def test_an_end_gives_the_longest_notice_of_its_agreements(
    session: AsyncSession, clock: FixedClock
) -> None:
    campaign_id = await make.campaign(session, MERCHANT, clock)
    for promoter, days in ((PROMOTER, 7), (STRANGER, 21)):
        terms = Terms.flat(100_000, notice_days=days)
        await make.signed(session, MERCHANT, promoter, clock, terms, Origin(campaign_id))
    sooner = CampaignChange(ends_at=clock.now() + 21 * DAY - SECOND)
    with pytest.raises(BadCampaign):
        await campaigns.change(session, MERCHANT, campaign_id, sooner, clock=clock)

    ends_at = await campaigns.end(session, MERCHANT, campaign_id, reason="season is over", clock=clock)

    assert ends_at == clock.now() + 21 * DAY
    assert await status_of(session, campaign_id) is ACTIVE
    clock.advance(DAY)
    assert await campaigns.end(session, MERCHANT, campaign_id, clock=clock) == ends_at


async def test_one_that_would_not_have_begun_by_then_ends_now(
    session: AsyncSession, clock: FixedClock
) -> None:
    campaign_id = await make.campaign(session, MERCHANT, clock, starts_at=clock.now() + 30 * DAY)
    await make.signed(session, MERCHANT, PROMOTER, clock, origin=Origin(campaign_id))
    assert await campaigns.end(session, MERCHANT, campaign_id, clock=clock) == clock.now()
    assert await status_of(session, campaign_id) is ENDED


async def test_the_sweep_ends_it_as_of_then_and_its_agreements_with_it(
    db: Database, clock: FixedClock
) -> None:
    ends_at = clock.now() + DAY
    async with db.unit_of_work(SYSTEM) as session:
        campaign_id = await make.campaign(session, MERCHANT, clock, ends_at=ends_at)
        agreement = await make.signed(session, MERCHANT, PROMOTER, clock, origin=Origin(campaign_id))
        apart = await make.signed(session, MERCHANT, STRANGER, clock)
    assert await campaigns.end_due(db, clock=clock) == 0
    clock.at = ends_at + timedelta(hours=5)

    assert await campaigns.end_due(db, clock=clock) == 1
    assert await lifecycle.end_due(db, clock=clock) == 1
    assert (await campaigns.end_due(db, clock=clock), await lifecycle.end_due(db, clock=clock)) == (0, 0)

    async with db.reading(SYSTEM) as session:
        found = await agreements.agreements_of(session, SYSTEM, [agreement, apart])
        assert (found[agreement].status, found[agreement].ends_at) == (AgreementStatus.ENDED, ends_at)
        assert found[apart].status is AgreementStatus.ACTIVE
        assert await _last_change(session, agreement) == (ends_at, "its campaign ended")
        logged = await session.execute(
            text(
                "SELECT status, changed_at FROM campaign_status_log WHERE campaign_id = :id ORDER BY position"
            ),
            {"id": campaign_id},
        )
        assert [(row.status, row.changed_at) for row in logged][-1] == ("ENDED", ends_at)
        told = (await session.execute(text("SELECT body FROM outbox WHERE name LIKE '%_changed'"))).scalars()
        ended = [body for body in told if body["status"] == "ENDED"]
        assert {body.get("agreement_id", body.get("campaign_id")) for body in ended} == {
            str(agreement), str(campaign_id),
        }  # fmt: skip


async def _last_change(session: AsyncSession, agreement_id: AgreementId) -> tuple[datetime, str]:
    row = (
        await session.execute(
            text(
                "SELECT changed_at, reason FROM agreement_status_log WHERE agreement_id = :id"
                " ORDER BY position DESC LIMIT 1"
            ),
            {"id": agreement_id},
        )
    ).one()
    return row.changed_at, row.reason


async def test_one_signed_in_the_moment_its_campaign_ended_is_found_too(
    db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        campaign_id = await make.campaign(session, MERCHANT, clock, ends_at=clock.now() + DAY)
        agreement = await make.signed(session, MERCHANT, PROMOTER, clock, origin=Origin(campaign_id))
        # As if it had been signed after the sweep that ended the campaign read the agreements.
        await session.execute(text("UPDATE campaigns SET status = 'ENDED'"))
    clock.advance(DAY + SECOND)
    assert await campaigns.end_due(db, clock=clock) == 0
    assert await lifecycle.end_due(db, clock=clock) == 1
    async with db.reading(SYSTEM) as session:
        found = await agreements.agreement(session, SYSTEM, agreement)
    assert found.status is AgreementStatus.ENDED


async def test_an_ended_campaign_takes_no_agreements(session: AsyncSession, clock: FixedClock) -> None:
    await make.known(session, clock, MERCHANT, PROMOTER)
    campaign_id = await make.campaign(session, MERCHANT, clock)
    invited = await service.invite(
        session, MERCHANT, advertiser_id=MERCHANT.brand_id, promoter_brand_id=PROMOTER.brand_id,
        terms=make.TEN_PERCENT, origin=Origin(campaign_id), clock=clock,
    )  # fmt: skip
    await campaigns.end(session, MERCHANT, campaign_id, clock=clock)
    with pytest.raises(CampaignEnded):
        await service.accept(session, PROMOTER, invited, clock=clock)
    with pytest.raises(CampaignEnded):
        await make.signed(session, MERCHANT, PROMOTER, clock, origin=Origin(campaign_id))
    with pytest.raises(CampaignInAnotherState):
        await campaigns.change(session, MERCHANT, campaign_id, CampaignChange(name="again"), clock=clock)


async def test_terms_of_a_campaign_attribute_as_it_does(session: AsyncSession, clock: FixedClock) -> None:
    linear = await make.campaign(session, MERCHANT, clock, model=AttributionModel.LINEAR)
    with pytest.raises(BadTerms) as refused:
        await make.signed(session, MERCHANT, PROMOTER, clock, origin=Origin(linear))
    assert refused.value.field == "model"
    terms = Terms.flat(100_000, model=AttributionModel.LINEAR)
    assert await make.signed(session, MERCHANT, PROMOTER, clock, terms, Origin(linear))
    with pytest.raises(CampaignNotFound):
        await make.signed(session, STRANGER, PROMOTER, clock, terms, Origin(linear))


async def test_a_budget_is_raised_and_lowered_but_not_below_what_was_earned(
    session: AsyncSession, clock: FixedClock
) -> None:
    await make.known(session, clock, MERCHANT, PROMOTER)
    campaign_id = await make.campaign(session, MERCHANT, clock, budget_minor=1_000)
    token = await link_token(session, MERCHANT, PROMOTER, clock, campaign_id)
    await sell(session, order_of(MERCHANT, clock, [token], line(10_000)), clock)
    assert (await queries.campaign(session, MERCHANT, campaign_id)).used_up

    async def set_to(minor: int, currency: str = "CNY") -> None:
        change = CampaignChange(budget=Money(minor, currency))
        await campaigns.change(session, MERCHANT, campaign_id, change, clock=clock)

    with pytest.raises(BudgetBelowCommitted) as refused:
        await set_to(999)
    assert refused.value.committed_minor == 1_000
    with pytest.raises(BadCampaign):
        await set_to(5_000, "EUR")
    await set_to(1_700)
    found = await queries.campaign(session, MERCHANT, campaign_id)
    assert found.budget is not None
    assert (found.used_up, found.budget.left) == (False, Money(700, "CNY"))
    assert await budget(session, campaign_id) == (1_700, 1_000, 0)

    without = await make.campaign(session, MERCHANT, clock)
    with pytest.raises(BadCampaign):
        await campaigns.change(
            session, MERCHANT, without, CampaignChange(budget=Money(1, "CNY")), clock=clock
        )


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"name": "x" * 121}, "name"),
        ({"ends_at": "start"}, "endsAt"),
        ({"budget": Money(0, "CNY")}, "budget"),
        ({"budget": Money(5, "EUR")}, "budget"),
        ({"budget": Money(5, "CNY"), "budget_mode": CapMode.FALLBACK_RATE}, "budgetMode"),
    ],
)
async def test_campaigns_that_cannot_be_are_refused_by_field(
    session: AsyncSession, clock: FixedClock, wrong: dict[str, Any], field: str
) -> None:
    new = NewCampaign("spring", "CNY", clock.now())
    if "ends_at" in wrong:
        wrong = {"ends_at": clock.now()}
    with pytest.raises(BadCampaign) as refused:
        await campaigns.create(session, MERCHANT, replace(new, **wrong), clock=clock)
    assert refused.value.field == field
    with pytest.raises(UnknownCurrency):
        await campaigns.create(session, MERCHANT, replace(new, currency="XXX"), clock=clock)


async def test_partners_see_a_campaign_but_not_its_budget_and_strangers_nothing(
    db: Database, clock: FixedClock
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        campaign_id = await make.campaign(session, MERCHANT, clock, budget_minor=5_000)
        await make.signed(session, MERCHANT, PROMOTER, clock, origin=Origin(campaign_id))
    async with db.reading(MERCHANT) as session:
        assert (await queries.campaign(session, MERCHANT, campaign_id)).budget is not None
    async with db.reading(PROMOTER) as session:
        seen = await queries.campaign(session, PROMOTER, campaign_id)
        assert (seen.status, seen.budget, seen.used_up) == (ACTIVE, None, False)
        assert await session.scalar(text("SELECT count(*) FROM campaign_budgets")) == 0
        changed = await session.execute(text("UPDATE campaigns SET name = 'mine'"))
        assert changed.rowcount == 0  # type: ignore[attr-defined]
    async with db.reading(STRANGER) as session:
        with pytest.raises(CampaignNotFound):
            await queries.campaign(session, STRANGER, campaign_id)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE campaigns SET currency = 'EUR'",
        "UPDATE campaigns SET model = 'LINEAR'",
        "UPDATE campaigns SET status = 'DRAFT'",
        "UPDATE campaign_status_log SET status = 'ACTIVE'",
        "DELETE FROM campaign_status_log",
        "UPDATE campaign_budgets SET reserved_minor = -1",
    ],
)
async def test_the_database_keeps_what_partners_rely_on(
    session: AsyncSession, clock: FixedClock, statement: str
) -> None:
    await make.campaign(session, MERCHANT, clock, budget_minor=5_000)
    with pytest.raises(DBAPIError):
        async with session.begin_nested():
            await session.execute(text(statement))
