from __future__ import annotations

from typing import Any

import pytest

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.errors import RateLimited
from core.ids import BrandId, SupplierId
from graph.brand import schema as SCHEMA
from graph.brands.sign_up_limit import BURST, EVERY_S, SignUpLimit
from infra.db.session import Database
from marketplace.brands import service
from supply.suppliers import queries as suppliers
from tests.factories.brands import brand_actor, committed_brand, committed_storefront
from tests.fixtures.asking import ask

SIGN_UP = """
mutation ($input: SignUpInput!) { signUp(input: $input) {
  id slug token userErrors { code field facts } } }
"""
TOKENS = "{ apiTokens { id name shownPrefix scopes revokedAt } }"


def new_brand(**facts: Any) -> dict[str, Any]:
    known = {
        "kind": "BRAND",
        "name": "Jade Garden",
        "email": "li@jade.example",
        "country": "CN",
        "currency": "CNY",
    }
    return {"input": known | facts}


async def signed_in(db: Database, clock: FixedClock, token: str) -> Actor:
    async with db.unit_of_work(SYSTEM) as session:
        return await service.authenticate(session, token, clock=clock)


async def test_a_brand_signs_up_without_a_token_and_is_in(db: Database, clock: FixedClock) -> None:
    made = (await ask(SCHEMA, db, clock, None, SIGN_UP, new_brand()))["data"]["signUp"]

    assert (made["userErrors"], made["slug"]) == ([], "jade-garden")
    actor = await signed_in(db, clock, made["token"])
    me = await ask(SCHEMA, db, clock, actor, "{ me { id kind name status currency scopes } }")
    assert me["data"]["me"]["id"] == made["id"]
    assert (me["data"]["me"]["kind"], me["data"]["me"]["status"]) == ("brand", "active")
    assert "catalog:write" in me["data"]["me"]["scopes"]


async def test_a_supplier_that_signs_up_is_in_the_directory(db: Database, clock: FixedClock) -> None:
    made = (await ask(SCHEMA, db, clock, None, SIGN_UP, new_brand(kind="SUPPLIER", name="North Mill")))[
        "data"
    ]
    supplier_id = SupplierId.parse(made["signUp"]["id"])

    async with db.reading(SYSTEM) as session:
        assert (await suppliers.supplier(session, supplier_id)).name == "North Mill"


@pytest.mark.parametrize(
    ("facts", "code", "field"),
    [
        ({"email": "nobody"}, "INVALID_EMAIL", ["email"]),
        ({"name": ""}, "INVALID_NAME", ["name"]),
        ({"country": "China"}, "INVALID_COUNTRY", ["country"]),
        ({"currency": "RMB"}, "UNKNOWN_CURRENCY", None),
    ],
)
async def test_nonsense_at_sign_up_is_told_as_data(
    db: Database, clock: FixedClock, facts: dict[str, str], code: str, field: list[str] | None
) -> None:
    answer = await ask(SCHEMA, db, clock, None, SIGN_UP, new_brand(**facts))

    made = answer["data"]["signUp"]
    assert (made["id"], made["token"]) == (None, None)
    assert [(e["code"], e["field"]) for e in made["userErrors"]] == [(code, field)]


async def test_an_operator_cannot_sign_up(db: Database, clock: FixedClock) -> None:
    assert "errors" in await ask(SCHEMA, db, clock, None, SIGN_UP, new_brand(kind="PLATFORM"))


def test_sign_ups_of_one_address_are_limited() -> None:
    now = [0.0]
    limit = SignUpLimit(now=lambda: now[0])
    for _ in range(BURST):
        limit.take("a")

    with pytest.raises(RateLimited) as error:
        limit.take("a")
    assert 1 <= error.value.retry_after_s <= EVERY_S + 1
    limit.take("b")
    now[0] += EVERY_S
    limit.take("a")


