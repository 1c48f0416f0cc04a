from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor, ActorKind
from core.errors import LianyuError
from core.ids import BrandId, MalformedId, ProductId
from core.money import UnknownCurrency
from core.pagination import BadPage
from infra.db.session import Database
from infra.search.errors import NoSuchGeneration, RebuildRunning
from infra.search.filters import And, BadFilter, Eq, Exists, Field, Filter, In, Not, Or, Range
from infra.search.index import Document, SearchIndex, SearchPage, SearchQuery, Shelf, Sort
from infra.search.postgres_index import PostgresIndex
from tests.fixtures.statements import statements_of

INDEX: SearchIndex = PostgresIndex()
BRAND, OTHER = BrandId.new(), BrandId.new()
SHELVES = (Shelf(BRAND),)
DAWN = datetime(2026, 1, 1, tzinfo=UTC)


def document(title: str = "Cream", **facts: Any) -> Document:
    chinese = not title.isascii()
    known: dict[str, Any] = {
        "product_id": ProductId.new(), "brand_id": BRAND, "title_zh": title if chinese else "",
        "title_en": "" if chinese else title, "category": "", "tags": (), "prices": {"CNY": (1000, 1000)},
        "in_stock": True, "created_at": DAWN, "version": 1,
    }  # fmt: skip
    return Document(**known | facts)


async def found(session: AsyncSession, **query: Any) -> list[ProductId]:
    return [hit.product_id for hit in (await page(session, **query)).hits]


async def page(session: AsyncSession, **query: Any) -> SearchPage:
    return await INDEX.search(session, SearchQuery(**{"shelves": SHELVES} | query))


async def test_chinese_words_are_found_inside_a_title(session: AsyncSession) -> None:
    cream, mask = document("玫瑰保湿面霜"), document("面膜补水")
    await INDEX.apply(session, [cream, mask])

    assert await found(session, text="面霜") == [cream.product_id]
    assert await found(session, text="霜") == [cream.product_id]
    assert set(await found(session, text="面")) == {cream.product_id, mask.product_id}
    assert await found(session, text="保湿 玫瑰") == [cream.product_id]
    assert await found(session, text="香水") == []


async def test_latin_words_in_any_case_form_or_unfinished(session: AsyncSession) -> None:
    cream = document("Rose Crème 50ml")
    await INDEX.apply(session, [cream])

    for text_ in ("rose", "ROSE creme", "ｒｏｓｅ", "rose cr", "50ML"):
        assert await found(session, text=text_) == [cream.product_id], text_
    assert await found(session, text="ose") == []


async def test_all_words_first_and_any_word_when_nothing_has_them_all(session: AsyncSession) -> None:
    both, one = document("rose cream"), document("rose soap")
    await INDEX.apply(session, [both, one])

    exact = await page(session, text="rose cream", with_total=True)
    assert ([h.product_id for h in exact.hits], exact.total, exact.stage) == ([both.product_id], 1, "all")
    loose = await page(session, text="rose lamp", with_total=True)
    assert ({h.product_id for h in loose.hits}, loose.total, loose.stage) == (
        {both.product_id, one.product_id}, 2, "any",
    )  # fmt: skip


async def test_a_word_of_the_title_counts_more_than_one_of_the_description(session: AsyncSession) -> None:
    described = document("Night oil", description="with rose")
    titled = document("Rose oil")
    await INDEX.apply(session, [described, titled])

    assert await found(session, text="rose") == [titled.product_id, described.product_id]


async def test_popularity_lifts_a_little_among_equals(session: AsyncSession) -> None:
    quiet, popular = document("Rose oil"), document("Rose oil", popularity=500)
    await INDEX.apply(session, [quiet, popular])

    assert await found(session, text="rose") == [popular.product_id, quiet.product_id]


