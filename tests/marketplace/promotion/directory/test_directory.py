"""The partner directory: who is found, by what, and that nobody who did not ask to be found ever is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, WrongTenant
from core.clock import FixedClock
from core.ids import BrandId, StorefrontId
from core.pagination import BadPage, PageRequest, encode_cursor
from infra.db.session import Database
from marketplace.promotion.directory import publishing, queries
from marketplace.promotion.directory.errors import BadPartnerProfile, PartnerNotFound, PartnerProfileChanged
from marketplace.promotion.directory.models import AudienceBand, PartnerRole
from marketplace.promotion.directory.queries import PartnerFilter, PartnerSort
from marketplace.promotion.directory.recording import count_records, keep_track_records
from tests.factories import directory as make
from tests.factories import promotion
from tests.factories.brands import brand_actor, shopper


def _brand() -> Actor:
    return brand_actor(BrandId.new())


@pytest.fixture
def reader() -> Actor:
    return _brand()


async def _found(session: AsyncSession, reader: Actor, **filter: object) -> list[str]:
    page = await queries.partners_page(session, reader, PartnerFilter(**filter), PageRequest())  # type: ignore[arg-type]
    return [row.headline for row in page.items]


async def test_found_by_words_goods_place_reach_and_rate(
    session: AsyncSession, reader: Actor, clock: FixedClock
) -> None:
    await make.listed(session, _brand(), clock, headline="温和护肤 for dry skin")
    clock.advance(timedelta(minutes=1))
    await make.listed(
        session, _brand(), clock, headline="Trail shoes 越野跑鞋", categories=("sport/shoes",), regions=("DE",),
        roles=(PartnerRole.ADVERTISER,), audience_band=None, rate_min_ppm=200_000, rate_max_ppm=250_000,
        seeks="runners' clubs",
    )  # fmt: skip

    skin, shoes = "温和护肤 for dry skin", "Trail shoes 越野跑鞋"
    assert await _found(session, reader) == [shoes, skin]
    assert await _found(session, reader, text="护肤") == [skin]
    assert await _found(session, reader, text="runners club") == [shoes]
    assert await _found(session, reader, text="跑鞋 nonsense") == [shoes]  # nobody has both: any will do
    assert await _found(session, reader, text="nothing of this") == []
    assert await _found(session, reader, text="。、！") == []
    assert await _found(session, reader, category="beauty") == [skin]
    assert await _found(session, reader, category="beauty/skin") == [skin]
    assert await _found(session, reader, category="beaut") == []
    assert await _found(session, reader, region="CN") == [skin]
    assert await _found(session, reader, region="CN-SH") == [skin]
    assert await _found(session, reader, region="CN-BJ") == []
    assert await _found(session, reader, region="DE-BY") == [shoes]  # the whole country serves Bavaria
    assert await _found(session, reader, role=PartnerRole.PROMOTER) == [skin]
    assert await _found(session, reader, audience_bands=[AudienceBand.FROM_10K]) == [skin]
    assert await _found(session, reader, rate_at_least_ppm=160_000) == [shoes]
    assert await _found(session, reader, rate_at_most_ppm=100_000) == [skin]
    assert await _found(session, reader, rate_at_least_ppm=100_000, rate_at_most_ppm=210_000) == [shoes, skin]


async def test_pages_go_through_everybody_once_in_every_order(
    session: AsyncSession, reader: Actor, clock: FixedClock
) -> None:
    for number in range(7):
        await make.listed(session, _brand(), clock, headline=f"护肤 {number}")
        if number % 2:
            clock.advance(timedelta(seconds=1))
    for sort in PartnerSort:
        filter = PartnerFilter(text="护肤" if sort is PartnerSort.BEST_MATCH else "", sort=sort)
        seen: list[str] = []
        after = None
        while True:
            page = await queries.partners_page(session, reader, filter, PageRequest(3, after))
            seen += [row.headline for row in page.items]
            if not page.has_next:
                break
            after = page.cursors[-1]
        assert sorted(seen) == [f"护肤 {number}" for number in range(7)]
        assert await queries.partners_count(session, reader, filter) == 7
    cursors = []
    for sort in PartnerSort:
        filter = PartnerFilter(sort=sort)
        cursors.append((await queries.partners_page(session, reader, filter, PageRequest(3))).cursors[-1])
    for cursor in cursors:  # of one order in another: some page, never a failure
        for sort in PartnerSort:
            await queries.partners_page(session, reader, PartnerFilter(sort=sort), PageRequest(3, cursor))
    nobody = str(BrandId.new())
    for bad in ("bm9uc2Vuc2U", encode_cursor("all", str(2**63), nobody), encode_cursor("all", "x", nobody)):
        with pytest.raises(BadPage):
            await queries.partners_page(session, reader, PartnerFilter(), PageRequest(3, bad))


async def test_a_profile_keeps_every_version_and_leaves_at_once(
    session: AsyncSession, reader: Actor, clock: FixedClock
) -> None:
    brand = _brand()
    assert await make.listed(session, brand, clock) == 1
    assert await make.listed(session, brand, clock) == 1  # the same words are no new version
    clock.advance(timedelta(days=1))
    raised = make.profile(rate_max_ppm=200_000)
    assert await publishing.publish(session, brand, raised, expected_version=1, clock=clock) == 2
    with pytest.raises(PartnerProfileChanged) as late:
        await publishing.publish(session, brand, make.profile(), expected_version=1, clock=clock)
    assert (late.value.expected, late.value.current) == (1, 2)

    found = await queries.partner(session, reader, brand.brand_id)
    assert (found.version, found.rate_max_ppm) == (2, 200_000)
    assert found.updated_at - found.listed_at == timedelta(days=1)
    history = (await queries.profile_history(session, [brand.brand_id]))[brand.brand_id]
    assert [(each.version, each.profile.rate_max_ppm) for each in history] == [(2, 200_000), (1, 150_000)]

    assert await publishing.withdraw(session, brand, clock=clock) == 3
    assert await publishing.withdraw(session, brand, clock=clock) == 3
    with pytest.raises(PartnerNotFound):
        await queries.partner(session, reader, brand.brand_id)
    assert await _found(session, reader) == []
    own = await queries.own_profile(session, brand)
    assert own is not None
    assert (own.version, own.status) == (3, "WITHDRAWN")
    assert await publishing.publish(session, brand, raised, clock=clock) == 4
    assert len(await _found(session, reader)) == 1


async def test_nobody_who_is_not_listed_or_not_active_is_found(
    session: AsyncSession, reader: Actor, clock: FixedClock
) -> None:
    silent, suspended = _brand(), _brand()
    await promotion.known(session, clock, silent)
    await make.listed(session, suspended, clock)
    await session.execute(
        text("UPDATE tenants SET status = 'suspended' WHERE id = :id"), {"id": suspended.brand_id}
    )
    assert await _found(session, reader) == []
    for brand in (silent, suspended):
        with pytest.raises(PartnerNotFound):
            await queries.partner(session, reader, brand.brand_id)
    with pytest.raises(PartnerNotFound):
        await publishing.withdraw(session, silent, clock=clock)
    await session.execute(
        text("UPDATE tenants SET status = 'active' WHERE id = :id"), {"id": suspended.brand_id}
    )
    assert len(await _found(session, reader)) == 1
    assert await _found(session, suspended) == []  # one's own brand is no partner


async def test_a_shopper_reads_no_directory(session: AsyncSession) -> None:
    actor = replace(shopper(BrandId.new(), StorefrontId.new()), scopes=frozenset({"promotion:read"}))
    with pytest.raises(WrongTenant):
        await queries.partners_page(session, actor, PartnerFilter(), PageRequest())


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"headline": " "}, "headline"),
        ({"headline": "two\nlines"}, "headline"),
        ({"roles": ()}, "roles"),
        ({"offers": "x" * 2_001}, "offers"),
        ({"seeks": "\x00"}, "seeks"),
        ({"categories": ("Beauty",)}, "categories"),
        ({"categories": ()}, "categories"),
        ({"audience_band": None}, "audienceBand"),
        ({"regions": ("China",)}, "regions"),
        ({"rate_min_ppm": 160_000}, "rateMaxPpm"),
        ({"rate_max_ppm": None}, "rateMinPpm"),
        ({"rate_max_ppm": 900_001}, "rateMaxPpm"),
        ({"window_s": 60}, "windowS"),
        ({"return_window_days": 8}, "returnWindowDays"),
    ],
)
async def test_a_profile_that_cannot_be_is_refused_by_field(
    session: AsyncSession, clock: FixedClock, facts: dict[str, object], field: str
) -> None:
    with pytest.raises(BadPartnerProfile) as refused:
        await make.listed(session, _brand(), clock, **facts)
    assert refused.value.field == field


async def test_versions_cannot_be_rewritten(session: AsyncSession, clock: FixedClock) -> None:
    await make.listed(session, _brand(), clock)
    with pytest.raises(DBAPIError, match="append-only"):
        await session.execute(text("UPDATE partner_profiles SET profile = '{}'"))


async def test_the_record_is_counted_from_clicks_and_orders_of_both_sides(
    session: AsyncSession, reader: Actor, clock: FixedClock
) -> None:
    merchant = _brand()
    await make.listed(session, merchant, clock)
    for number in range(3):
        market = await promotion.market(session, merchant, _brand(), clock)
        await make.sales(session, market, clock, clicks=200, orders=10 + number, refunded=number)

    assert await count_records(session, clock.now()) == 4

    own = await queries.own_counts(session, merchant)
    counts = own[PartnerRole.ADVERTISER]
    assert (counts.clicks, counts.orders, counts.refunded_orders, counts.partners) == (600, 33, 3, 3)
    assert PartnerRole.PROMOTER not in own
    seen = (await queries.partner(session, reader, merchant.brand_id)).records[PartnerRole.ADVERTISER]
    assert (seen.conversion_ppm, seen.refund_ppm) == (55_000, 91_000)  # 33 / 600, 3 / 33
    assert (seen.orders_from, seen.partners_from, seen.dispute_ppm) == (30, 3, 0)
    seller = await queries.own_counts(session, market.promoter)
    assert (seller[PartnerRole.PROMOTER].orders, seller[PartnerRole.PROMOTER].partners) == (12, 1)


async def test_punctual_is_what_was_paid_by_the_day_that_its_line_gave(
    session: AsyncSession, reader: Actor, clock: FixedClock
) -> None:
    merchant, day = _brand(), timedelta(days=1)
    await make.listed(session, merchant, clock)
    ordered, expected = clock.now(), clock.now() + 20 * day
    lines = []
    for _ in range(3):
        market = await promotion.market(session, merchant, _brand(), clock)
        lines += await make.sales(session, market, clock, clicks=14, orders=14)
    states = (
        20 * [("PAID", expected)]
        + 10 * [("PAID", expected + 3 * day)]
        + 6 * [("PAID", expected + 3 * day + timedelta(seconds=1))]
        + 4 * [("PENDING", None)]
        + [("CONFIRMED", None)]  # waits for the payee
        + [("INVALID", None)]
    )
    for order_id, (status, paid_at) in zip(lines, states, strict=True):
        await session.execute(
            text(
                "UPDATE commission_lines SET status = :status, payable_at = :paid, paid_at = :paid,"
                " expected_pay_at = :expected WHERE order_id = :order"
            ),
            {"status": status, "paid": paid_at, "expected": expected, "order": order_id},
        )
    await count_records(session, ordered + 22 * day)
    own = (await queries.own_counts(session, merchant))[PartnerRole.ADVERTISER]
    assert (own.commissions_due, own.commissions_in_time) == (0, 0)  # the third day is not over

    await count_records(session, ordered + 24 * day)
    own = (await queries.own_counts(session, merchant))[PartnerRole.ADVERTISER]
    assert (own.commissions_due, own.commissions_in_time) == (40, 30)
    seen = (await queries.partner(session, reader, merchant.brand_id)).records[PartnerRole.ADVERTISER]
    assert seen.punctual_ppm == 750_000


async def test_a_record_forgets_what_is_older_than_ninety_days(
    session: AsyncSession, reader: Actor, clock: FixedClock
) -> None:
    merchant = _brand()
    await make.listed(session, merchant, clock)
    for _ in range(3):
        market = await promotion.market(session, merchant, _brand(), clock)
        await make.sales(session, market, clock, clicks=120, orders=11)
    await count_records(session, clock.now())
    assert (await queries.partner(session, reader, merchant.brand_id)).records
    clock.advance(timedelta(days=140))  # what was to be paid after 45 days is 90 days old as well
    assert await count_records(session, clock.now()) == 0
    assert await queries.own_counts(session, merchant) == {}
    assert (await queries.partner(session, reader, merchant.brand_id)).records == {}


async def test_the_sweep_counts_once_an_hour(db: Database, clock: FixedClock) -> None:
    merchant, promoter = _brand(), _brand()
    async with db.unit_of_work(SYSTEM) as session:
        market = await promotion.market(session, merchant, promoter, clock)
        await make.sales(session, market, clock, clicks=1, orders=1)
    assert await keep_track_records(db, clock=clock) == 2
    assert await keep_track_records(db, clock=clock) == 0
    clock.advance(timedelta(hours=1))
    assert await keep_track_records(db, clock=clock) == 2


async def test_another_brand_reads_rates_and_never_counts(db: Database, clock: FixedClock) -> None:
    merchant, stranger = _brand(), _brand()
    async with db.unit_of_work(SYSTEM) as session:
        await make.listed(session, merchant, clock)
        market = await promotion.market(session, merchant, _brand(), clock)
        await make.sales(session, market, clock, clicks=1, orders=1)
        await count_records(session, clock.now())
    async with db.reading(stranger) as session:
        assert (await session.execute(text("SELECT * FROM partner_records"))).all() == []
        assert len((await session.execute(text("SELECT * FROM partner_listings"))).all()) == 1
        assert len(await queries.profile_history(session, [merchant.brand_id])) == 1
    async with db.unit_of_work(merchant) as session:
        await publishing.withdraw(session, merchant, clock=clock)
    async with db.reading(stranger) as session:
        assert await queries.profile_history(session, [merchant.brand_id]) == {}
