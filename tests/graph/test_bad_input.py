"""What clients get wrong, over HTTP: a stable code each time, and nothing half done."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import asyncpg
import pytest
import structlog
from sqlalchemy import text

from core import ids
from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from infra.embedded.postgres import OWNER
from infra.payments.gateway import PaymentGateway
from marketplace.brands import service as brands
from marketplace.catalog import service as catalog
from marketplace.catalog.service import PriceTag, VariantPrice
from supply.inventory import service as inventory
from supply.inventory.feed import StockRow
from tests.conftest import TestDatabase
from tests.factories.brands import committed_brand
from tests.factories.catalog import yuan
from tests.factories.orders import Shop, open_shop
from tests.fixtures.http import Served, codes_of, serving, state_of
from tests.graph.test_statement_budget import _Provider

CART = "mutation ($i: CartCreateInput!) { cartCreate(input: $i) { cart { id } userErrors { code field facts } } }"
LINES = (
    "mutation ($i: CartSetLinesInput!) { cartSetLines(input: $i) { cart { id } userErrors { code facts } } }"
)
START = """mutation ($i: CheckoutStartInput!) { checkoutStart(input: $i) {
  checkout { id } quote { total { amount currencyCode } problems { code facts } } userErrors { code field } } }"""
PLACE = """mutation ($i: CheckoutPlaceInput!) { checkoutPlace(input: $i) {
  checkout { id status orders { id } } payment { intentId } userErrors { code facts } } }"""
HOME = {"name": "王小明", "line1": "人民路 1 号", "city": "上海", "country": "CN", "region": "SH"}
ABROAD = {**HOME, "country": "US", "region": "TX"}


@dataclass(frozen=True, slots=True)
class Buying:
    """A shopper at the shop's storefront."""

    served: Served
    shop: Shop

    async def ask(self, document: str, given: dict[str, Any]) -> dict[str, Any]:
        answer = await self.served.storefront(document, {"i": given}, key=self.shop.storefront.key)
        assert "errors" not in answer, answer
        (payload,) = answer["data"].values()
        return cast("dict[str, Any]", payload)

    async def cart(self, quantity: int = 1) -> str:
        lines = [{"variantId": str(self.shop.variant), "quantity": quantity}]
        return str((await self.ask(CART, {"lines": lines if quantity else []}))["cart"]["id"])

    async def checkout(self, quantity: int = 1, address: dict[str, str] = HOME) -> dict[str, Any]:
        given = {"cartId": await self.cart(quantity), "email": "anna@example.com", "address": address}
        return await self.ask(START, given)

    async def place(self, checkout: str, key: str = "once", **more: Any) -> dict[str, Any]:
        return await self.ask(PLACE, {"checkoutId": checkout, "idempotencyKey": key, **more})


@pytest.fixture
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock, payments=cast("PaymentGateway", _Provider(clock))) as served:
        yield served


@pytest.fixture
async def buying(served: Served, db: Database, clock: FixedClock) -> Buying:
    return Buying(served, await open_shop(db, clock, stock=5))


def codes(payload: dict[str, Any]) -> list[str]:
    return codes_of({"data": {"x": payload}})


# --- carts and checkouts ---


@pytest.mark.parametrize(
    ("quantity", "code"),
    [
        (-1, "INVALID_QUANTITY"),
        (0, "INVALID_QUANTITY"),
        (10_000, "INVALID_QUANTITY"),
        (2**31 - 1, "INVALID_QUANTITY"),
    ],
)
async def test_absurd_quantities_make_no_cart(
    buying: Buying, postgres: TestDatabase, quantity: int, code: str
) -> None:
    before = await state_of(postgres)
    lines = [{"variantId": str(buying.shop.variant), "quantity": quantity}]
    payload = await buying.ask(CART, {"lines": lines})
    assert (payload["cart"], codes(payload)) == (None, [code])
    assert await state_of(postgres) == before


async def test_ids_that_are_malformed_unknown_or_of_another_kind(
    buying: Buying, postgres: TestDatabase
) -> None:
    before = await state_of(postgres)
    for variant, code in (
        ("not an id", "MALFORMED_ID"),
        (str(buying.shop.product.id), "MALFORMED_ID"),
        (str(ids.VariantId.new()), "NOT_SELLABLE_HERE"),
    ):
        payload = await buying.ask(CART, {"lines": [{"variantId": variant, "quantity": 1}]})
        assert codes(payload) == [code]
    for cart, code in ((str(ids.CartId.new()), "CART_NOT_FOUND"), ("crt_x", "MALFORMED_ID")):
        assert codes(await buying.ask(LINES, {"cartId": cart, "lines": []})) == [code]
    for checkout, code in ((str(ids.CheckoutId.new()), "CHECKOUT_NOT_FOUND"), ("chk_", "MALFORMED_ID")):
        assert codes(await buying.place(checkout)) == [code]
    assert await state_of(postgres) == before