@pytest.mark.parametrize("nothing", ["!!!", "。。", "  ?"])
async def test_text_without_a_word_finds_nothing(session: AsyncSession, nothing: str) -> None:
    await INDEX.apply(session, [document()])

    result = await page(session, text=nothing, with_total=True, facets=[Field.TAG])
    assert (result.hits, result.total, result.facets) == ((), 0, {Field.TAG: {}})


@pytest.mark.parametrize(
    "evil", ["'; DROP TABLE products; --", "a' & 'b", "\\", "':*", "a\x00b", "%", "| & !"]
)
async def test_no_text_breaks_out_of_the_query(session: AsyncSession, evil: str) -> None:
    await INDEX.apply(session, [document("Cream")])

    await page(session, text=evil)
    await INDEX.suggest(session, evil, shelves=SHELVES)


async def test_nothing_is_found_off_the_shelves(session: AsyncSession) -> None:
    mine = document("Tea", category="food/tea")
    theirs = [
        document("Tea", brand_id=OTHER, category=c) for c in ("food/tea/green", "home/cups", "home/pots")
    ]
    await INDEX.apply(session, [mine, *theirs])

    assert await found(session, shelves=()) == []
    assert await found(session, text="tea") == [mine.product_id]
    some = Shelf(OTHER, categories=("food",), product_ids=(theirs[2].product_id,))
    assert await found(session, shelves=[some]) == [theirs[0].product_id, theirs[2].product_id]
    assert await found(session, shelves=[Shelf(OTHER, product_ids=())]) == []
    assert len(await found(session, shelves=[*SHELVES, Shelf(OTHER)])) == 4
    assert await found(session, shelves=[some], filter=Eq(Field.BRAND, str(BRAND))) == []


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (Eq(Field.TAG, "dry"), "ab"),
        (In(Field.TAG, ("dry", "gift")), "abc"),
        (In(Field.TAG, ()), ""),
        (Eq(Field.CATEGORY, "beauty"), "ab"),
        (Eq(Field.CATEGORY, "beauty/skin"), "a"),
        (Eq(Field.IN_STOCK, False), "b"),
        (Range(Field.PRICE, 1000, 2000), "ab"),
        (Range(Field.PRICE, 2001, None), "bc"),
        (Range(Field.PRICE, None, 999), ""),
        (Eq(Field.PRICE, 1000), "a"),
        (Exists(Field.PRICE), "abc"),
        (Not(Exists(Field.PRICE)), "d"),
        (Not(Range(Field.PRICE, 1000, 2000)), "cd"),
        (Not(Eq(Field.TAG, "dry")), "cd"),
        (And((Eq(Field.TAG, "dry"), Eq(Field.IN_STOCK, True))), "a"),
        (Or((Eq(Field.TAG, "gift"), Eq(Field.CATEGORY, "beauty/skin"))), "ac"),
        (And(()), "abcd"),
        (Or(()), ""),
        (Range(Field.CREATED, int(DAWN.timestamp()) + 86_400, None), "bcd"),
        (Exists(Field.TAG), "abc"),
    ],
)
async def test_filters(session: AsyncSession, tree: Filter, expected: str) -> None:
    documents = {
        "a": document(tags=["dry"], category="beauty/skin", prices={"CNY": (1000, 1000)}),
        "b": document(tags=["dry", "x"], category="beauty", prices={"CNY": (1500, 2500)}, in_stock=False),
        "c": document(tags=["gift"], prices={"CNY": (9000, 9000)}),
        "d": document(prices={"USD": (1000, 1000)}),
    }
    documents = {
        name: Document(**{f: getattr(d, f) for f in d.__slots__} | {"created_at": DAWN + timedelta(days=n)})
        for n, (name, d) in enumerate(documents.items())
    }
    await INDEX.apply(session, list(documents.values()))

    names = {d.product_id: name for name, d in documents.items()}
    assert "".join(sorted(names[p] for p in await found(session, filter=tree))) == expected


