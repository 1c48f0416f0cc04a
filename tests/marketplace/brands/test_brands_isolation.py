"""The application's role sees nothing of another tenant, whatever the statement."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.actor import Actor
from core.clock import FixedClock
from core.ids import BrandId
from core.pagination import PageRequest
from infra.db.session import Database
from marketplace.brands import queries, service
from marketplace.brands.errors import BrandNotFound, StorefrontNotFound
from tests.factories.brands import committed_brand, committed_storefront, committed_supplier, shopper

TABLES = ("tenants", "users", "memberships", "api_tokens", "brand_profiles", "storefronts")


async def counts(db: Database, actor: Actor | None) -> dict[str, int]:
    seen = {}
    for table in TABLES:
        if actor is None:
            async with db.engine.connect() as connection:
                seen[table] = (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
        else:
            async with db.reading(actor) as session:
                seen[table] = (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
    return seen


async def test_each_tenant_sees_its_own_rows_only(db: Database, clock: FixedClock) -> None:
    mine, _ = await committed_brand(db, clock)
    theirs, _ = await committed_brand(db, clock)
    supplier, _ = await committed_supplier(db, clock)
    await committed_storefront(db, clock, theirs)

    assert await counts(db, mine) == dict.fromkeys(TABLES, 1) | {"storefronts": 0}
    assert await counts(db, theirs) == dict.fromkeys(TABLES, 1)
    assert await counts(db, supplier) == dict.fromkeys(TABLES, 1) | {"storefronts": 0, "brand_profiles": 0}


async def test_nobody_sees_nothing(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    await committed_storefront(db, clock, brand)
    async with db.unit_of_work(brand) as session:
        await service.update_profile(session, brand, discoverable=True, clock=clock)

    assert await counts(db, None) == dict.fromkeys(TABLES, 0)


async def test_a_shopper_sees_no_token_and_no_person_of_the_brand(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    made = await committed_storefront(db, clock, brand)

    assert await counts(db, made.actor) == dict.fromkeys(TABLES, 0) | {"storefronts": 1}
    with pytest.raises(DBAPIError, match="row-level security"):
        async with db.unit_of_work(made.actor) as session:
            await session.execute(text("UPDATE storefronts SET publishable_key = 'pk_mine'"))


@pytest.mark.parametrize("table", TABLES)
async def test_no_row_of_another_tenant_can_be_changed(db: Database, clock: FixedClock, table: str) -> None:
    mine, _ = await committed_brand(db, clock)
    theirs, _ = await committed_brand(db, clock)
    await committed_storefront(db, clock, theirs)
    own = "tenant_id" if table in ("memberships", "api_tokens") else "brand_id"
    own = {"tenants": "id", "users": "id"}.get(table, own)

    async with db.unit_of_work(mine) as session:
        result = await session.execute(
            text(f"DELETE FROM {table} WHERE {own} <> :me"), {"me": mine.tenant_id}
        )
        assert result.rowcount == 0  # type: ignore[attr-defined]


async def test_no_token_can_be_written_for_another_tenant(db: Database, clock: FixedClock) -> None:
    mine, _ = await committed_brand(db, clock)
    theirs, _ = await committed_brand(db, clock)

    with pytest.raises(DBAPIError, match="row-level security"):
        async with db.unit_of_work(mine) as session:
            await session.execute(text("UPDATE api_tokens SET tenant_id = :them"), {"them": theirs.tenant_id})


async def test_a_discoverable_brand_is_found_and_a_hidden_one_is_not(db: Database, clock: FixedClock) -> None:
    mine, _ = await committed_brand(db, clock)
    hidden, _ = await committed_brand(db, clock)
    shown, _ = await committed_brand(db, clock, name="Open House")
    async with db.unit_of_work(shown) as session:
        await service.update_profile(session, shown, categories=["tea"], discoverable=True, clock=clock)

    async with db.reading(mine) as session:
        page = await queries.brands_page(session, mine, PageRequest(first=10))
        assert [b.id for b in page.items] == [mine.brand_id, shown.brand_id]
        assert await queries.brands_count(session, mine) == 2
        of_tea = await queries.brands_page(session, mine, PageRequest(), category="tea")
        assert [b.id for b in of_tea.items] == [shown.brand_id]
        for nobody in (hidden.brand_id, BrandId.new()):
            with pytest.raises(BrandNotFound):
                await queries.brand(session, mine, nobody)


async def test_pages_of_brands_join_without_gap_or_repeat(db: Database, clock: FixedClock) -> None:
    made = [await committed_brand(db, clock) for _ in range(5)]
    for actor, _ in made:
        async with db.unit_of_work(actor) as session:
            await service.update_profile(session, actor, discoverable=True, clock=clock)
    supplier, _ = await committed_supplier(db, clock)

    seen, after = [], None
    async with db.reading(supplier) as session:
        while True:
            page = await queries.brands_page(session, supplier, PageRequest(first=2, after=after))
            seen += [b.id for b in page.items]
            if not page.has_next:
                break
            after = page.cursors[-1]
    assert seen == [actor.brand_id for actor, _ in made]


async def test_names_answer_to_ids_and_to_nobody_unknown(db: Database, clock: FixedClock) -> None:
    mine, _ = await committed_brand(db, clock)
    supplier, _ = await committed_supplier(db, clock, name="North Mill")
    assert supplier.tenant_id is not None

    async with db.reading(mine) as session:
        names = await queries.tenant_names(session, [supplier.tenant_id, BrandId.new()])
    assert {i: n.name for i, n in names.items()} == {supplier.tenant_id: "North Mill"}
    async with db.engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT * FROM tenant_names(ARRAY[:id]::uuid[])"), {"id": mine.tenant_id}
        )
        assert rows.all() == []


async def test_another_brands_storefront_is_not_found(db: Database, clock: FixedClock) -> None:
    mine, _ = await committed_brand(db, clock)
    theirs, _ = await committed_brand(db, clock)
    made = await committed_storefront(db, clock, theirs)

    async with db.reading(mine) as session:
        with pytest.raises(StorefrontNotFound):
            await queries.storefront(session, mine, made.id)
        with pytest.raises(StorefrontNotFound):
            await service.update_storefront(session, mine, made.id, name="stolen")
    assert shopper(theirs.brand_id, made.id) == made.actor