async def test_more_lines_than_a_cart_holds(buying: Buying, postgres: TestDatabase) -> None:
    before = await state_of(postgres)
    lines = [{"variantId": str(ids.VariantId.new()), "quantity": 1} for _ in range(101)]
    assert codes(await buying.ask(CART, {"lines": lines})) == ["TOO_MANY_LINES"]
    assert await state_of(postgres) == before


async def test_what_a_shopper_can_mend_is_a_problem_of_the_checkout_and_nothing_is_placed(
    buying: Buying, postgres: TestDatabase
) -> None:
    for checkout, code in (
        (await buying.checkout(quantity=0), "CART_EMPTY"),
        (await buying.checkout(quantity=6), "INSUFFICIENT_STOCK"),
        (await buying.checkout(address=ABROAD), "ADDRESS_NOT_SERVED"),
    ):
        assert codes(checkout) == [code]
        before = await state_of(postgres)
        refused = await buying.place(checkout["checkout"]["id"])
        assert (refused["checkout"], codes(refused)) == (None, [code])
        assert await state_of(postgres) == before


async def test_a_price_that_changed_since_the_cart_is_told_with_both_prices(
    buying: Buying, db: Database, clock: FixedClock, postgres: TestDatabase
) -> None:
    checkout = await buying.checkout()
    merchant = buying.shop.promotion.merchant
    async with db.unit_of_work(merchant) as session:
        price = VariantPrice(buying.shop.variant, "CNY", PriceTag(yuan("110.00")))
        await catalog.set_prices(session, merchant, [price], clock=clock)
    before = await state_of(postgres)

    refused = await buying.place(checkout["checkout"]["id"])

    assert codes(refused) == ["PRICE_CHANGED"]
    facts = refused["userErrors"][0]["facts"]
    assert (facts["quoted"]["amount"], facts["current"]["amount"]) == ("100.00", "110.00")
    assert await state_of(postgres) == before


async def test_stock_that_went_between_quote_and_order(
    buying: Buying, db: Database, clock: FixedClock, postgres: TestDatabase
) -> None:
    checkout = await buying.checkout(quantity=5)
    assert codes(checkout) == []
    source = buying.shop.source
    clock.advance(timedelta(minutes=1))
    async with db.unit_of_work(SYSTEM) as session:
        row = StockRow(source.location_id, buying.shop.variant, source.brand_id, count=4)
        await inventory.apply_stock(session, source.supplier_id, [row], clock=clock)
    before = await state_of(postgres)

    refused = await buying.place(checkout["checkout"]["id"])

    assert codes(refused) == ["INSUFFICIENT_STOCK"]
    assert refused["userErrors"][0]["facts"]["available"] == 4
    assert await state_of(postgres) == before


@pytest.mark.parametrize(
    ("total", "code"),
    [
        ({"amount": "1.00", "currencyCode": "CNY"}, "TOTAL_CHANGED"),
        ({"amount": "105.00", "currencyCode": "USD"}, "TOTAL_CHANGED"),
        ({"amount": "105.001", "currencyCode": "CNY"}, "MALFORMED_AMOUNT"),
        ({"amount": "105.00", "currencyCode": "XYZ"}, "UNKNOWN_CURRENCY"),
        ({"amount": "1e2", "currencyCode": "CNY"}, "MALFORMED_AMOUNT"),
    ],
)
async def test_another_total_or_currency_than_the_quote(
    buying: Buying, postgres: TestDatabase, total: dict[str, str], code: str
) -> None:
    checkout = await buying.checkout()
    before = await state_of(postgres)
    assert codes(await buying.place(checkout["checkout"]["id"], expectedTotal=total)) == [code]
    assert await state_of(postgres) == before


@pytest.mark.parametrize(
    "wrong",
    [{"country": "China"}, {"city": " "}, {"name": "a\x00b"}, {"region": "shanghai"}, {"line1": "x" * 201}],
)
async def test_addresses_that_are_none(buying: Buying, wrong: dict[str, str], postgres: TestDatabase) -> None:
    cart = await buying.cart()
    before = await state_of(postgres)
    given = {"cartId": cart, "email": "anna@example.com", "address": {**HOME, **wrong}}
    assert codes(await buying.ask(START, given)) == ["INVALID_ADDRESS"]
    given = {"cartId": cart, "email": "anna at home", "address": HOME}
    assert codes(await buying.ask(START, given)) == ["INVALID_ADDRESS"]
    assert await state_of(postgres) == before


# --- idempotency ---


