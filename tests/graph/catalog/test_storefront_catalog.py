from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import ProductId
from core.money import Money
from graph.storefront import schema as SCHEMA
from infra.db.session import Database
from infra.search.postgres_index import PostgresIndex
from marketplace.brands.queries import StorefrontFacts
from marketplace.catalog import service
from marketplace.matching import documents
from marketplace.promotion.agreements.terms import Rule
from marketplace.promotion.facts import ScopeKind
from tests.factories import promotion, supply
from tests.factories.brands import committed_brand, committed_storefront
from tests.factories.catalog import MadeProduct, committed_product, priced
from tests.fixtures.asking import ask
from tests.fixtures.statements import statements_of

LIST = """
query (
  $first: Int! = 20, $after: String, $text: String! = "", $filter: ProductSearchFilter, $sort: ProductSort! = RELEVANCE
) {
  products(first: $first, after: $after, text: $text, filter: $filter, sort: $sort) {
    nodes { id title tags category media { url } price { amount currencyCode minorUnits } inStock
      variants { id sku title options price { amount } compareAt { amount } inStock available } }
    pageInfo { hasNextPage endCursor } stage } }
"""
PAGE = """
query ($id: ID!) { product(id: $id) { id title description attributes price { amount } inStock brandId
  variants { id sku price { amount } available } } }
"""


@dataclass(frozen=True, slots=True)
class Shop:
    brand: Actor
    shopper: Actor
    facts: StorefrontFacts


async def shop(db: Database, clock: FixedClock, *, currency: str = "CNY", country: str = "CN") -> Shop:
    brand, _ = await committed_brand(db, clock)
    made = await committed_storefront(db, clock, brand, currency=currency, country=country)
    facts = StorefrontFacts(made.id, brand.brand_id, currency, country, "zh-CN", "web")
    return Shop(brand, made.actor, facts)


async def indexed(db: Database, clock: FixedClock, *made: MadeProduct) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await documents.index_products(session, PostgresIndex(), [m.id for m in made], now=clock.now())


async def stocked(db: Database, clock: FixedClock, brand: Actor, made: MadeProduct, units: int) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await supply.supplier(
            session, clock, stock=dict.fromkeys(made.variants, units), brand_id=brand.brand_id
        )


async def asked(db: Database, clock: FixedClock, at: Shop, document: str, **variables: Any) -> dict[str, Any]:
    return await ask(SCHEMA, db, clock, at.shopper, document, variables, storefront=at.facts)


async def listed(db: Database, clock: FixedClock, at: Shop, **variables: Any) -> list[dict[str, Any]]:
    answer = await asked(db, clock, at, LIST, **variables)
    assert "errors" not in answer, answer
    nodes: list[dict[str, Any]] = answer["data"]["products"]["nodes"]
    return nodes


async def test_a_list_of_twenty_with_variants_prices_and_stock_is_four_statements(
    db: Database, clock: FixedClock
) -> None:
    here = await shop(db, clock)
    made = [
        await committed_product(
            db,
            clock,
            here.brand,
            title_zh=f"茶{n}",
            variants=[priced(f"S-{n}-{v}", f"{v + 1}.00") for v in range(3)],
        )
        for n in range(21)
    ]
    await stocked(db, clock, here.brand, made[0], 7)
    await indexed(db, clock, *made)

    with statements_of(db) as statements:
        nodes = await listed(db, clock, here)
    assert len(statements) == 4  # who asks; agreements; hits; everything of them
    assert [len(node["variants"]) for node in nodes] == [3] * 20
    first = next(node for node in nodes if node["id"] == str(made[0].id))
    assert [(v["price"]["amount"], v["available"], v["inStock"]) for v in first["variants"]] == [
        ("1.00", 7, True), ("2.00", 7, True), ("3.00", 7, True),
    ]  # fmt: skip
    assert (first["inStock"], first["price"]["minorUnits"]) == (True, "100")
    assert [n["inStock"] for n in nodes if n is not first] == [False] * 19


async def test_a_product_page_is_three_statements(db: Database, clock: FixedClock) -> None:
    here = await shop(db, clock)
    made = await committed_product(db, clock, here.brand, attributes={"origin": "Yunnan"})

    with statements_of(db) as statements:
        page = (await asked(db, clock, here, PAGE, id=str(made.id)))["data"]["product"]
    assert len(statements) == 3
    assert (page["title"], page["attributes"], page["price"]["amount"]) == (
        "保湿面霜",
        {"origin": "Yunnan"},
        "100.00",
    )


async def test_partners_products_are_shown_within_their_agreement(db: Database, clock: FixedClock) -> None:
    here = await shop(db, clock)
    partner, _ = await committed_brand(db, clock, name="Partner House")
    stranger, _ = await committed_brand(db, clock)
    cream = await committed_product(db, clock, partner, category="beauty/skin", variants=[
        priced("P-1", "10.00"), priced("P-2", "20.00"),
    ])  # fmt: skip
    lamp = await committed_product(db, clock, partner, category="home", variants=[
        priced("P-3", "10.00"), priced("P-4", "20.00"),
    ])  # fmt: skip
    far = await committed_product(db, clock, stranger)
    await indexed(db, clock, cream, lamp, far)
    assert await listed(db, clock, here) == []

    rules = (Rule(100_000, ScopeKind.CATEGORY, "beauty"), Rule(50_000, ScopeKind.SKU, "P-4"))
    terms = replace(promotion.TEN_PERCENT, rules=rules)
    async with db.unit_of_work(SYSTEM) as session:
        await promotion.signed(session, partner, here.brand, clock, terms)

    nodes = await listed(db, clock, here)
    assert {n["id"]: [v["sku"] for v in n["variants"]] for n in nodes} == {
        str(cream.id): ["P-1", "P-2"], str(lamp.id): ["P-4"],
    }  # fmt: skip
    with_brand = "query ($id: ID!) { product(id: $id) { brand { id name } variants { sku } } }"
    page = (await asked(db, clock, here, with_brand, id=str(lamp.id)))["data"]["product"]
    assert page == {
        "brand": {"id": str(partner.brand_id), "name": "Partner House"},
        "variants": [{"sku": "P-4"}],
    }
    for product_id in (far.id, ProductId.new()):
        answer = await asked(db, clock, here, PAGE, id=str(product_id))
        assert answer["errors"][0]["code"] == "PRODUCT_NOT_FOUND"


