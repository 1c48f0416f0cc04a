from __future__ import annotations

from typing import Any

import pytest

from core.actor import Actor
from core.clock import FixedClock
from core.ids import BrandId
from graph.brand import schema as SCHEMA
from infra.db.session import Database
from tests.factories.brands import brand_actor
from tests.factories.catalog import committed_product, priced
from tests.fixtures.asking import ask
from tests.fixtures.statements import statements_of

MINE, THEIRS = brand_actor(BrandId.new()), brand_actor(BrandId.new())

CREATE = """
mutation ($input: ProductCreateInput!) { productCreate(input: $input) {
  product { id handle status version tags variants { id sku weightG options
    prices { amount { amount currencyCode minorUnits } compareAt { amount } } } }
  userErrors { code field facts } } }
"""
LIST = """
query ($first: Int!, $after: String) { products(first: $first, after: $after) {
  nodes { id handle titleEn status media { url } variants { id sku prices { amount { amount } } available } }
  pageInfo { hasNextPage endCursor } totalCount } }
"""


def cream(**facts: Any) -> dict[str, Any]:
    price = {
        "amount": {"amount": "99.90", "currencyCode": "CNY"},
        "compareAt": {"amount": "120", "currencyCode": "CNY"},
    }
    known = {
        "titleEn": "Rose cream", "titleZh": "玫瑰面霜", "category": "beauty/skin", "tags": ["dry"],
        "media": [{"url": "https://m.example/1.jpg"}], "publish": True,
        "variants": [{"sku": "RC-1", "weightG": 80, "options": {"size": "50ml"}, "prices": [price]}],
    }  # fmt: skip
    return {"input": known | facts}


async def test_a_product_is_made_with_its_prices(db: Database, clock: FixedClock) -> None:
    made = (await ask(SCHEMA, db, clock, MINE, CREATE, cream()))["data"]["productCreate"]

    assert made["userErrors"] == []
    assert made["product"]["status"] == "PUBLISHED"
    variant = made["product"]["variants"][0]
    assert (variant["sku"], variant["weightG"], variant["options"]) == ("RC-1", 80, {"size": "50ml"})
    assert variant["prices"] == [
        {
            "amount": {"amount": "99.90", "currencyCode": "CNY", "minorUnits": "9990"},
            "compareAt": {"amount": "120.00"},
        }
    ]


@pytest.mark.parametrize(
    ("facts", "code", "field"),
    [
        ({"titleEn": "", "titleZh": ""}, "TITLE_MISSING", ["title"]),
        ({"variants": []}, "NOTHING_TO_SELL", None),
        ({"handle": "No"}, "INVALID_HANDLE", ["handle"]),
        ({"media": [{"url": "ftp://x"}]}, "INVALID_MEDIA", ["media"]),
        ({"attributes": []}, "INVALID_ATTRIBUTES", ["attributes"]),
        (
            {"variants": [{"sku": "A", "prices": [{"amount": {"amount": "1.001", "currencyCode": "CNY"}}]}]},
            "MALFORMED_AMOUNT", None,
        ),
        (
            {"variants": [{"sku": "A", "prices": [{"amount": {"amount": "-1", "currencyCode": "CNY"}}]}]},
            "INVALID_PRICE", ["price"],
        ),
        (
            {"variants": [{"sku": "A", "prices": [{"amount": {"amount": "1", "currencyCode": "XXX"}}]}]},
            "UNKNOWN_CURRENCY", None,
        ),
    ],
)  # fmt: skip
async def test_nonsense_is_told_as_data_and_nothing_is_kept(
    db: Database, clock: FixedClock, facts: dict[str, Any], code: str, field: list[str] | None
) -> None:
    made = (await ask(SCHEMA, db, clock, MINE, CREATE, cream(**facts)))["data"]["productCreate"]

    assert made["product"] is None
    assert [(e["code"], e["field"]) for e in made["userErrors"]] == [(code, field)]
    listed = (await ask(SCHEMA, db, clock, MINE, LIST, {"first": 5}))["data"]["products"]
    assert (listed["nodes"], listed["totalCount"]) == ([], 0)