async def test_a_repeated_key_has_the_same_answer_and_one_effect(
    buying: Buying, postgres: TestDatabase
) -> None:
    checkout = (await buying.checkout())["checkout"]["id"]
    first = await buying.place(checkout)
    after_one = await state_of(postgres)

    assert await buying.place(checkout) == first
    assert await state_of(postgres) == after_one
    assert codes(await buying.place(checkout, key="another")) == ["CHECKOUT_NOT_OPEN"]
    other = (await buying.checkout())["checkout"]["id"]
    before = await state_of(postgres)
    assert codes(await buying.place(other)) == ["IDEMPOTENCY_KEY_REUSED"]
    for missing in ("", "k" * 256):
        assert codes(await buying.place(other, key=missing)) == ["IDEMPOTENCY_KEY_MISSING"]
    assert await state_of(postgres) == before


async def test_twelve_equal_placements_at_once_are_one_order(buying: Buying, db: Database) -> None:
    checkout = (await buying.checkout())["checkout"]["id"]
    answers = await asyncio.gather(*(buying.place(checkout) for _ in range(12)))

    assert all(answer == answers[0] for answer in answers)
    assert codes(answers[0]) == []
    assert await counts(db) == {"orders": 1, "payments": 1, "reservations": 1, "idempotency_keys": 1}


async def test_twelve_placements_with_keys_of_their_own_are_one_order(buying: Buying, db: Database) -> None:
    checkout = (await buying.checkout())["checkout"]["id"]
    answers = await asyncio.gather(*(buying.place(checkout, key=f"k{n}") for n in range(12)))

    told = Counter(code for answer in answers for code in codes(answer) or ["PLACED"])
    assert told["PLACED"] == 1
    assert told["CHECKOUT_NOT_OPEN"] + told["CART_ALREADY_ORDERED"] == 11
    assert await counts(db) == {"orders": 1, "payments": 1, "reservations": 1, "idempotency_keys": 1}


async def counts(db: Database) -> dict[str, int]:
    async with db.reading(SYSTEM) as session:
        return {
            table: (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
            for table in ("orders", "payments", "reservations", "idempotency_keys")
        }


# --- tokens ---


async def test_tokens_missing_unknown_expired_revoked_or_without_the_scope(
    served: Served, db: Database, clock: FixedClock
) -> None:
    actor, _ = await committed_brand(db, clock)

    async def issued(**facts: Any) -> brands.IssuedToken:
        async with db.unit_of_work(actor) as session:
            given = {"name": "t", "scopes": ["catalog:read"], "expires_at": None} | facts
            return await brands.issue_token(session, actor, clock=clock, **given)

    revoked, expired, narrow = (
        await issued(),
        await issued(expires_at=clock.now() + timedelta(hours=1)),
        await issued(),
    )
    async with db.unit_of_work(actor) as session:
        await brands.revoke_token(session, actor, revoked.id, clock=clock)
    clock.advance(timedelta(hours=2))
    for token, code in (
        (None, "UNAUTHENTICATED"),
        ("", "UNAUTHENTICATED"),
        ("lyb_live_" + "x" * 40, "INVALID_TOKEN"),
        ("pk_" + "x" * 40, "INVALID_TOKEN"),
        ("x" * 10_000, "INVALID_TOKEN"),
        (revoked.token, "REVOKED_TOKEN"),
        (expired.token, "EXPIRED_TOKEN"),
        (narrow.token, "MISSING_SCOPE"),
    ):
        answer = await served.brand("{ orders { nodes { id } } }", token=token)
        assert codes_of(answer) == [code], answer
        assert not answer.get("data")
        name = 'mutation { communityCreate(input: {name: "x", channel: LIVE_ROOM}) { userErrors { code } } }'
        assert codes_of(await served.brand(name, token=token)) == [code]


async def test_storefront_keys_missing_or_of_another_kind(buying: Buying) -> None:
    for key, code in (
        (None, "MISSING_KEY"),
        ("pk_none", "INVALID_PUBLISHABLE_KEY"),
        ("lys_x", "INVALID_PUBLISHABLE_KEY"),
    ):
        answer = await buying.served.storefront('{ suggest(prefix: "x") { text } }', key=key)
        assert codes_of(answer) == [code]


# --- files ---

IMPORT = """mutation ($c: String!, $p: ErrorPolicy!) { productsImport(input: {content: $c, policy: $p}) {
  catalogImport { status rowsFailed productsCreated errors { row field code } } userErrors { code } } }"""


async def test_bad_rows_of_a_file_are_named_by_their_number(
    served: Served, db: Database, clock: FixedClock
) -> None:
    _, token = await committed_brand(db, clock)
    file = (
        "sku,title_en,category,price:CNY\n"
        "GOOD-1,Cream,beauty/skin,100.00\n"
        "BAD-1,Cream,beauty/skin,-1.00\n"
        "BAD-2,Cream,beauty/skin,1.234\n"
        "GOOD-1,Again,beauty/skin,1.00\n"
    )
    rejected = (await served.brand(IMPORT, {"c": file, "p": "REJECT_EVERYTHING"}, token=token))["data"]
    told = rejected["productsImport"]["catalogImport"]
    assert (told["status"], told["productsCreated"]) == ("REJECTED", 0)
    assert {3, 4} <= {error["row"] for error in told["errors"]}
    assert all(error["code"] for error in told["errors"])
    async with db.reading(SYSTEM) as session:
        assert (await session.execute(text("SELECT count(*) FROM products"))).scalar_one() == 0

    for broken in ("", "\x00", "no,known,columns\n1,2,3\n", '"never closed'):
        answer = await served.brand(IMPORT, {"c": broken, "p": "REJECT_EVERYTHING"}, token=token)
        assert codes_of(answer) == ["UNREADABLE_FILE"], broken


# --- documents ---


def _bomb(fragments: int) -> str:
    spread = [f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(fragments)]
    return "{ ...F0 } " + " ".join(spread) + f" fragment F{fragments} on Query {{ __typename }}"


def _deep(levels: int) -> str:
    return "{ links { nodes " + "{ agreement { advertiser " * levels + "{ id }" + " } }" * levels + " } }"


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("{ " + " ".join(f"a{n}: me {{ id }}" for n in range(31)) + " }", "TOO_MANY_ALIASES"),
        ("{ ...A ...A ...A } fragment A on Query { " + " ".join(f"a{n}: me {{ id }}" for n in range(11)) + " }",
         "TOO_MANY_ALIASES"),
        (_deep(7), "DOCUMENT_TOO_DEEP"),
        ("{ me { " + "id " * 4_000 + "} }", "DOCUMENT_TOO_LONG"),
        ("{ " + "a{" * 1_500 + "b" + "}" * 1_500 + " }", "MALFORMED_DOCUMENT"),
        ("{ ...A } fragment A on Query { ...B } fragment B on Query { ...A }", "INVALID_DOCUMENT"),
        ("{ me { id ", "MALFORMED_DOCUMENT"),
        ("{ nothing }", "INVALID_DOCUMENT"),
        ("", "MALFORMED_DOCUMENT"),
    ],
)  # fmt: skip
async def test_documents_that_are_too_much_or_none(served: Served, document: str, code: str) -> None:
    body = {"query": document}
    answer = await served.api.post("/graphql", json=body)
    assert answer.status_code < 500
    if document:
        assert code in codes_of(answer.json())
        assert answer.json().get("data") is None


