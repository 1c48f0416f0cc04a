from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, MissingScope
from core.clock import FixedClock
from core.errors import LianyuError
from core.ids import BrandId, SupplierId, TokenId
from core.money import UnknownCurrency
from infra.db.session import Database
from marketplace.brands import queries, service
from marketplace.brands.errors import (
    EmailTaken,
    ExpiredToken,
    ExpiryInThePast,
    InvalidCountry,
    InvalidEmail,
    InvalidName,
    InvalidPublishableKey,
    InvalidToken,
    RevokedToken,
    ScopeNotHeld,
    TokenAlreadyRevoked,
    TokenNotFound,
    UnknownScope,
)
from marketplace.brands.models import StorefrontStatus
from tests.factories.brands import brand_actor, committed_brand, committed_storefront, signed_up
from tests.fixtures.statements import statements_of


async def test_a_token_of_each_kind_opens_its_own_tenant(session: AsyncSession, clock: FixedClock) -> None:
    brand = await signed_up(session, clock, "brand")
    supplier = await signed_up(session, clock, "supplier")
    platform = await signed_up(session, clock, "platform")

    assert [t.token[: t.token.rindex("_") + 1] for t in (brand, supplier, platform)] == [
        "lyb_live_",
        "lys_",
        "lyo_",
    ]
    assert (await service.authenticate(session, brand.token, clock=clock)).brand_id == brand.tenant_id
    seen = await service.authenticate(session, supplier.token, clock=clock)
    assert seen.supplier_id == supplier.tenant_id
    assert isinstance(brand.tenant_id, BrandId)
    assert isinstance(supplier.tenant_id, SupplierId)
    operator = await service.authenticate(session, platform.token, clock=clock)
    assert operator.sees_everything
    operator.require("platform:admin")
    with pytest.raises(MissingScope):
        seen.require("catalog:write")


async def test_only_the_hash_of_a_token_is_kept(session: AsyncSession, clock: FixedClock) -> None:
    made = await signed_up(session, clock)

    row = (await session.execute(text("SELECT t::text FROM api_tokens t"))).scalar_one()

    assert made.token not in row
    assert made.token[len("lyb_live_") + 4 :] not in row
    assert made.token not in repr(made)


@pytest.mark.parametrize(
    "forged",
    ["", "lyb_live_", "lyb_live_" + "x" * 40, "Bearer x", "lys_" + "é" * 40, "lyb_live_" + "x" * 10_000],
)
async def test_what_is_no_token_opens_nothing(session: AsyncSession, clock: FixedClock, forged: str) -> None:
    await signed_up(session, clock)

    with pytest.raises(InvalidToken):
        await service.authenticate(session, forged, clock=clock)


async def test_an_expired_token_opens_nothing(session: AsyncSession, clock: FixedClock) -> None:
    made = await signed_up(session, clock)
    actor = await service.authenticate(session, made.token, clock=clock)
    issued = await service.issue_token(
        session,
        actor,
        name="short",
        scopes=["catalog:read"],
        expires_at=clock.now() + timedelta(hours=1),
        clock=clock,
    )
    await service.authenticate(session, issued.token, clock=clock)

    clock.advance(timedelta(hours=1))

    with pytest.raises(ExpiredToken):
        await service.authenticate(session, issued.token, clock=clock)


async def test_a_revoked_token_opens_nothing(session: AsyncSession, clock: FixedClock) -> None:
    made = await signed_up(session, clock)
    actor = await service.authenticate(session, made.token, clock=clock)
    assert actor.token_id is not None

    await service.revoke_token(session, actor, actor.token_id, clock=clock)

    with pytest.raises(RevokedToken):
        await service.authenticate(session, made.token, clock=clock)
    with pytest.raises(TokenAlreadyRevoked):
        await service.revoke_token(session, actor, actor.token_id, clock=clock)


async def test_a_suspended_tenants_token_opens_nothing(session: AsyncSession, clock: FixedClock) -> None:
    made = await signed_up(session, clock)
    await session.execute(text("UPDATE tenants SET status = 'suspended'"))

    with pytest.raises(InvalidToken):
        await service.authenticate(session, made.token, clock=clock)


async def test_rotation_keeps_scopes_and_stops_the_old_secret(
    session: AsyncSession, clock: FixedClock
) -> None:
    made = await signed_up(session, clock)
    actor = await service.authenticate(session, made.token, clock=clock)
    narrow = await service.issue_token(
        session, actor, name="reader", scopes=["catalog:read"], expires_at=None, clock=clock
    )

    rotated = await service.rotate_token(session, actor, narrow.id, clock=clock)

    with pytest.raises(RevokedToken):
        await service.authenticate(session, narrow.token, clock=clock)
    assert (await service.authenticate(session, rotated.token, clock=clock)).scopes == {"catalog:read"}