async def test_a_stale_version_is_refused_with_the_current_one(db: Database, clock: FixedClock) -> None:
    made = await committed_product(db, clock, MINE)
    update = """mutation ($id: ID!, $v: Int) { productUpdate(input: {id: $id, titleEn: "New", version: $v}) {
      product { titleEn version } userErrors { code facts } } }"""

    done = (await ask(SCHEMA, db, clock, MINE, update, {"id": str(made.id), "v": 1}))["data"]["productUpdate"]
    assert done["product"] == {"titleEn": "New", "version": 2}
    stale = (await ask(SCHEMA, db, clock, MINE, update, {"id": str(made.id), "v": 1}))["data"][
        "productUpdate"
    ]
    assert stale["userErrors"] == [{"code": "VERSION_CHANGED", "facts": {"expected": 1, "current": 2}}]


async def test_publish_withdraw_archive(db: Database, clock: FixedClock) -> None:
    made = await committed_product(db, clock, MINE, publish=False)
    for verb, status in (("Publish", "PUBLISHED"), ("Withdraw", "DRAFT"), ("Archive", "ARCHIVED")):
        document = f"""mutation ($id: ID!) {{ product{verb}(input: {{id: $id}}) {{
          product {{ status }} userErrors {{ code }} }} }}"""
        done = (await ask(SCHEMA, db, clock, MINE, document, {"id": str(made.id)}))["data"][f"product{verb}"]
        assert done == {"product": {"status": status}, "userErrors": []}


async def test_prices_are_set_and_taken_away(db: Database, clock: FixedClock) -> None:
    made = await committed_product(db, clock, MINE)
    document = """mutation ($prices: [VariantPriceInput!]!) { pricesSet(input: {prices: $prices}) {
      products { version variants { prices(currencyCode: "USD") { amount { amount } } } } userErrors { code } } }"""
    dollars = {"amount": {"amount": "9.90", "currencyCode": "USD"}}
    variant = str(made.variants[0])

    done = (
        await ask(SCHEMA, db, clock, MINE, document, {"prices": [{"variantId": variant, "price": dollars}]})
    )["data"]
    assert done["pricesSet"]["products"] == [
        {"version": 2, "variants": [{"prices": [{"amount": {"amount": "9.90"}}]}]}
    ]
    away = {"prices": [{"variantId": variant, "currencyCode": c} for c in ("USD", "CNY")]}
    none = (await ask(SCHEMA, db, clock, MINE, document, away))["data"]["pricesSet"]
    assert none["userErrors"] == [{"code": "NOTHING_TO_SELL"}]


async def test_another_brands_products(db: Database, clock: FixedClock) -> None:
    shown = await committed_product(db, clock, THEIRS)
    draft = await committed_product(db, clock, THEIRS, publish=False)
    one = "query ($id: ID!) { product(id: $id) { id } }"

    seen = await ask(SCHEMA, db, clock, MINE, one, {"id": str(shown.id)})
    assert seen["data"]["product"]["id"] == str(shown.id)
    for unknown in (str(draft.id), "prd_00000000000000000000000000", "nonsense", str(THEIRS.tenant_id)):
        answer = await ask(SCHEMA, db, clock, MINE, one, {"id": unknown})
        assert answer["errors"][0]["code"] in ("PRODUCT_NOT_FOUND", "MALFORMED_ID"), unknown
    archive = (
        "mutation ($id: ID!) { productArchive(input: {id: $id}) { product { id } userErrors { code } } }"
    )
    answer = await ask(SCHEMA, db, clock, MINE, archive, {"id": str(shown.id)})
    assert answer["data"]["productArchive"] == {
        "product": None,
        "userErrors": [{"code": "PRODUCT_NOT_FOUND"}],
    }
    theirs = "query ($b: ID!) { products(filter: {brandId: $b}) { nodes { id } } }"
    listed = await ask(SCHEMA, db, clock, MINE, theirs, {"b": str(THEIRS.brand_id)})
    assert [n["id"] for n in listed["data"]["products"]["nodes"]] == [str(shown.id)]


