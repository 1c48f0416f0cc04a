from __future__ import annotations

from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import ProductId
from core.money import Money
from infra.db.session import Database
from infra.search.filters import Eq, Field
from infra.search.index import Document, SearchQuery, Shelf
from infra.search.postgres_index import PostgresIndex
from marketplace.catalog import service
from marketplace.catalog.events import ProductChanged, ProductsChanged
from marketplace.catalog.service import NewVariant, ProductText
from marketplace.matching import documents
from tests.factories import supply
from tests.factories.brands import committed_brand
from tests.factories.catalog import MadeProduct, committed_product, priced

INDEX = PostgresIndex()


async def indexed(db: Database, clock: FixedClock, *products: MadeProduct) -> None:
    for made in products:
        async with db.unit_of_work(SYSTEM) as session:
            event = ProductChanged(made.id, made.brand_id)
            await documents.on_product_changed(session, event, clock=clock, search=INDEX)


async def found(db: Database, brand: Actor, **query: Any) -> list[ProductId]:
    async with db.reading(brand) as session:
        page = await INDEX.search(session, SearchQuery(shelves=[Shelf(brand.brand_id)], **query))
        return [hit.product_id for hit in page.hits]


async def test_a_product_is_found_by_everything_it_says(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock, name="Jade Garden")
    variants = [
        NewVariant(
            "JG-77", priced("x", "10.00", Money(150, "USD")).prices, title="Refill", options={"tone": "coral"}
        ),
        priced("JG-78", "25.00"),
    ]
    made = await committed_product(
        db, clock, brand, title_zh="保湿面霜", category="beauty/skin", tags=["vegan"],
        attributes={"origin": "Yunnan"}, description_en="For winter", variants=variants,
    )  # fmt: skip
    await indexed(db, clock, made)

    for words in (
        "面霜",
        "moist",
        "jade garden",
        "skin",
        "vegan",
        "yunnan",
        "winter",
        "JG-77",
        "refill",
        "coral",
    ):
        assert await found(db, brand, text=words) == [made.id], words
    async with db.reading(SYSTEM) as session:
        row = (
            await session.execute(text("SELECT prices::text, categories, in_stock FROM search_documents"))
        ).one()
    assert row == ('{"CNY": [1000, 2500], "USD": [150, 150]}', ["beauty", "beauty/skin"], False)


async def test_what_goes_off_view_is_found_no_more(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    made = await committed_product(db, clock, brand)
    await indexed(db, clock, made)
    assert await found(db, brand) == [made.id]

    async with db.unit_of_work(brand) as session:
        await service.withdraw(session, brand, made.id, clock=clock)
    await indexed(db, clock, made)
    assert await found(db, brand) == []


async def test_an_event_told_twice_or_late_changes_nothing(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    made = await committed_product(db, clock, brand)
    async with db.unit_of_work(brand) as session:
        await service.update_product(session, brand, made.id, ProductText(title_en="Night balm"), clock=clock)

    await indexed(db, clock, made, made, made)

    assert await found(db, brand, text="balm") == [made.id]
    assert await found(db, brand, text="moist") == []


async def test_many_changes_are_one_batch(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    made = [await committed_product(db, clock, brand) for _ in range(3)]
    event = ProductsChanged((*(m.id for m in made), ProductId.new()), brand.brand_id)

    async with db.unit_of_work(SYSTEM) as session:
        await documents.on_products_changed(session, event, clock=clock, search=INDEX)

    assert set(await found(db, brand)) == {m.id for m in made}


async def test_a_rebuild_finds_what_is_published_and_forgets_the_rest(
    db: Database, clock: FixedClock
) -> None:
    brand, _ = await committed_brand(db, clock)
    made = [await committed_product(db, clock, brand, publish=n != 4) for n in range(5)]
    ghost = Document(
        product_id=ProductId.new(), brand_id=brand.brand_id, title_zh="", title_en="ghost", category="",
        tags=(), prices={}, in_stock=False, created_at=clock.now(), version=1,
    )  # fmt: skip
    async with db.unit_of_work(SYSTEM) as session:
        await INDEX.apply(session, [ghost])
    assert await found(db, brand) == [ghost.product_id]

    assert await documents.rebuild(db, clock=clock, search=INDEX, batch=2) == 4
    assert set(await found(db, brand)) == {m.id for m in made[:4]}


async def test_the_stock_flag_follows_the_stock(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    made = await committed_product(db, clock, brand)
    available = {"filter": Eq(Field.IN_STOCK, True)}

    assert await documents.refresh_stock(db, clock=clock, search=INDEX) == 1  # it was not there at all
    assert await documents.refresh_stock(db, clock=clock, search=INDEX) == 0
    assert (await found(db, brand), await found(db, brand, **available)) == ([made.id], [])
    async with db.unit_of_work(SYSTEM) as session:
        await supply.supplier(session, clock, stock={made.variants[0]: 3}, brand_id=made.brand_id)
    assert await documents.refresh_stock(db, clock=clock, search=INDEX) == 1
    assert await found(db, brand, **available) == [made.id]