async def test_a_document_of_fragments_that_spread_each_other_twice_is_measured_in_no_time(
    served: Served,
) -> None:
    # 2^25 steps, if each spread were walked.
    answer = await asyncio.wait_for(served.api.post("/graphql", json={"query": _bomb(25)}), 20)
    assert answer.json()["data"] == {"__typename": "Query"}


async def test_bodies_that_are_no_graphql_request(served: Served) -> None:
    for content in (
        b"",
        b"[",
        b"[]",
        b"null",
        b'{"query": 7}',
        b'{"query": "{ __typename }", "variables": []}',
        b"\xff",
        b"[" * 100_000,
    ):
        for path in ("/graphql", "/storefront/graphql"):
            answer = await served.api.post(
                path, content=content, headers={"content-type": "application/json"}
            )
            assert 400 <= answer.status_code < 500, (content, answer.text)
    mutation = {"query": 'mutation { apiTokenRevoke(input: {id: "x"}) { userErrors { code } } }'}
    assert (await served.api.get("/graphql", params=mutation)).status_code in (400, 405)


# --- what nobody expects ---


async def test_an_unexpected_error_is_masked_and_names_neither_sql_nor_value(
    served: Served, db: Database, clock: FixedClock, postgres: TestDatabase
) -> None:
    _, token = await committed_brand(db, clock, name="Jade")
    broken = await asyncpg.connect(postgres.url(OWNER))
    await broken.execute("ALTER TABLE communities RENAME COLUMN name TO was_name")
    try:
        create = 'mutation {communityCreate(input: {name: "a private name", channel: LIVE_ROOM}) {userErrors{code}}}'
        with structlog.testing.capture_logs() as logs:
            answer = await served.brand(create, token=token, x_request_id="req-12345678")
    finally:
        await broken.execute("ALTER TABLE communities RENAME COLUMN was_name TO name")
        await broken.close()
    assert [entry["event"] for entry in logs] == ["unexpected"]
    (error,) = answer["errors"]
    assert error["extensions"] == {"code": "INTERNAL", "requestId": "req-12345678"}
    for leaked in ("communities", "SELECT", "INSERT", "column", "asyncpg", "a private name"):
        assert leaked not in error["message"]