async def test_a_token_that_only_reads_changes_nothing(db: Database, clock: FixedClock) -> None:
    reader = Actor(MINE.kind, MINE.tenant_id, scopes=frozenset({"catalog:read"}))
    nothing = Actor(MINE.kind, MINE.tenant_id)

    made = (await ask(SCHEMA, db, clock, reader, CREATE, cream()))["data"]["productCreate"]
    assert [e["code"] for e in made["userErrors"]] == ["MISSING_SCOPE"]
    listed = await ask(SCHEMA, db, clock, nothing, LIST, {"first": 1})
    assert [e["code"] for e in listed["errors"]] == ["MISSING_SCOPE"]


async def test_a_list_of_twenty_with_variants_prices_and_stock_is_four_statements(
    db: Database, clock: FixedClock
) -> None:
    for n in range(21):
        await committed_product(
            db, clock, MINE, title_en=f"Tea {n}", variants=[priced(f"S-{n}-{v}", "1.00") for v in range(3)]
        )
    document = LIST.replace("totalCount", "")
    with statements_of(db) as statements:
        listed = (await ask(SCHEMA, db, clock, MINE, document, {"first": 20}))["data"]["products"]
    assert len(statements) == 4  # who asks; products; variants with prices; stock
    assert [len(node["variants"]) for node in listed["nodes"]] == [3] * 20
    assert listed["pageInfo"]["hasNextPage"]
    rest = (
        await ask(SCHEMA, db, clock, MINE, LIST, {"first": 20, "after": listed["pageInfo"]["endCursor"]})
    )["data"]
    assert [n["titleEn"] for n in rest["products"]["nodes"]] == ["Tea 20"]
    assert rest["products"]["totalCount"] == 21


@pytest.mark.parametrize(("first", "after"), [(0, None), (101, None), (-1, None), (5, "!!!"), (5, "eHg")])
async def test_a_page_that_cannot_be_is_refused(
    db: Database, clock: FixedClock, first: int, after: str
) -> None:
    answer = await ask(SCHEMA, db, clock, MINE, LIST, {"first": first, "after": after})

    assert answer["errors"][0]["code"] in ("BAD_PAGE", "MALFORMED_ID")


async def test_a_file_is_imported_with_its_errors(db: Database, clock: FixedClock) -> None:
    document = """mutation ($input: ProductsImportInput!) { productsImport(input: $input) {
      catalogImport { id status rowsRead rowsFailed productsCreated productsChanged productsUnchanged
        errors { row sku field code } errorFile }
      userErrors { code } } }"""
    content = "handle,sku,title_en,price:CNY,status\na,A-1,Tea,1.00,published\nb,B-1,Pot,none,\n"

    async def load(**facts: Any) -> dict[str, Any]:
        known = {"content": content, "policy": "REJECT_FAILED_ROWS"} | facts
        answer: dict[str, Any] = (await ask(SCHEMA, db, clock, MINE, document, {"input": known}))["data"][
            "productsImport"
        ]
        return answer

    done = (await load())["catalogImport"]
    assert (done["status"], done["rowsRead"], done["rowsFailed"], done["productsCreated"]) == (
        "DONE",
        2,
        1,
        1,
    )
    assert done["errors"] == [{"row": 3, "sku": "B-1", "field": "price:CNY", "code": "MALFORMED_AMOUNT"}]
    assert done["errorFile"].splitlines()[1].startswith("3,B-1,price:CNY,MALFORMED_AMOUNT,")
    assert (await load())["catalogImport"]["productsUnchanged"] == 1
    assert (await load(policy="REJECT_EVERYTHING"))["catalogImport"]["status"] == "REJECTED"
    assert (await load(content="x"))["userErrors"] == [{"code": "UNREADABLE_FILE"}]
    one = "query ($id: ID!) { catalogImport(id: $id) { rowsRead } }"
    assert (await ask(SCHEMA, db, clock, MINE, one, {"id": done["id"]}))["data"]["catalogImport"] == {
        "rowsRead": 2
    }
    other = await ask(SCHEMA, db, clock, THEIRS, one, {"id": done["id"]})
    assert other["errors"][0]["code"] == "IMPORT_NOT_FOUND"