async def test_tokens_are_made_rotated_and_revoked(db: Database, clock: FixedClock) -> None:
    _, first = await committed_brand(db, clock)
    owner = await signed_in(db, clock, first)
    create = """mutation { apiTokenCreate(input: {name: "shop", scopes: ["catalog:read"]}) {
      token { id shownPrefix } secret userErrors { code } } }"""
    made = (await ask(SCHEMA, db, clock, owner, create))["data"]["apiTokenCreate"]
    assert made["secret"].startswith(made["token"]["shownPrefix"])
    assert (await signed_in(db, clock, made["secret"])).scopes == {"catalog:read"}

    rotate = (
        "mutation ($id: ID!) { apiTokenRotate(input: {id: $id}) { token { id } secret userErrors { code } } }"
    )
    turned = (await ask(SCHEMA, db, clock, owner, rotate, {"id": made["token"]["id"]}))["data"][
        "apiTokenRotate"
    ]
    revoke = (
        "mutation ($id: ID!) { apiTokenRevoke(input: {id: $id}) { token { revokedAt } userErrors { code } } }"
    )
    gone = (await ask(SCHEMA, db, clock, owner, revoke, {"id": turned["token"]["id"]}))["data"][
        "apiTokenRevoke"
    ]
    assert gone["token"]["revokedAt"] == "2026-03-02T02:00:00.000000Z"
    again = (await ask(SCHEMA, db, clock, owner, revoke, {"id": turned["token"]["id"]}))["data"][
        "apiTokenRevoke"
    ]
    assert again == {"token": None, "userErrors": [{"code": "TOKEN_ALREADY_REVOKED"}]}
    listed = (await ask(SCHEMA, db, clock, owner, TOKENS))["data"]["apiTokens"]
    assert [(t["name"], t["revokedAt"] is None) for t in listed] == [
        ("shop", False), ("shop", False), ("first token", True),
    ]  # fmt: skip


async def test_a_token_without_the_scope_sees_no_tokens(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    reader = Actor(brand.kind, brand.tenant_id, scopes=frozenset({"catalog:read"}))

    answer = await ask(SCHEMA, db, clock, reader, TOKENS)
    assert [e["code"] for e in answer["errors"]] == ["MISSING_SCOPE"]
    nobody = await ask(SCHEMA, db, clock, None, "{ me { id } }")
    assert [e["code"] for e in nobody["errors"]] == ["UNAUTHENTICATED"]


async def test_a_storefront_is_made_and_paused(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock)
    create = """mutation { storefrontCreate(input: {
      name: "Shop", channel: MINI_PROGRAM, currency: "CNY", country: "CN"}) {
      storefront { id publishableKey channel status locale } userErrors { code } } }"""
    made = (await ask(SCHEMA, db, clock, brand, create))["data"]["storefrontCreate"]["storefront"]
    assert (made["channel"], made["status"], made["locale"]) == ("MINI_PROGRAM", "ACTIVE", "zh-CN")
    assert made["publishableKey"].startswith("pk_")

    update = """mutation ($id: ID!) { storefrontUpdate(input: {id: $id, status: PAUSED, newKey: true}) {
      storefront { publishableKey status } userErrors { code } } }"""
    paused = (await ask(SCHEMA, db, clock, brand, update, {"id": made["id"]}))["data"]["storefrontUpdate"]
    assert paused["storefront"]["status"] == "PAUSED"
    assert paused["storefront"]["publishableKey"] != made["publishableKey"]


@pytest.mark.parametrize("storefront_id", ["theirs", "sfr_00000000000000000000000000", "brd_x", ""])
async def test_no_other_storefront_can_be_changed(
    db: Database, clock: FixedClock, storefront_id: str
) -> None:
    brand, _ = await committed_brand(db, clock)
    theirs, _ = await committed_brand(db, clock)
    made = await committed_storefront(db, clock, theirs)
    update = """mutation ($id: ID!) { storefrontUpdate(input: {id: $id, name: "x"}) {
      storefront { id } userErrors { code } } }"""

    wanted = str(made.id) if storefront_id == "theirs" else storefront_id
    answer = (await ask(SCHEMA, db, clock, brand, update, {"id": wanted}))["data"]["storefrontUpdate"]
    assert answer["storefront"] is None
    assert answer["userErrors"][0]["code"] in ("STOREFRONT_NOT_FOUND", "MALFORMED_ID")


async def test_a_profile_becomes_discoverable(db: Database, clock: FixedClock) -> None:
    brand, _ = await committed_brand(db, clock, name="Jade Garden")
    other, _ = await committed_brand(db, clock)
    listing = "{ brands(first: 10) { nodes { id nameZh } totalCount } }"
    assert len((await ask(SCHEMA, db, clock, other, listing))["data"]["brands"]["nodes"]) == 1

    update = """mutation { brandProfileUpdate(input: {nameZh: "玉园", discoverable: true}) {
      brand { nameZh nameEn discoverable } userErrors { code } } }"""
    shown = (await ask(SCHEMA, db, clock, brand, update))["data"]["brandProfileUpdate"]["brand"]
    assert shown == {"nameZh": "玉园", "nameEn": "Jade Garden", "discoverable": True}

    seen = (await ask(SCHEMA, db, clock, other, listing))["data"]["brands"]
    assert seen["totalCount"] == 2
    assert {"id": str(brand.brand_id), "nameZh": "玉园"} in seen["nodes"]
    assert brand_actor(BrandId.of(brand.brand_id)) == brand
