from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, MissingScope
from core.clock import FixedClock
from core.ids import BrandId, ContactId
from infra.db.session import Database
from marketplace.audiences import queries, service
from marketplace.audiences.errors import BatchTooLarge, CommunityNotFound, ContactNotFound
from marketplace.audiences.models import IdentifierKind
from marketplace.audiences.service import NewMember
from tests.factories import audiences as make
from tests.factories.brands import brand_actor, shopper

BRAND = brand_actor(BrandId.new())
OTHER = brand_actor(BrandId.new())
PHONE, EMAIL = IdentifierKind.PHONE, IdentifierKind.EMAIL


async def test_importing_the_same_rows_again_changes_nothing(
    session: AsyncSession, clock: FixedClock
) -> None:
    community = await make.community(session, BRAND, clock)
    people = [make.person("skincare", email=f"p{n}@example.com") for n in range(30)]

    first = await service.add_members(session, BRAND, community, people, vault=make.VAULT, clock=clock)
    again = await service.add_members(session, BRAND, community, people, vault=make.VAULT, clock=clock)

    assert (first.added, first.already, first.new_contacts) == (30, 0, 30)
    assert (again.added, again.already, again.new_contacts) == (0, 30, 0)
    assert first.contact_ids == again.contact_ids
    assert (await queries.community_profile(session, BRAND, community)).members == 30


async def test_bad_rows_are_named_and_the_good_ones_go_in(session: AsyncSession, clock: FixedClock) -> None:
    community = await make.community(session, BRAND, clock)
    rows = [
        NewMember([(PHONE, "13800138000")]),
        NewMember([(PHONE, "not a phone")]),
        NewMember([]),
        NewMember([(EMAIL, "mei@example.com")], tags=["x" * 65]),
        NewMember([(EMAIL, "mei@example.com")], points=-1),
        NewMember([(EMAIL, "mei@example.com")], currency="XXX"),
        NewMember([(EMAIL, "mei@example.com")], tags=["Skincare"]),
    ]

    done = await service.add_members(session, BRAND, community, rows, vault=make.VAULT, clock=clock)

    assert [(error.row, error.code) for error in done.errors] == [
        (2, "MALFORMED_IDENTIFIER"),
        (3, "NO_IDENTIFIER"),
        (4, "BAD_AUDIENCE_FIELD"),
        (5, "BAD_AUDIENCE_FIELD"),
        (6, "UNKNOWN_CURRENCY"),
    ]
    assert done.added == 2


async def test_rows_that_share_an_identifier_are_one_person(session: AsyncSession, clock: FixedClock) -> None:
    community = await make.community(session, BRAND, clock)
    rows = [
        NewMember([(PHONE, "13800138000")]),
        NewMember([(PHONE, "+8613800138000"), (EMAIL, "mei@example.com")]),
        NewMember([(EMAIL, "MEI@example.com")]),
        NewMember([(EMAIL, "lin@example.com")]),
        NewMember([(EMAIL, "mei@example.com"), (EMAIL, "lin@example.com")]),
    ]

    done = await service.add_members(session, BRAND, community, rows, vault=make.VAULT, clock=clock)

    assert done.new_contacts == done.added == 2
    assert done.contact_ids[0] == done.contact_ids[1] == done.contact_ids[2]
    assert [(error.row, error.code) for error in done.errors] == [(5, "IDENTIFIERS_DISAGREE")]
    found = await queries.find_contact(session, BRAND.brand_id, EMAIL, "mei@example.com", vault=make.VAULT)
    assert found == done.contact_ids[0]


async def test_the_database_keeps_no_identifier_in_the_clear(
    session: AsyncSession, clock: FixedClock
) -> None:
    community = await make.community(session, BRAND, clock)
    rows = [NewMember([(PHONE, "13800138000"), (EMAIL, "mei@example.com")])]
    await service.add_members(session, BRAND, community, rows, vault=make.VAULT, clock=clock)

    stored = (await session.execute(text("SELECT subject_key, ciphertext FROM contact_identifiers"))).all()

    assert len(stored) == 2
    for row in stored:
        for column in row:
            assert b"13800138000" not in column
            assert b"mei" not in column


