"""Every field and endpoint asked by whoever must not: nothing of a filled market is read or changed.

The walk goes along the schemas, the OpenAPI document and the database: a field, endpoint or table without an entry
(isolation/) fails it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from core import ids
from core.actor import Actor
from core.clock import FixedClock
from graph import brand, storefront
from infra.db.session import Database
from tests.conftest import TestDatabase
from tests.factories.brands import committed_brand, committed_storefront, committed_supplier
from tests.factories.filled_market import filled_market
from tests.factories.open_cases import open_cases
from tests.fixtures.documents import document, root_fields
from tests.fixtures.http import Served, codes_of, serving
from tests.graph.isolation import brand_api, storefront_api
from tests.graph.isolation.fulfilment_api import ENDPOINTS, IN_PATH
from tests.graph.isolation.open_tables import OPEN_TO_THE_ROLE, READABLE
from tests.graph.isolation.walk import OWN, Walk, rows_of, tables, walk_through


@pytest.fixture(scope="module")
async def db(_shared_db: Database, postgres: TestDatabase) -> AsyncIterator[Database]:
    """One market for all of the walk: no step of it may change a row."""
    yield _shared_db
    await postgres.empty()


@pytest.fixture(scope="module")
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 2, 2, 0, tzinfo=UTC))


@pytest.fixture(scope="module")
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


@pytest.fixture(scope="module")
async def filled(served: Served, db: Database, clock: FixedClock, postgres: TestDatabase) -> Walk:
    market = await filled_market(db, clock, served)
    await open_cases(db, clock, market)
    return await walk_through(served, market, postgres)


@pytest.fixture
async def stranger(filled: Walk, db: Database, clock: FixedClock) -> tuple[Actor, str]:
    return await committed_brand(db, clock, name="Stranger")


@pytest.fixture
async def other(filled: Walk, db: Database, clock: FixedClock) -> str:
    return (await committed_supplier(db, clock, name="Other Works"))[1]


@pytest.fixture
async def walk(filled: Walk, stranger: tuple[Actor, str], other: str) -> Walk:
    """The rows as they are now are those that must stay."""
    return replace(filled, before=await rows_of(filled.postgres))


async def _walk_brand_api(
    walk: Walk, token: str | None, *, closely: bool = False, shut: bool = False
) -> None:
    """``closely``: look at every row after each mutation, not only at the end. ``shut``: every field but sign-up
    refuses this caller by itself."""
    failures = []
    for word, name, field in root_fields(brand.schema):
        own = False
        if word == "query":
            values = walk.filled(brand_api.QUERIES[name] or {})
        else:
            given, kind = brand_api.MUTATIONS[name]
            values, own = {"input": walk.filled(given)}, kind == OWN
        answer = await walk.served.brand(document(word, name, field, values), values, token=token)
        leaks = walk.leaks(str(answer), values)
        changes = await walk.changes(own=own) if closely and word == "mutation" else {}
        open_ = shut and name != "signUp" and not codes_of(answer)
        if leaks or changes or open_ or "INTERNAL" in codes_of(answer):
            failures.append((name, leaks, changes, codes_of(answer), open_))
    assert not failures, "\n".join(map(str, failures))
    assert (await walk.changes(own=True)) == {}


def test_every_field_and_endpoint_has_its_entry_in_the_walk() -> None:
    for schema, queries, mutations in (
        (brand.schema, brand_api.QUERIES, brand_api.MUTATIONS),
        (storefront.schema, storefront_api.QUERIES, storefront_api.MUTATIONS),
    ):  # fmt: skip
        fields = list(root_fields(schema))
        assert {name for word, name, _ in fields if word == "query"} == queries.keys()
        assert {name for word, name, _ in fields if word == "mutation"} == mutations.keys()


async def test_another_brand_reads_and_changes_nothing(walk: Walk, stranger: tuple[Actor, str]) -> None:
    await _walk_brand_api(walk, stranger[1], closely=True)


async def test_a_supplier_reads_and_changes_nothing_on_the_brand_api(walk: Walk, other: str) -> None:
    await _walk_brand_api(walk, other)


async def test_without_a_token_and_with_a_storefronts_key_the_brand_api_is_shut(
    walk: Walk, db: Database, clock: FixedClock
) -> None:
    await _walk_brand_api(walk, None, shut=True)
    key = walk.market.shop.storefront.key
    # Used on its own surface a moment before, so that the process remembers it.
    assert "errors" not in await walk.served.storefront("{ __typename }", key=key)
    answer = await walk.served.brand("{ apiTokens { id } orders { nodes { id } } }", token=key)
    assert codes_of(answer) == ["INVALID_TOKEN"]


async def test_another_storefront_sees_neither_carts_nor_checkouts(
    walk: Walk, stranger: tuple[Actor, str], db: Database, clock: FixedClock
) -> None:
    key = (await committed_storefront(db, clock, stranger[0])).key
    failures = []
    for word, name, field in root_fields(storefront.schema):
        if word == "query":
            values = walk.filled(storefront_api.QUERIES[name] or {})
        elif name == "checkoutPay":
            values = walk.filled(storefront_api.MUTATIONS[name][0])
        else:
            values = {"input": walk.filled(storefront_api.MUTATIONS[name][0])}
        for given in (key, None, walk.market.merchant_token):
            answer = await walk.served.storefront(document(word, name, field, values), values, key=given)
            leaks = walk.leaks(str(answer), values)
            refused = bool(codes_of(answer)) or name in ("products", "suggest")
            if (
                leaks
                or not refused
                or (given != key and not codes_of(answer))
                or "INTERNAL" in codes_of(answer)
            ):
                failures.append((name, given == key, leaks, codes_of(answer)))
    assert not failures, "\n".join(map(str, failures))
    assert (await walk.changes(own=True)) == {}


async def test_every_endpoint_of_the_fulfilment_api_refuses_other_tenants(walk: Walk, other: str) -> None:
    callers = {
        "other supplier": other,
        "brand": walk.market.merchant_token,
        "nobody": "",
        "storefront": "pk_x",
    }
    described = (await walk.served.suppliers.get("/fulfillment/v1/openapi.json")).json()
    endpoints = {
        (verb.upper(), path.removeprefix("/fulfillment/v1"))
        for path, verbs in described["paths"].items()
        for verb in verbs
    }
    assert endpoints == ENDPOINTS.keys()
    failures = []
    for (verb, path), (body, kind) in ENDPOINTS.items():
        for name, token in callers.items():
            where = path.format(**{part: walk.filled(table) for part, table in IN_PATH.items()})
            sent = walk.filled(body)
            answer = await walk.served.supplier(verb, where, sent, token=token)
            leaks = walk.leaks(answer.text, [where, sent])
            writes = verb != "GET" or kind == OWN
            changes = await walk.changes(own=kind == OWN) if writes and name == "other supplier" else {}
            told = answer.status_code
            wrong = (
                told >= 500
                or (name != "other supplier" and told not in (401, 403))
                or ("{" in path and name == "other supplier" and told not in (404, 409))
            )
            if leaks or changes or wrong:
                failures.append((verb, path, name, told, leaks, changes, answer.text[:120]))
    assert not failures, "\n".join(map(str, failures))
    assert (await walk.changes(own=True)) == {}


async def test_every_table_of_a_tenant_is_under_row_level_security(postgres: TestDatabase) -> None:
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        rows = await connection.fetch(
            "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition AND NOT relrowsecurity"
        )
        assert {row["relname"] for row in rows} == OPEN_TO_THE_ROLE.keys()
        role = await connection.fetchrow(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = 'lianyu_app'"
        )
        assert role is not None
        assert not any(role.values())
        owned = await connection.fetchval(
            "SELECT count(*) FROM pg_class WHERE relowner = 'lianyu_app'::regrole"
        )
        assert owned == 0
    finally:
        await connection.close()


@pytest.mark.parametrize("kind", ["brand", "supplier", "storefront", ""])
async def test_the_database_itself_shows_another_tenant_no_row(walk: Walk, kind: str) -> None:
    tenant = "" if not kind else ids.TenantId.new().hex
    connection = await asyncpg.connect(walk.postgres.url())
    seen = {}
    try:
        for table in await tables(connection):
            async with connection.transaction():
                await connection.execute(
                    "SELECT set_config('lianyu.kind', $1, true), set_config('lianyu.tenant', $2, true)",
                    kind,
                    tenant,
                )
                count = await connection.fetchval(f"SELECT count(*) FROM {table}")
                changed = await _touched(connection, table)
            if count or changed:
                seen[table] = (count, changed)
    finally:
        await connection.close()
    allowed = READABLE["every"] | (READABLE["brand"] if kind == "brand" else set())
    assert not seen.keys() - allowed, seen
    assert not {table for table, (_, changed) in seen.items() if changed} - OPEN_TO_THE_ROLE.keys()


async def _touched(connection: asyncpg.Connection[Any], table: str) -> bool:
    """Whether a DELETE would reach a row (rolled back); a role without the right to it reaches none."""
    try:
        async with connection.transaction():
            done = await connection.execute(f"DELETE FROM {table}")
            raise _Undo(done != "DELETE 0")
    except _Undo as undone:
        return bool(undone.args[0])
    except asyncpg.PostgresError:
        return False


class _Undo(Exception):
    pass