async def test_a_facet_group_ignores_its_own_filter_and_no_other(session: AsyncSession) -> None:
    await INDEX.apply(session, [
        document(tags=["dry"], category="beauty/skin"),
        document(tags=["dry", "gift"], category="beauty/hair"),
        document(tags=["gift"], category="beauty/skin", in_stock=False),
        document(tags=["gift"], category="home", brand_id=OTHER),
    ])  # fmt: skip
    tree = And((Eq(Field.TAG, "gift"), Eq(Field.CATEGORY, "beauty")))

    result = await page(
        session, filter=tree, facets=[Field.TAG, Field.CATEGORY, Field.IN_STOCK, Field.BRAND], with_total=True
    )

    assert result.total == len(result.hits) == 2
    # Tags are counted in beauty whatever their tag; categories among gifts; the other two under both.
    assert result.facets[Field.TAG] == {"dry": 2, "gift": 2}
    assert result.facets[Field.CATEGORY] == {"beauty": 2, "beauty/hair": 1, "beauty/skin": 1}
    assert result.facets[Field.IN_STOCK] == {"true": 1, "false": 1}
    assert result.facets[Field.BRAND] == {str(BRAND): 2}


@pytest.mark.parametrize("sort", list(Sort))
async def test_pages_join_without_gap_or_repeat_past_a_thousand(session: AsyncSession, sort: Sort) -> None:
    documents = [
        document(
            f"rose {n % 7}", prices={"CNY": (100 + n % 13, 900)} if n % 5 else {}, popularity=n % 3,
            created_at=DAWN + timedelta(seconds=n % 11),
        )
        for n in range(1_300)
    ]  # fmt: skip
    await INDEX.apply(session, documents)

    seen: list[ProductId] = []
    after = None
    while True:
        result = await page(session, text="rose", sort=sort, first=500, after=after, with_total=True)
        assert result.total == 1_300
        seen += [hit.product_id for hit in result.hits]
        if not result.has_next:
            break
        after = result.hits[-1].key
    assert len(seen) == len(set(seen)) == 1_300
    prices = {d.product_id: d.prices.get("CNY", (None,))[0] for d in documents}
    shown = [prices[p] for p in seen]
    if sort in (Sort.PRICE_ASC, Sort.PRICE_DESC):
        with_price = [p for p in shown if p is not None]
        assert with_price == sorted(with_price, reverse=sort is Sort.PRICE_DESC)
        assert shown[len(with_price) :] == [None] * 260


async def test_a_cursor_of_another_list_is_refused(session: AsyncSession) -> None:
    await INDEX.apply(session, [document()])

    for after in (("x",), ("all", "nan", "x"), ("all", "1", "brd_x"), ("?", "1", str(ProductId.new()))):
        with pytest.raises(BadPage):
            await page(session, after=after)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ({"currency": "cny'"}, UnknownCurrency),
        ({"text": "x" * 201}, BadFilter),
        ({"first": 1001}, BadFilter),
        ({"facets": [Field.PRICE]}, BadFilter),
        ({"filter": Range(Field.TAG, 1, 2)}, BadFilter),
        ({"filter": Range(Field.PRICE, 2, 1)}, BadFilter),
        ({"filter": In(Field.TAG, tuple("x" * 300))}, BadFilter),
        ({"filter": Eq(Field.TAG, 5)}, BadFilter),
        ({"filter": Eq(Field.PRICE, "5")}, BadFilter),
        ({"filter": Eq(Field.IN_STOCK, "true")}, BadFilter),
        ({"filter": Eq(Field.BRAND, "nobody")}, MalformedId),
    ],
)
async def test_a_query_that_means_nothing_is_refused(
    session: AsyncSession, query: dict[str, Any], error: type[LianyuError]
) -> None:
    with pytest.raises(error):
        await page(session, **query)