async def test_nobody_grants_what_they_do_not_hold(session: AsyncSession, clock: FixedClock) -> None:
    made = await signed_up(session, clock)
    owner = await service.authenticate(session, made.token, clock=clock)
    helper = await service.issue_token(
        session, owner, name="h", scopes=["tokens:write", "catalog:read"], expires_at=None, clock=clock
    )
    actor = await service.authenticate(session, helper.token, clock=clock)

    for scopes, error in (
        (["catalog:write"], ScopeNotHeld),
        (["platform:admin"], UnknownScope),
        (["fulfillment:write"], UnknownScope),
        (["nonsense"], UnknownScope),
        ([], UnknownScope),
    ):
        with pytest.raises(error):
            await service.issue_token(session, actor, name="x", scopes=scopes, expires_at=None, clock=clock)
    with pytest.raises(ExpiryInThePast):
        await service.issue_token(
            session, actor, name="x", scopes=["catalog:read"], expires_at=clock.now(), clock=clock
        )


async def test_another_tenants_token_cannot_be_touched(session: AsyncSession, clock: FixedClock) -> None:
    mine, theirs = await signed_up(session, clock), await signed_up(session, clock)
    me = await service.authenticate(session, mine.token, clock=clock)
    them = await service.authenticate(session, theirs.token, clock=clock)
    assert them.token_id is not None

    # The session is SYSTEM's: the service must refuse even where row-level security would not.
    with pytest.raises(TokenNotFound):
        await service.revoke_token(session, me, them.token_id, clock=clock)
    with pytest.raises(TokenNotFound):
        await service.rotate_token(session, me, TokenId.new(), clock=clock)


async def test_sign_up_twice_with_one_address_is_refused(session: AsyncSession, clock: FixedClock) -> None:
    await signed_up(session, clock, email="li@example.com")

    with pytest.raises(EmailTaken):
        await signed_up(session, clock, email=" LI@Example.com ")


async def test_two_tenants_of_one_name_get_two_slugs(session: AsyncSession, clock: FixedClock) -> None:
    slugs = [
        (await signed_up(session, clock, name=n)).slug for n in ("Jade Garden", "Jade Garden", "玉园", "玉园")
    ]

    assert slugs[0] == "jade-garden"
    assert slugs[1].startswith("jade-garden-")
    assert slugs[2].startswith("brand-")
    assert len(set(slugs)) == 4


@pytest.mark.parametrize(
    ("facts", "error"),
    [
        ({"name": "  "}, InvalidName),
        ({"name": "a\nb"}, InvalidName),
        ({"name": "x" * 121}, InvalidName),
        ({"email": "nobody"}, InvalidEmail),
        ({"email": "a@b"}, InvalidEmail),
        ({"country": "china"}, InvalidCountry),
        ({"currency": "XXX"}, UnknownCurrency),
    ],
)
async def test_sign_up_refuses_nonsense(
    session: AsyncSession, clock: FixedClock, facts: dict[str, str], error: type[LianyuError]
) -> None:
    with pytest.raises(error):
        await signed_up(session, clock, **facts)


async def test_a_publishable_key_opens_only_an_active_storefront(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    made = await committed_storefront(db, clock, brand, currency="USD", country="US")

    async with db.engine.connect() as connection:  # nobody was introduced
        actor, facts = await service.authenticate_storefront(connection, made.key)
        assert (facts.brand_id, facts.currency, facts.country) == (brand.brand_id, "USD", "US")
        assert actor.storefront_id == made.id
        assert "catalog:read" not in actor.scopes
        for wrong in ("", "pk_", "pk_" + "a" * 40, made.key.upper()):
            with pytest.raises(InvalidPublishableKey):
                await service.authenticate_storefront(connection, wrong)
    async with db.unit_of_work(brand) as session:
        key = await service.update_storefront(session, brand, made.id, status=StorefrontStatus.PAUSED)
    assert key == made.key
    async with db.engine.connect() as connection:
        with pytest.raises(InvalidPublishableKey):
            await service.authenticate_storefront(connection, made.key)


async def test_use_of_a_token_is_noted_once_a_minute(db: Database, clock: FixedClock) -> None:
    brand, token = await committed_brand(db, clock)

    async def used() -> datetime | None:
        async with db.unit_of_work(SYSTEM) as session:
            await service.authenticate(session, token, clock=clock)
        async with db.reading(brand) as session:
            return (await queries.tokens_of(session, brand))[0].last_used_at

    first = clock.now()
    assert await used() == first
    clock.advance(timedelta(seconds=59))
    assert await used() == first
    assert await used() == first
    clock.advance(timedelta(seconds=1))
    assert await used() == clock.now()


async def test_authentication_is_one_statement(db: Database, clock: FixedClock) -> None:
    _, token = await committed_brand(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await service.authenticate(session, token, clock=clock)
    with statements_of(db) as statements:
        async with db.engine.connect() as connection:
            await service.authenticate(connection, token, clock=clock)

    assert len(statements) == 1


async def test_a_profile_is_changed_by_its_own_brand(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    async with db.unit_of_work(brand) as session:
        await service.update_profile(
            session,
            brand,
            name_zh="玉园",
            categories=["beauty/skin", "beauty/skin"],
            discoverable=True,
            clock=clock,
        )
    async with db.reading(SYSTEM) as session:
        seen = await queries.brand(session, SYSTEM, brand.brand_id)
    assert (seen.name_zh, seen.categories, seen.discoverable) == ("玉园", ["beauty/skin"], True)
    with pytest.raises(MissingScope):
        async with db.unit_of_work(brand) as session:
            await service.update_profile(
                session, type(brand)(brand.kind, brand.tenant_id), discoverable=False, clock=clock
            )
    assert brand_actor(brand.brand_id) == brand
