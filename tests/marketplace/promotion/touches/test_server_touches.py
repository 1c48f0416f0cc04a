"""Touches told by a brand's own server: once per event id, each row judged by itself, leads that bind."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import BrandId, ContactId, LinkId
from infra.db.session import Database
from marketplace.promotion import service
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.errors import BatchTooLarge
from marketplace.promotion.facts import TouchChannel, TouchKind
from marketplace.promotion.reach_models import LeadKind
from marketplace.promotion.service import CreatedLink, ToldTouch
from marketplace.promotion.touches.server_touches import Recorded
from marketplace.promotion.touches.touch_facts import touch_facts_for
from tests.factories import audiences
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.promotion import SIGNER, Market
from tests.fixtures.statements import statements_of

BINDS_A_WEEK = Terms.flat(100_000, lead_binding_days=7)


@pytest.fixture
async def market(session: AsyncSession, clock: FixedClock) -> Market:
    return await make.market(
        session, brand_actor(BrandId.new()), brand_actor(BrandId.new()), clock, BINDS_A_WEEK
    )


@pytest.fixture
async def link(session: AsyncSession, market: Market, clock: FixedClock) -> CreatedLink:
    made = await make.link(session, market, clock)
    clock.advance(timedelta(hours=80))
    return made


async def _contact(
    session: AsyncSession, market: Market, clock: FixedClock, actor: Actor | None = None
) -> ContactId:
    actor = actor or market.promoter
    community = await audiences.community(session, actor, clock)
    [contact] = await audiences.members(session, actor, clock, community, [audiences.person()])
    return contact


async def _tell(
    session: AsyncSession, actor: Actor, clock: FixedClock, *told: ToldTouch, **more: Any
) -> Recorded:
    return await service.record_touches(session, actor, told, signer=SIGNER, clock=clock, **more)


def _click(link: CreatedLink, clock: FixedClock, event: str = "e1", **facts: Any) -> ToldTouch:
    given: dict[str, Any] = {"kind": TouchKind.CLICK, "at": clock.now(), "link_code": link.code}
    return ToldTouch(event, **(given | facts))


async def _stored(session: AsyncSession) -> list[Any]:
    return list((await session.execute(text("SELECT * FROM touches ORDER BY id"))).all())


async def test_a_told_click_is_a_touch_with_a_token_for_the_checkout(
    session: AsyncSession, market: Market, link: CreatedLink, clock: FixedClock
) -> None:
    at = clock.now() - timedelta(hours=2)
    done = await _tell(session, market.promoter, clock, _click(link, clock, at=at, user_agent="Mozilla/5.0"))
    [row] = done.touches
    assert row.token is not None
    signed = SIGNER.read(row.token)
    assert (signed.touch_id, signed.link_id, signed.at) == (row.touch_id, link.id, at)
    [touch] = await _stored(session)
    assert (touch.kind, touch.at, touch.is_bot, touch.advertiser_id) == (
        "click", at, False, market.merchant.brand_id,
    )  # fmt: skip
    found = await touch_facts_for(
        session, advertiser_id=market.merchant.brand_id, currency="CNY", signed=[signed], until=clock.now()
    )
    assert [(fact.channel, fact.link_active) for fact in found.touches] == [(TouchChannel.SIGNED, True)]


async def test_an_event_id_counts_once_and_other_facts_under_it_are_refused(
    session: AsyncSession, market: Market, link: CreatedLink, clock: FixedClock
) -> None:
    told = _click(link, clock)
    first = await _tell(session, market.promoter, clock, told, told)
    assert [(row.row, row.replayed) for row in first.touches] == [(1, False), (2, True)]
    clock.advance(timedelta(minutes=5))
    again = await _tell(session, market.promoter, clock, told, _click(link, clock, "e2"))
    assert [(row.replayed, row.touch_id == first.touches[0].touch_id) for row in again.touches] == [
        (True, True),
        (False, False),
    ]
    assert again.touches[0].token == first.touches[0].token
    other = await _tell(session, market.promoter, clock, _click(link, clock, "e1", kind=TouchKind.SCAN))
    assert [(each.row, each.error.code) for each in other.errors] == [(1, "TOUCH_EVENT_REUSED")]
    # The same id of another brand is another event.
    theirs = await _tell(session, market.merchant, clock, _click(link, clock, "e1"))
    assert not theirs.touches[0].replayed
    assert len(await _stored(session)) == 3


async def test_each_bad_row_is_named_and_the_good_are_taken(
    session: AsyncSession, market: Market, link: CreatedLink, clock: FixedClock
) -> None:
    now = clock.now()
    contact = await _contact(session, market, clock)
    foreign = await _contact(session, market, clock, market.merchant)
    rows = [
        _click(link, clock, "good"),
        _click(link, clock, ""),
        _click(link, clock, "kind", kind=TouchKind.COUPON),
        _click(link, clock, "late", at=now - timedelta(hours=73)),
        _click(link, clock, "early", at=now + timedelta(seconds=61)),
        _click(link, clock, "both", link_id=link.id),
        _click(link, clock, "none", link_code=None),
        _click(link, clock, "unknown", link_code="nosuchcode"),
        _click(link, clock, "unknown-id", link_code=None, link_id=LinkId.new()),
        _click(link, clock, "no-lead", kind=TouchKind.LEAD, contact_id=contact),
        _click(link, clock, "nobody", kind=TouchKind.LEAD, lead=LeadKind.CONTACT_ADDED),
        _click(link, clock, "lead-click", lead=LeadKind.CONTACT_ADDED, contact_id=contact),
        _click(link, clock, "foreign", contact_id=foreign),
        _click(link, clock, "agent", user_agent="x" * 1001),
        _click(link, clock, "id-too", link_code=None, link_id=link.id),
    ]
    done = await _tell(session, market.promoter, clock, *rows)
    assert [row.event_id for row in done.touches] == ["good", "id-too"]
    assert [(each.row, each.error.code, each.error.field) for each in done.errors] == [
        (2, "BAD_TOUCH", "eventId"), (3, "BAD_TOUCH", "kind"), (4, "BAD_TOUCH", "at"), (5, "BAD_TOUCH", "at"),
        (6, "BAD_TOUCH", "linkCode"), (7, "BAD_TOUCH", "linkCode"), (8, "LINK_NOT_FOUND", "linkCode"),
        (9, "LINK_NOT_FOUND", "linkId"), (10, "BAD_TOUCH", "lead"), (11, "BAD_TOUCH", "contactId"),
        (12, "BAD_TOUCH", "lead"), (13, "CONTACT_NOT_FOUND", "contactId"), (14, "BAD_TOUCH", "userAgent"),
    ]  # fmt: skip
    none = await _tell(
        session, market.promoter, clock, _click(link, clock, "a"), _click(link, clock, ""), all_or_none=True
    )
    assert (none.touches, [each.row for each in none.errors]) == ((), [2])
    assert len(await _stored(session)) == 2


async def test_a_link_of_others_and_a_time_before_it_was_made_are_refused(
    session: AsyncSession, market: Market, clock: FixedClock
) -> None:
    fresh = await make.link(session, market, clock)
    stranger = brand_actor(BrandId.new())
    done = await _tell(session, stranger, clock, _click(fresh, clock))
    assert [each.error.code for each in done.errors] == ["LINK_NOT_FOUND"]
    done = await _tell(
        session, market.promoter, clock, _click(fresh, clock, at=clock.now() - timedelta(seconds=1))
    )
    assert [(each.error.code, each.error.field) for each in done.errors] == [("BAD_TOUCH", "at")]


async def test_bots_and_repeats_are_marked_as_at_the_edge(
    session: AsyncSession, market: Market, link: CreatedLink, clock: FixedClock
) -> None:
    now = clock.now()
    done = await _tell(
        session, market.promoter, clock,
        _click(link, clock, "bot", user_agent="Googlebot/2.1"),
        _click(link, clock, "v1", session="visit", at=now - timedelta(seconds=90)),
        _click(link, clock, "v2", session="visit", at=now - timedelta(seconds=60)),
        _click(link, clock, "v3", session="visit", at=now - timedelta(seconds=59)),
        _click(link, clock, "other", session="another-visit"),
    )  # fmt: skip
    assert [row.repeat for row in done.touches] == [False, False, True, False, False]
    later = await _tell(
        session,
        market.promoter,
        clock,
        _click(link, clock, "v4", session="visit", at=now - timedelta(seconds=40)),
    )
    assert [row.repeat for row in later.touches] == [True]
    stored = {row.id: row for row in await _stored(session)}
    assert stored[done.touches[0].touch_id].is_bot
    assert stored[done.touches[2].touch_id].duplicate_of == done.touches[1].touch_id
    assert stored[later.touches[0].touch_id].duplicate_of == done.touches[3].touch_id


async def test_a_lead_binds_its_contact_and_a_repeat_extends_nothing(
    session: AsyncSession, market: Market, link: CreatedLink, clock: FixedClock
) -> None:
    contact, started = await _contact(session, market, clock), clock.now()

    async def lead(event: str, kind: LeadKind) -> Any:
        told = _click(link, clock, event, kind=TouchKind.LEAD, lead=kind, contact_id=contact)
        [row] = (await _tell(session, market.promoter, clock, told)).touches
        return row

    first = await lead("added", LeadKind.CONTACT_ADDED)
    assert (first.token, first.binds_until, first.repeat) == (None, started + timedelta(days=7), False)
    clock.advance(timedelta(days=6))
    joined = await lead("joined", LeadKind.GROUP_JOINED)
    assert (joined.binds_until, joined.repeat) == (None, True)
    clock.advance(timedelta(days=1))
    anew = await lead("again", LeadKind.CONTACT_ADDED)
    assert (anew.binds_until, anew.repeat) == (clock.now() + timedelta(days=7), False)

    found = await touch_facts_for(
        session,
        advertiser_id=market.merchant.brand_id,
        currency="CNY",
        signed=[],
        until=clock.now(),
        contact_ids=[contact],
    )
    assert [(fact.kind, fact.channel) for fact in found.touches] == 3 * [
        (TouchKind.LEAD, TouchChannel.PERSON)
    ]


async def test_a_lead_binds_nobody_where_the_agreement_says_no_days(
    session: AsyncSession, clock: FixedClock
) -> None:
    market = await make.market(session, brand_actor(BrandId.new()), brand_actor(BrandId.new()), clock)
    link, contact = await make.link(session, market, clock), await _contact(session, market, clock)
    told = _click(link, clock, kind=TouchKind.LEAD, lead=LeadKind.CONTACT_ADDED, contact_id=contact)
    [row] = (await _tell(session, market.promoter, clock, told)).touches
    assert (row.binds_until, row.repeat) == (None, False)


@pytest.mark.parametrize("count", [0, 1001])
async def test_a_batch_has_one_to_a_thousand_rows(
    session: AsyncSession, market: Market, link: CreatedLink, clock: FixedClock, count: int
) -> None:
    with pytest.raises(BatchTooLarge):
        await _tell(session, market.promoter, clock, *[_click(link, clock)] * count)


async def test_a_thousand_touches_take_as_many_statements_as_one_and_races_count_once(
    db: Database, clock: FixedClock
) -> None:
    merchant, promoter = brand_actor(BrandId.new()), brand_actor(BrandId.new())
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, merchant, promoter, clock, BINDS_A_WEEK)
        link = await make.link(session, market, clock)
    counts = []
    for rows in (1, 1000):
        told = [_click(link, clock, f"{rows}-{n}", session=f"v{n}") for n in range(rows)]
        with statements_of(db) as seen:
            async with db.unit_of_work(promoter) as session:
                await _tell(session, promoter, clock, *told)
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 9

    async def again() -> Recorded:
        async with db.unit_of_work(promoter) as session:
            return await _tell(
                session, promoter, clock, *[_click(link, clock, f"race{n}") for n in range(50)]
            )

    several = await asyncio.gather(*(again() for _ in range(4)))
    assert sum(not row.replayed for done in several for row in done.touches) == 50
    assert len({row.touch_id for done in several for row in done.touches}) == 50
    async with db.reading(SYSTEM) as session:
        assert await session.scalar(text("SELECT count(*) FROM touches")) == 1051
