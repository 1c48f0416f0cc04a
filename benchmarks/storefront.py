"""What a shopper looks at: the list of 20 products with 3 variants each, and a product's page. Nothing cached.

Ad-hoc GraphQL over HTTP against one API process, each beside pgbench running the same statements with as many
connections, and the list also beside the same payload from FastAPI and orjson. Sixteen different pages and
products take turns.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks.frame import Goal, Measured, Options
from benchmarks.load import Connection, Load, drive, get, pgbench, post
from benchmarks.market import Market
from benchmarks.rounds import Yardstick, measure, selects, vendure
from benchmarks.same_sql import Statement, scripts, statements_of
from benchmarks.servers import Platform
from graph.context import Context
from graph.storefront import schema
from infra.config import Settings
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE
from infra.gateways import Gateways
from services.api.auth import STOREFRONT_KEY
from services.wiring import make_gateways

VARIATIONS = 16
LIST = """query ($after: String) { products(first: 20, after: $after) {
  nodes { id handle title category tags media { url } inStock price { amount currencyCode minorUnits }
    variants { id sku title price { amount currencyCode minorUnits } inStock available } }
  pageInfo { hasNextPage endCursor } } }"""
PAGE = """query ($id: ID!) { product(id: $id) {
  id handle title description category tags attributes media { url } inStock
  price { amount currencyCode minorUnits }
  variants { id sku title options weightG price { amount currencyCode minorUnits } inStock available } } }"""


@dataclass(frozen=True, slots=True)
class Query:
    document: str
    variables: Sequence[Mapping[str, Any]]

    def requests(self, key: str) -> list[bytes]:
        return [
            post(
                "/storefront/graphql", orjson.dumps({"query": self.document, "variables": each}), _keyed(key)
            )
            for each in self.variables
        ]


def storefront_list(platform: Platform, market: Market, options: Options) -> list[Measured]:
    cursors = asyncio.run(_cursors(platform, market))
    query = Query(LIST, [{"after": cursor} for cursor in cursors])
    with (
        platform.web("services.api.app:create_app") as (port, pid),
        platform.web("benchmarks.rest_peer:create_app") as (rest_port, _),
    ):
        peers = [get(f"/products?after={c}" if c else "/products", _keyed(market.key)) for c in cursors]
        requests = query.requests(market.key)
        _check_same(port, requests[0], rest_port, peers[0])
        rest = Yardstick(
            "FastAPI + orjson, same payload",
            lambda: _load(rest_port, peers, options, options.seconds / 2).rate,
            Goal(0.70),
        )
        sql = _same_sql(platform, market, query, options, Goal(0.60, about="trusted document, two workers"))
        _load(port, requests, options, 1.0)  # statements prepared, documents parsed
        _load(rest_port, peers, options, 1.0)
        measured = measure(
            "storefront_list",
            "20 products × 3 variants with prices and stock, as ad-hoc GraphQL",
            lambda _: _load(port, requests, options, options.seconds),
            [sql, rest, selects(platform, options), vendure(12.7, 30)],
            processes={"server": pid, "database": platform.database_pid},
            clients=options.clients,
            rounds=options.rounds,
            p99_goal_ms=50,
        )
    return [measured]


def product_page(platform: Platform, market: Market, options: Options) -> list[Measured]:
    step = len(market.products) // VARIATIONS
    ids = [str(product) for product in market.products[::step]][:VARIATIONS]
    query = Query(PAGE, [{"id": each} for each in ids])
    sql = _same_sql(platform, market, query, options, None)
    requests = query.requests(market.key)
    with platform.web("services.api.app:create_app") as (port, pid):
        _load(port, requests, options, 1.0)
        measured = measure(
            "product_page",
            "one product with its variants, prices and stock, as ad-hoc GraphQL",
            lambda _: _load(port, requests, options, options.seconds),
            [sql, selects(platform, options), vendure(54.0, 15)],
            processes={"server": pid, "database": platform.database_pid},
            clients=options.clients,
            rounds=options.rounds,
            p99_goal_ms=50,
        )
    return [measured]


def _keyed(key: str) -> dict[str, str]:
    return {STOREFRONT_KEY: key}


def _load(port: int, requests: Sequence[bytes], options: Options, seconds: float) -> Load:
    async def step(connection: Connection, number: int) -> None:
        await connection.ask(requests[number % len(requests)])

    return drive(port, step, clients=options.clients, seconds=seconds)


def _same_sql(
    platform: Platform, market: Market, query: Query, options: Options, goal: Goal | None
) -> Yardstick:
    recorded = asyncio.run(_recorded(platform, market, query))
    scripted = scripts(platform.home, f"query-{len(query.document)}", recorded)
    return Yardstick("pgbench, same statements and connections", lambda: pgbench(
        platform.postgres, scripted, clients=options.clients, seconds=options.seconds / 2,
        database=DEFAULT_DATABASE, role=APPLICATION,
    ), goal)  # fmt: skip


async def _recorded(platform: Platform, market: Market, query: Query) -> list[list[Statement]]:
    """What each variation of the query asks of the database."""
    recorded = []
    async with _gateways(platform) as gateways:
        for variables in query.variables:
            with statements_of(gateways.db.engine) as seen:
                await _ask(gateways, market, query.document, variables)
            recorded.append(seen)
    return recorded


async def _cursors(platform: Platform, market: Market) -> list[str | None]:
    """Where the first pages of the list begin."""
    cursors: list[str | None] = [None]
    async with _gateways(platform) as gateways:
        while len(cursors) < VARIATIONS:
            data = await _ask(gateways, market, LIST, {"after": cursors[-1]})
            cursors.append(data["products"]["pageInfo"]["endCursor"])
    return cursors


@asynccontextmanager
async def _gateways(platform: Platform) -> AsyncIterator[Gateways]:
    """The API's own objects in this process, of which only the database is used."""
    made = make_gateways(Settings(app_database_url=platform.application_url()))
    try:
        yield made
    finally:
        await made.db.close()


async def _ask(
    gateways: Gateways, market: Market, document: str, variables: Mapping[str, Any]
) -> dict[str, Any]:
    context = Context(gateways, actor=market.shopper, storefront=market.facts)
    try:
        answer = await schema.execute(document, variable_values=dict(variables), context_value=context)
    finally:
        await context.close()
    if answer.errors or answer.data is None:
        raise RuntimeError(str(answer.errors))
    return answer.data


def _check_same(port: int, request: bytes, other_port: int, other_request: bytes) -> None:
    """Both servers must answer alike, or the ratio means nothing."""
    answers: list[Any] = []

    def remember(asked: bytes) -> Any:
        async def step(connection: Connection, _: int) -> None:
            answers.append(orjson.loads(await connection.ask(asked)))

        return step

    drive(port, remember(request), clients=1, seconds=10, most=1)
    drive(other_port, remember(other_request), clients=1, seconds=10, most=1)
    if answers[0] != answers[1]:
        raise SystemExit(f"the answers differ: {answers[0]} and {answers[1]}"[:2000])
