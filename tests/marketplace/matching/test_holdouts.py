"""Who is not shown what an agreement is about: drawn by a keyed hash, the same in Python and in PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import FixedClock
from core.ids import BrandId, ContactId
from core.pagination import PageRequest
from marketplace.audiences.errors import CommunityNotFound, PlacementNotFound
from marketplace.matching import holdouts
from marketplace.matching.errors import BadHoldout, HoldoutNotFound, HoldoutRunning
from marketplace.matching.holdouts import Draw, NewHoldout
from marketplace.promotion.errors import AgreementNotFound
from tests.factories import audiences as people
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.promotion import Market

MERCHANT, PROMOTER, STRANGER = (brand_actor(BrandId.new()) for _ in range(3))
SECRET = "a secret of the tests, long enough to be one"
# The same people and the same draws each time: what chance allows, it does not do once in a million runs.
PEOPLE = [ContactId(int=number) for number in range(20_000)]


async def _market(session: AsyncSession, clock: FixedClock, members: int) -> tuple[Market, list[ContactId]]:
    market = await make.market(session, MERCHANT, PROMOTER, clock)
    joined = await people.members(
        session, PROMOTER, clock, market.community_id, [people.person() for _ in range(members)]
    )
    return market, joined


async def _shown(session: AsyncSession, market: Market) -> list[ContactId]:
    found: list[ContactId] = []
    after = None
    while True:
        request = PageRequest(100, after)
        page = await holdouts.shown_page(
            session, PROMOTER, market.placement_id, market.agreement_id, request, secret=SECRET
        )
        found += page.items
        if not page.has_next:
            return found
        after = page.cursors[-1]


def test_a_share_is_drawn_that_never_changes_and_grows_by_adding() -> None:
    """20,000 people at 20 %: 4,000 with a standard deviation of 57."""
    draw = UUID(int=1)
    fifth, half = (Draw(SECRET, draw, share) for share in (200_000, 500_000))
    held = {person for person in PEOPLE if fifth.holds_out(person)}
    assert abs(len(held) - 4_000) < 5 * 57
    assert held == {person for person in PEOPLE if Draw(SECRET, draw, 200_000).holds_out(person)}
    assert held < {person for person in PEOPLE if half.holds_out(person)}


def test_two_draws_are_as_chance_would_have_them_and_another_secret_is_another_draw() -> None:
    """Of the 50 % of one draw half are in another: 5,000 of 10,000, standard deviation 50."""
    first = {person for person in PEOPLE if Draw(SECRET, UUID(int=1), 500_000).holds_out(person)}
    for other in (Draw(SECRET, UUID(int=2), 500_000), Draw("another", UUID(int=1), 500_000)):
        both = sum(other.holds_out(person) for person in first)
        assert abs(both - len(first) / 2) < 5 * 50


async def test_a_slot_shows_to_all_but_the_held_out_and_to_all_again_when_it_ends(
    session: AsyncSession, clock: FixedClock
) -> None:
    market, members = await _market(session, clock, 230)
    assert await _shown(session, market) == sorted(members)
    wanted = NewHoldout(market.community_id, market.agreement_id, 300_000)
    id = await holdouts.start(session, MERCHANT, wanted, clock=clock)
    drawn = (await holdouts.holdout(session, PROMOTER, id)).drawn(SECRET)
    shown = [person for person in sorted(members) if not drawn.holds_out(person)]
    assert 100 < len(shown) < 230
    assert await _shown(session, market) == shown
    count = await holdouts.shown_count(
        session, PROMOTER, market.placement_id, market.agreement_id, secret=SECRET
    )
    assert count == len(shown)
    pair = (market.community_id, market.agreement_id)
    assert await holdouts.shares_of(session, [pair]) == {pair: 300_000}
    clock.advance(timedelta(days=30))
    await holdouts.end(session, MERCHANT, id, clock=clock)
    assert await _shown(session, market) == sorted(members)
    assert (await holdouts.holdout(session, PROMOTER, id)).ended_at == clock.now()


async def test_the_same_draw_holds_the_same_people_out_where_that_is_meant(
    session: AsyncSession, clock: FixedClock
) -> None:
    market, _ = await _market(session, clock, 1)
    second = await people.community(session, PROMOTER, clock)
    first = await holdouts.start(
        session, PROMOTER, NewHoldout(market.community_id, market.agreement_id, 100_000), clock=clock
    )
    wanted = NewHoldout(second, market.agreement_id, 100_000, same_as=first)
    again = await holdouts.start(session, PROMOTER, wanted, clock=clock)
    rows = [await holdouts.holdout(session, PROMOTER, id) for id in (first, again)]
    assert rows[0].draw == rows[1].draw


async def test_only_a_side_sets_it_the_other_cannot_end_it_and_members_are_the_brands_own(
    session: AsyncSession, clock: FixedClock
) -> None:
    market, _ = await _market(session, clock, 1)
    wanted = NewHoldout(market.community_id, market.agreement_id, 100_000)
    with pytest.raises(AgreementNotFound):
        await holdouts.start(session, STRANGER, wanted, clock=clock)
    for share in (9_999, 500_001):
        refused = NewHoldout(market.community_id, market.agreement_id, share)
        with pytest.raises(BadHoldout):
            await holdouts.start(session, MERCHANT, refused, clock=clock)
    own = await people.community(session, MERCHANT, clock)
    with pytest.raises(CommunityNotFound):
        await holdouts.start(session, MERCHANT, NewHoldout(own, market.agreement_id, 100_000), clock=clock)
    id = await holdouts.start(session, PROMOTER, wanted, clock=clock)
    with pytest.raises(HoldoutRunning):
        await holdouts.start(session, MERCHANT, wanted, clock=clock)
    with pytest.raises(HoldoutNotFound):
        await holdouts.end(session, MERCHANT, id, clock=clock)
    with pytest.raises(HoldoutNotFound):
        await holdouts.holdout(session, STRANGER, id)
    with pytest.raises(PlacementNotFound):
        await holdouts.shown_page(
            session, MERCHANT, market.placement_id, market.agreement_id, PageRequest(10), secret=SECRET
        )