async def test_profile_counts_tags_beside_the_whole_audience(
    session: AsyncSession, clock: FixedClock
) -> None:
    skincare, pets = [await make.community(session, BRAND, clock) for _ in range(2)]
    await make.members(session, BRAND, clock, skincare, [make.person("skincare") for _ in range(3)])
    await make.members(
        session, BRAND, clock, pets, [make.person("pets", "skincare"), make.person("pets"), make.person()]
    )

    profile = await queries.community_profile(session, BRAND, pets)

    assert profile.members == 3
    assert profile.brand_contacts == 6
    assert profile.tag_members == {"pets": 2, "skincare": 1}
    assert profile.brand_tag_contacts == {"pets": 2, "skincare": 4}


async def test_an_empty_community_has_an_empty_profile(session: AsyncSession, clock: FixedClock) -> None:
    community = await make.community(session, BRAND, clock)
    profile = await queries.community_profile(session, BRAND, community)
    assert (profile.members, profile.tag_members, profile.brand_contacts) == (0, {}, 0)


async def test_tagging_is_all_or_nothing_and_own_people_only(
    session: AsyncSession, clock: FixedClock
) -> None:
    community = await make.community(session, BRAND, clock)
    [mine] = await make.members(session, BRAND, clock, community, [make.person("new")])
    with pytest.raises(ContactNotFound):
        await service.tag_contacts(session, BRAND, [mine, ContactId.new()], ["vip"], clock=clock)
    with pytest.raises(ContactNotFound):
        await service.tag_contacts(session, OTHER, [mine], ["vip"], clock=clock)

    assert await service.tag_contacts(session, BRAND, [mine], ["VIP", "vip", "new"], clock=clock) == 2

    profile = await queries.community_profile(session, BRAND, community)
    assert profile.tag_members == {"new": 1, "vip": 1}


async def test_a_batch_has_a_limit(session: AsyncSession, clock: FixedClock) -> None:
    community = await make.community(session, BRAND, clock)
    people = [make.person() for _ in range(1001)]
    with pytest.raises(BatchTooLarge):
        await service.add_members(session, BRAND, community, people, vault=make.VAULT, clock=clock)


async def test_a_shopper_and_another_brand_reach_no_community(
    session: AsyncSession, clock: FixedClock
) -> None:
    community = await make.community(session, BRAND, clock)
    with pytest.raises(CommunityNotFound):
        await queries.community(session, OTHER, community)
    with pytest.raises(CommunityNotFound):
        await service.add_members(session, OTHER, community, [make.person()], vault=make.VAULT, clock=clock)
    with pytest.raises(CommunityNotFound):
        await make.placement(session, OTHER, clock, community)
    with pytest.raises(MissingScope):
        await make.placement(session, shopper(BRAND.brand_id), clock, community)


async def test_row_level_security_hides_another_brands_people(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(BRAND) as session:
        community = await make.community(session, BRAND, clock)
        await make.placement(session, BRAND, clock, community)
        await make.members(session, BRAND, clock, community, [make.person("vip")])
    tables = (
        "communities", "community_members", "contacts", "contact_identifiers", "contact_tags", "placements",
    )  # fmt: skip
    for table in tables:
        async with db.reading(BRAND) as session:
            assert (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 1, table
        async with db.reading(OTHER) as session:
            assert (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 0, table


async def test_two_imports_of_the_same_people_at_once_make_them_once(db: Database, clock: FixedClock) -> None:
    async with db.unit_of_work(BRAND) as session:
        community = await make.community(session, BRAND, clock)
    people = [make.person(email=f"p{n}@example.com") for n in range(50)]

    async def import_them() -> int:
        async with db.unit_of_work(BRAND) as session:
            done = await service.add_members(session, BRAND, community, people, vault=make.VAULT, clock=clock)
        return done.new_contacts

    assert sorted(await asyncio.gather(*[import_them() for _ in range(4)])) == [0, 0, 0, 50]
    async with db.reading(SYSTEM) as session:
        assert (await session.execute(text("SELECT count(*) FROM contacts"))).scalar() == 50