async def test_only_what_has_a_price_here_is_shown(db: Database, clock: FixedClock) -> None:
    here = await shop(db, clock, currency="USD", country="US")
    both = await committed_product(db, clock, here.brand, variants=[
        priced("A-1", "10.00", Money(150, "USD")), priced("A-2", "20.00"),
    ])  # fmt: skip
    yuan_only = await committed_product(db, clock, here.brand)
    await indexed(db, clock, both, yuan_only)

    nodes = await listed(db, clock, here)
    assert [(n["id"], [v["sku"] for v in n["variants"]], n["price"]["amount"]) for n in nodes] == [
        (str(both.id), ["A-1"], "1.50")
    ]
    answer = await asked(db, clock, here, PAGE, id=str(yuan_only.id))
    assert answer["errors"][0]["code"] == "PRODUCT_NOT_FOUND"


async def test_text_filters_sort_facets_and_totals(db: Database, clock: FixedClock) -> None:
    here = await shop(db, clock)
    made = [
        await committed_product(db, clock, here.brand, title_zh=title, title_en="x", category=category, tags=tags,
                                variants=[priced(f"S-{n}", f"{price}.00")])
        for n, (title, category, tags, price) in enumerate([
            ("玫瑰面霜", "beauty/skin", ["dry"], 30), ("玫瑰精油", "beauty/oil", ["gift"], 10),
            ("茶壶", "home", ["gift"], 20),
        ])
    ]  # fmt: skip
    await indexed(db, clock, *made)
    ids = [str(m.id) for m in made]

    async def found(**variables: Any) -> list[int]:
        return [ids.index(node["id"]) for node in await listed(db, clock, here, **variables)]

    assert await found(text="玫瑰", sort="PRICE_ASC") == [1, 0]
    assert await found(sort="PRICE_DESC") == [0, 2, 1]
    assert await found(filter={"categories": ["beauty"], "priceMax": "10.00"}) == [1]
    assert await found(filter={"tags": ["GIFT"], "priceMin": "15"}) == [2]
    assert await found(filter={"inStock": True}) == []
    assert sorted(await found(filter={"brandIds": [str(here.brand.brand_id)]})) == [0, 1, 2]
    counts = """{ products(text: "玫瑰", filter: {tags: ["gift"]}) { totalCount
      facets(names: [TAG, CATEGORY]) { name values { value count } } } }"""
    shown = (await asked(db, clock, here, counts))["data"]["products"]
    assert shown["totalCount"] == 1
    facets = {f["name"]: {v["value"]: v["count"] for v in f["values"]} for f in shown["facets"]}
    assert facets == {"TAG": {"dry": 1, "gift": 1}, "CATEGORY": {"beauty": 1, "beauty/oil": 1}}
    suggested = (await asked(db, clock, here, '{ suggest(prefix: "玫瑰") { text } }'))["data"]["suggest"]
    assert {s["text"] for s in suggested} == {"玫瑰面霜", "玫瑰精油"}


async def test_pages_join(db: Database, clock: FixedClock) -> None:
    here = await shop(db, clock)
    made = [await committed_product(db, clock, here.brand) for _ in range(5)]
    await indexed(db, clock, *made)

    seen: list[str] = []
    after = None
    while True:
        page = (await asked(db, clock, here, LIST, first=2, after=after))["data"]["products"]
        seen += [node["id"] for node in page["nodes"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert sorted(seen) == sorted(str(m.id) for m in made)


async def test_what_was_withdrawn_a_moment_ago_is_not_shown(db: Database, clock: FixedClock) -> None:
    here = await shop(db, clock)
    made = await committed_product(db, clock, here.brand)
    await indexed(db, clock, made)
    async with db.unit_of_work(here.brand) as session:
        await service.withdraw(session, here.brand, made.id, clock=clock)

    assert await listed(db, clock, here) == []  # the index still has it


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ({"first": 0}, "BAD_PAGE"),
        ({"after": "x"}, "BAD_PAGE"),
        ({"text": "x" * 201}, "BAD_FILTER"),
        ({"filter": {"priceMin": "-"}}, "MALFORMED_AMOUNT"),
        ({"filter": {"priceMin": "5", "priceMax": "1"}}, "BAD_FILTER"),
        ({"filter": {"brandIds": ["x"]}}, "MALFORMED_ID"),
        ({"filter": {"tags": ["x"] * 300}}, "BAD_FILTER"),
    ],
)
async def test_nonsense_has_a_code(
    db: Database, clock: FixedClock, variables: dict[str, Any], code: str
) -> None:
    here = await shop(db, clock)
    answer = await asked(db, clock, here, LIST, **variables)
    assert [e["code"] for e in answer["errors"]] == [code]
