"""The intake as a shop meets it: who may tell, what is answered row by row, and what is kept of the buyer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest
from sqlalchemy import event, text

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from services.simulate.invariants import violations
from tests.conftest import TestDatabase
from tests.factories.own_checkout import OwnShop, clicked, own_shop, secret_of, signed
from tests.fixtures.http import Served, serving, state_of

EMAIL, PHONE, CUSTOMER = "Anna.Private@Example.com", "+8613912345678", "customer-4711-private"


@pytest.fixture
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


@pytest.fixture
async def shop(db: Database, clock: FixedClock) -> OwnShop:
    return await own_shop(db, clock)


def order(shop: OwnShop, clock: FixedClock, *tokens: str, **special: Any) -> dict[str, Any]:
    """The worked order as JSON (tests/factories/own_checkout.py)."""
    at = clock.now()
    usual = {
        "placed_at": at, "currency": "CNY", "total_minor": 10_388, "shipping_minor": 848, "touches": list(tokens),
        "lines": [
            {
                "reference": "L1", "sku": shop.product.skus[0], "quantity": 2, "unit_price_minor": 5_000,
                "tax_minor": 540, "tax_rate_ppm": 60_000, "tax_included": False,
            }
        ],
        "discounts": [{"amount_minor": 1_000, "funder": "advertiser"}],
        "buyer": {"email": EMAIL, "phone": PHONE, "customer_id": CUSTOMER},
        "address": {"line1": "Private Road 1", "city": "上海", "country": "CN", "region": "SH"},
    }  # fmt: skip
    return {**usual, **special}


def told(reference: str, content: dict[str, Any] | None = None, *events: dict[str, Any]) -> dict[str, Any]:
    return {"reference": reference, "events": list(events)} | ({"order": content} if content else {})


def paid(clock: FixedClock, id: str = "e1") -> dict[str, Any]:
    return {"id": id, "type": "paid", "at": clock.now()}


async def post(
    served: Served, shop: OwnShop, clock: FixedClock, secret: str, *rows: Any, **headers: str
) -> tuple[int, Any]:
    raw, sent = signed(shop, clock, secret, {"orders": list(rows)})
    answer = await served.api.post("/intake/v1/orders", content=raw, headers=sent | headers)
    return answer.status_code, answer.json()


async def state(served: Served, shop: OwnShop, clock: FixedClock, secret: str, reference: str) -> Any:
    path = f"/intake/v1/orders/{reference}"
    _, headers = signed(shop, clock, secret, path.encode())
    return (await served.api.get(path, headers=headers)).json()


async def test_an_order_is_told_and_the_shop_sees_what_it_owes(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    """Commission 15 % of 90.00; the shop is told the agreement, the line and the day the payee expects it."""
    secret, token = await secret_of(db, clock, shop), await clicked(db, clock, shop)

    status, answer = await post(
        served, shop, clock, secret, told("W-1", order(shop, clock, token), paid(clock))
    )

    assert status == 200
    (row,) = answer["rows"]
    assert (row["row"], row["reference"], row["result"], row["error"]) == (1, "W-1", "recorded", None)
    assert row["events"] == [{"id": "e1", "result": "recorded", "error": None}]
    await served.work()
    seen = await state(served, shop, clock, secret, "W-1")
    assert (seen["order_id"], seen["payment_status"], seen["total_minor"]) == (
        row["order_id"],
        "paid",
        10_388,
    )
    (earned,) = seen["commission"]
    assert (earned["line"], earned["rate_ppm"], earned["basis_minor"], earned["commission_minor"]) == (
        "L1", 150_000, 9_000, 1_350,
    )  # fmt: skip
    assert (earned["status"], seen["owed_minor"], seen["came_minor"]) == ("PENDING", 1_350, 0)
    assert [(each["id"], each["applied_at"] is not None) for each in seen["events"]] == [("e1", True)]


async def test_rows_are_answered_each_by_itself(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    secret = await secret_of(db, clock, shop)
    good = order(shop, clock)
    await post(served, shop, clock, secret, told("known", good, paid(clock, "known-paid")))
    rows = [
        told("known", good),
        told("known", {**good, "shipping_minor": 849, "total_minor": 10_389}),
        told("new", good),
        told("sum", {**good, "total_minor": 10_387}),
        told("euro", {**good, "currency": "EUR"}),
        told("nobody", {**good, "buyer": {}}),
        told("phone", {**good, "buyer": {"phone": "12"}}),
        {"reference": "typo", "ordre": {}},
        told("late", None, {"id": "known-paid", "type": "cancelled", "at": clock.now()}),
        told("early", None, {"id": "x", "type": "refunded", "at": clock.now(), "shipping_minor": 5}),
        told("future", {**good, "placed_at": clock.now() + timedelta(minutes=6)}),
        "not even an object",
    ]  # fmt: skip

    _, answer = await post(served, shop, clock, secret, *rows)

    assert [
        (row["result"], (row.get("error") or {}).get("code")) for row in answer["rows"]
    ] == [
        ("unchanged", None), ("error", "TOLD_DIFFERENTLY"), ("recorded", None), ("error", "TOTAL_DIFFERS"),
        ("error", "CURRENCY_NOT_THE_STOREFRONTS"), ("error", "BAD_TELLING"), ("error", "MALFORMED_IDENTIFIER"),
        ("error", "BAD_TELLING"), ("error", None), ("recorded", None), ("error", "BAD_TELLING"),
        ("error", "BAD_TELLING"),
    ]  # fmt: skip
    assert answer["rows"][8]["events"][0]["error"]["code"] == "TOLD_DIFFERENTLY"
    assert answer["rows"][7]["error"]["field"] == "ordre"
    assert await _count(db, "told_orders") == 2
    for rows in ([], [told(f"r{n}", good) for n in range(201)]):
        status, refused = await post(served, shop, clock, secret, *rows)
        assert (status, refused["error"]) == (422, "TELLINGS_TOO_MANY")


async def test_a_refund_of_a_line_that_the_order_does_not_have_is_refused_or_shown_to_count_for_nothing(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    """Refused once the order is known; told before its order, it waits, and its known line alone comes back."""
    secret = await secret_of(db, clock, shop)

    def refund(id: str, *lines: str) -> dict[str, Any]:
        named = [{"line": line, "quantity": 1} for line in lines]
        return {"id": id, "type": "refunded", "at": clock.now(), "lines": named}

    _, early = await post(served, shop, clock, secret, told("W-1", None, refund("r1", "L9", "L1")))
    assert early["rows"][0]["result"] == "recorded"
    placed = told("W-1", order(shop, clock), paid(clock), refund("r2", "L8"))
    _, now = await post(served, shop, clock, secret, placed)
    _, later = await post(served, shop, clock, secret, told("W-1", None, refund("r3", "L1", "L7")))

    assert [each["error"] and each["error"]["code"] for each in now["rows"][0]["events"]] == [
        None, "NO_SUCH_LINE",
    ]  # fmt: skip
    assert later["rows"][0]["events"][0]["error"] == {
        "code": "NO_SUCH_LINE", "message": "the order has no line L7", "field": "events.lines.line",
    }  # fmt: skip
    await served.work()
    seen = await state(served, shop, clock, secret, "W-1")
    assert {each["id"]: each["unknown_lines"] for each in seen["events"]} == {"e1": [], "r1": ["L9"]}
    # One of two units of 90.00 and the tax on it, 5.40, of 95.40: shipping stays.
    assert seen["refunded_minor"] == 4_770


async def test_a_forged_stretched_replayed_or_foreign_call_changes_nothing(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop, postgres: TestDatabase
) -> None:
    secret = await secret_of(db, clock, shop)
    other = await own_shop(db, clock)
    foreign = await secret_of(db, clock, other)
    raw, headers = signed(shop, clock, secret, {"orders": [told("W-1", order(shop, clock))]})
    before = await state_of(postgres)

    async def refused(raw: bytes, headers: dict[str, str]) -> None:
        answer = await served.api.post("/intake/v1/orders", content=raw, headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (401, "BAD_WEBHOOK_SIGNATURE")

    await refused(raw + b" ", headers)
    await refused(raw.replace(b"10388", b"10389"), headers)
    await refused(raw, {**headers, "webhook-id": "m-2"})
    stretched = str(int(headers["webhook-timestamp"]) + 200)
    await refused(raw, {**headers, "webhook-timestamp": stretched})
    for missing in headers:
        await refused(raw, {name: value for name, value in headers.items() if name != missing})
    await refused(raw, {**headers, "webhook-signature": "v1,"})
    await refused(raw, {**headers, "x-lianyu-storefront": str(other.storefront.id)})
    await refused(*signed(shop, clock, foreign, raw))
    await refused(raw, {**headers, "x-lianyu-storefront": "sf_nonsense"})
    ahead, behind = (
        FixedClock(clock.now() + timedelta(seconds=301)),
        FixedClock(clock.now() - timedelta(seconds=301)),
    )
    await refused(*signed(shop, ahead, secret, raw))
    await refused(*signed(shop, behind, secret, raw))
    # A GET signs its path: it opens no other order, and no POST opens it.
    path = b"/intake/v1/orders/W-1"
    _, asked = signed(shop, clock, secret, path)
    elsewhere = await served.api.get("/intake/v1/orders/W-2", headers=asked)
    assert (elsewhere.status_code, elsewhere.json()["error"]) == (401, "BAD_WEBHOOK_SIGNATURE")
    assert await state_of(postgres) == before

    # The very call, sent by somebody who overheard it: once and again, within five minutes.
    for result in ("recorded", "unchanged"):
        answer = await served.api.post("/intake/v1/orders", content=raw, headers=headers)
        assert answer.json()["rows"][0]["result"] == result
    clock.advance(timedelta(seconds=301))
    await refused(raw, headers)


async def test_two_secrets_are_valid_while_one_takes_the_others_place(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    async def made(**input: Any) -> Any:
        asked = {"input": {"storefrontId": str(shop.storefront.id), **input}}
        answer = await served.brand(_CREATE, asked, token=shop.merchant_token)
        return answer["data"]["signingSecretCreate"]

    async def works(secret: str) -> bool:
        status, _ = await post(served, shop, clock, secret, told("W-1", order(shop, FixedClock(start))))
        return status == 200

    start = clock.now()
    old = await made()
    assert old["secret"].startswith("whsec_")
    new = await made(rotate=True)
    assert [await works(each["secret"]) for each in (old, new)] == [True, True]
    third = await made()
    assert third["userErrors"][0]["code"] == "TOO_MANY_SIGNING_SECRETS"
    clock.advance(timedelta(hours=24))
    assert [await works(each["secret"]) for each in (old, new)] == [False, True]

    await served.brand(_REVOKE, {"input": {"id": new["signingSecret"]["id"]}}, token=shop.merchant_token)
    assert not await works(new["secret"])
    listed = await served.brand(_LIST, {"id": str(shop.storefront.id)}, token=shop.merchant_token)
    assert [row["revokedAt"] is not None for row in listed["data"]["signingSecrets"]] == [False, True]
    strangers = await served.brand(
        _CREATE, {"input": {"storefrontId": str(shop.storefront.id)}}, token=shop.promoter_token
    )
    assert strangers["data"]["signingSecretCreate"]["userErrors"][0]["code"] == "STOREFRONT_NOT_FOUND"
    async with db.reading(SYSTEM) as session:
        sealed = [
            bytes(row.sealed) for row in await session.execute(text("SELECT sealed FROM signing_secrets"))
        ]
    assert not any(old["secret"].encode() in each or new["secret"].encode() in each for each in sealed)


async def test_nothing_that_says_who_bought_is_kept(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop, postgres: TestDatabase, caplog: Any
) -> None:
    secret = await secret_of(db, clock, shop)
    bad = {**order(shop, clock), "buyer": {"email": EMAIL, "phone": "private-phone"}}
    _, answer = await post(
        served, shop, clock, secret, told("W-1", order(shop, clock), paid(clock)), told("W-2", bad)
    )
    await served.work()

    assert [row["result"] for row in answer["rows"]] == ["recorded", "error"]
    everything = await _everything(postgres)
    shown = everything + caplog.text + orjson.dumps(answer).decode()
    for said in (EMAIL, EMAIL.lower(), PHONE, "13912345678", CUSTOMER, "Private Road", "private-phone"):
        assert said not in shown
    assert "told_orders" in everything


async def test_twelve_equal_calls_at_once_are_one_order(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    secret, token = await secret_of(db, clock, shop), await clicked(db, clock, shop)
    row = told("W-1", order(shop, clock, token), paid(clock))

    answers = await asyncio.gather(*(post(served, shop, clock, secret, row) for _ in range(12)))

    results = sorted(answer["rows"][0]["result"] for _, answer in answers)
    assert results == ["recorded", *["unchanged"] * 11]
    assert len({answer["rows"][0]["order_id"] for _, answer in answers}) == 1
    await served.work()
    assert [await _count(db, table) for table in ("orders", "told_events", "split_orders", "commission_lines")] == [
        1, 1, 1, 1,
    ]  # fmt: skip
    async with db.reading(SYSTEM) as session:
        assert await violations(session) == []


async def test_many_rows_cost_as_many_statements_as_one(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    secret = await secret_of(db, clock, shop)
    counted: list[str] = []

    def count(*arguments: Any) -> None:
        if arguments[2] != "NOTIFY outbox":  # sent after the answer, perhaps while the next call is counted
            counted.append(arguments[2])

    event.listen(db.engine.sync_engine, "before_cursor_execute", count)
    try:
        sizes = []
        for first, many in ((0, 1), (1, 40)):
            counted.clear()
            rows = [
                told(f"R-{n}", order(shop, clock), paid(clock, f"p-{n}")) for n in range(first, first + many)
            ]
            _, answer = await post(served, shop, clock, secret, *rows)
            assert {row["result"] for row in answer["rows"]} == {"recorded"}
            sizes.append(len(counted))
    finally:
        event.remove(db.engine.sync_engine, "before_cursor_execute", count)
    assert sizes[0] == sizes[1] <= 22


async def test_one_brands_orders_are_nothing_to_another(
    served: Served, db: Database, clock: FixedClock, shop: OwnShop
) -> None:
    """The same references at two shops are two orders, and neither sees the other's."""
    secret, other = await secret_of(db, clock, shop), await own_shop(db, clock)
    others = await secret_of(db, clock, other)
    await post(served, shop, clock, secret, told("W-1", order(shop, clock), paid(clock)))
    for nothing in ("W-1", "a/b", "a%00b", "%E2%82%AC"):
        assert (await state(served, other, clock, others, nothing))["error"] == "TOLD_ORDER_NOT_FOUND"

    _, answer = await post(served, other, clock, others, told("W-1", order(other, clock), paid(clock)))
    await served.work()

    assert answer["rows"][0]["result"] == "recorded"
    for each, secret_of_it in ((shop, secret), (other, others)):
        seen = await state(served, each, clock, secret_of_it, "W-1")
        assert (seen["payment_status"], seen["commission"]) == ("paid", [])
    for token, visible in ((shop.promoter_token, []), (shop.merchant_token, ["paid"])):
        listed = await served.brand("{ orders { nodes { paymentStatus } } }", token=token)
        assert [row["paymentStatus"].lower() for row in listed["data"]["orders"]["nodes"]] == visible
    shipping = await served.brand("{ fulfillmentOrders { nodes { id } } }", token=shop.merchant_token)
    assert shipping["data"]["fulfillmentOrders"]["nodes"] == []


async def _count(db: Database, table: str) -> int:
    async with db.reading(SYSTEM) as session:
        return int((await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())


async def _everything(postgres: TestDatabase) -> str:
    """Every row of every table, as text."""
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        tables = await connection.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        )
        found = []
        for (table,) in tables:
            rows = await connection.fetch(f"SELECT t::text FROM {table} t")
            found += [f"{table} {row[0]}" for row in rows]
        return "\n".join(found)
    finally:
        await connection.close()


_CREATE = """mutation($input: SigningSecretCreateInput!) { signingSecretCreate(input: $input) {
  secret signingSecret { id } userErrors { code } } }"""
_REVOKE = """mutation($input: SigningSecretRevokeInput!) { signingSecretRevoke(input: $input) {
  userErrors { code } } }"""
_LIST = "query($id: ID!) { signingSecrets(storefrontId: $id) { id revokedAt } }"
