"""The same over HTTP, through the application as it is deployed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from infra.search.postgres_index import PostgresIndex
from marketplace.matching import documents
from services.api.app import create_app
from tests.factories import supply
from tests.factories.brands import committed_brand, committed_storefront
from tests.factories.catalog import committed_product, priced
from tests.fixtures.asking import gateways
from tests.fixtures.statements import statements_of

LIST = """{ products(first: 20) { nodes { id title price { amount }
  variants { id sku price { amount currencyCode } inStock available } } pageInfo { hasNextPage endCursor } } }"""


@pytest.fixture
async def api(db: Database, clock: FixedClock) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(gateways(db, clock)))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


async def answer(api: httpx.AsyncClient, path: str, document: str, **headers: str) -> dict[str, Any]:
    response = await api.post(path, json={"query": document}, headers=headers)
    known: dict[str, Any] = response.json()
    return known


async def test_a_storefronts_list_is_four_statements_a_request(
    db: Database, clock: FixedClock, api: httpx.AsyncClient
) -> None:
    brand, _ = await committed_brand(db, clock)
    key = (await committed_storefront(db, clock, brand)).key
    made = [
        await committed_product(db, clock, brand, variants=[priced(f"S-{n}-{v}", "1.00") for v in range(3)])
        for n in range(20)
    ]
    async with db.unit_of_work(SYSTEM) as session:
        await supply.supplier(
            session, clock, stock=dict.fromkeys(made[0].variants, 5), brand_id=brand.brand_id
        )
        await documents.index_products(session, PostgresIndex(), [m.id for m in made], now=clock.now())
    headers = {"x-storefront-key": key}

    first = await answer(api, "/storefront/graphql", LIST, **headers)
    assert len(first["data"]["products"]["nodes"]) == 20
    with statements_of(db) as statements:
        again = await answer(api, "/storefront/graphql", LIST, **headers)
    assert again == first
    assert len(statements) <= 4
    with statements_of(db) as statements:
        page = f'{{ product(id: "{made[0].id}") {{ title variants {{ available price {{ amount }} }} }} }}'
        shown = (await answer(api, "/storefront/graphql", page, **headers))["data"]["product"]
    assert [v["available"] for v in shown["variants"]] == [5, 5, 5]
    assert len(statements) <= 4


async def test_a_brand_signs_up_and_lists_a_product(
    db: Database, clock: FixedClock, api: httpx.AsyncClient
) -> None:
    sign_up = """mutation { signUp(input: {
      kind: BRAND, name: "Jade", email: "jade@x.example", country: "CN", currency: "CNY"}) { token } }"""
    token = (await answer(api, "/graphql", sign_up))["data"]["signUp"]["token"]
    create = """mutation { productCreate(input: {titleEn: "Tea", publish: true, variants: [
      {sku: "T-1", prices: [{amount: {amount: "9.90", currencyCode: "CNY"}}]}]}) {
      product { id status } userErrors { code } } }"""
    bearer = {"authorization": f"Bearer {token}"}

    made = (await answer(api, "/graphql", create, **bearer))["data"]["productCreate"]
    assert (made["product"]["status"], made["userErrors"]) == ("PUBLISHED", [])
    listed = (await answer(api, "/graphql", "{ products { nodes { id } totalCount } }", **bearer))["data"][
        "products"
    ]
    assert listed == {"nodes": [{"id": made["product"]["id"]}], "totalCount": 1}


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/graphql", {"authorization": "Bearer lyb_live_" + "x" * 40}, "INVALID_TOKEN"),
        ("/graphql", {"authorization": "Basic x"}, "UNAUTHENTICATED"),
        ("/storefront/graphql", {}, "MISSING_KEY"),
        ("/storefront/graphql", {"x-storefront-key": "pk_" + "x" * 40}, "INVALID_PUBLISHABLE_KEY"),
    ],
)
async def test_a_bad_key_opens_nothing(
    db: Database, api: httpx.AsyncClient, path: str, headers: dict[str, str], code: str
) -> None:
    response = await api.post(path, json={"query": LIST}, headers=headers)

    assert response.status_code == 401
    assert response.json()["errors"][0]["extensions"]["code"] == code