async def test_an_older_version_never_replaces_a_newer(session: AsyncSession) -> None:
    new = document("new", version=5)
    old = document("old", product_id=new.product_id, version=4)
    await INDEX.apply(session, [new])

    assert (await INDEX.apply(session, [old])).stale == 1
    assert (await INDEX.apply(session, [new])).stale == 0
    assert await found(session, text="new") == [new.product_id]
    assert (await INDEX.apply(session, [], [new.product_id, ProductId.new()])).deleted == 1
    assert await found(session) == []


async def test_of_one_product_twice_in_a_batch_the_newest_stays(session: AsyncSession) -> None:
    first = document("first", version=1)
    await INDEX.apply(session, [document("second", product_id=first.product_id, version=2), first])

    assert await found(session, text="second") == [first.product_id]


async def test_a_rebuild_is_seen_at_once_or_not_at_all(session: AsyncSession) -> None:
    gone, stays, live = document("gone"), document("stays"), document("live")
    await INDEX.apply(session, [gone, stays])

    generation = await INDEX.begin_rebuild(session)
    with pytest.raises(RebuildRunning):
        await INDEX.begin_rebuild(session)
    await INDEX.apply(session, [stays], generation=generation)
    await INDEX.apply(session, [live])  # a change that comes meanwhile goes to both
    assert set(await found(session)) == {gone.product_id, stays.product_id, live.product_id}

    await INDEX.publish(session, generation)
    assert set(await found(session)) == {stays.product_id, live.product_id}
    stats = await INDEX.stats(session)
    assert (stats.generation, stats.documents, stats.building) == (generation, 2, None)
    with pytest.raises(NoSuchGeneration):
        await INDEX.publish(session, generation)


async def test_a_rebuild_given_up_leaves_nothing(session: AsyncSession) -> None:
    await INDEX.apply(session, [kept := document("kept")])
    generation = await INDEX.begin_rebuild(session)
    await INDEX.apply(session, [document()], generation=generation)

    await INDEX.drop(session, generation)

    assert await found(session) == [kept.product_id]
    assert (await session.execute(text("SELECT count(*) FROM search_documents"))).scalar_one() == 1
    with pytest.raises(NoSuchGeneration):
        await INDEX.drop(session, generation)


async def test_suggestions_complete_the_word(session: AsyncSession) -> None:
    await INDEX.apply(
        session, [document("Rose cream"), document("Rose oil", popularity=9), document("玫瑰面霜")]
    )

    assert [s.text for s in await INDEX.suggest(session, "ros", shelves=SHELVES)] == [
        "Rose oil",
        "Rose cream",
    ]
    assert [s.text for s in await INDEX.suggest(session, "玫", shelves=SHELVES)] == ["玫瑰面霜"]
    assert await INDEX.suggest(session, "ros", shelves=[Shelf(OTHER)]) == []


async def test_hits_are_one_statement_and_all_counts_a_second(db: Database) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await INDEX.apply(session, [document("rose")])
    shopper = Actor(ActorKind.STOREFRONT, BRAND)
    async with db.reading(shopper) as session:
        with statements_of(db) as plain:
            await page(session, text="rose")
        with statements_of(db) as counted:
            await page(session, text="rose", with_total=True, facets=[Field.BRAND, Field.TAG, Field.CATEGORY])
    assert (len(plain), len(counted)) == (1, 2)


async def test_only_the_platform_writes_the_index(db: Database) -> None:
    for actor in (Actor(ActorKind.BRAND, BRAND), Actor(ActorKind.STOREFRONT, BRAND)):
        with pytest.raises(DBAPIError, match="row-level security"):
            async with db.unit_of_work(actor) as session:
                await INDEX.apply(session, [document()])
    async with db.unit_of_work(SYSTEM) as session:
        await INDEX.apply(session, [document()])
    async with db.engine.connect() as nobody:
        assert (await nobody.execute(text("SELECT count(*) FROM search_documents"))).scalar_one() == 0
