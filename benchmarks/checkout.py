"""Selling: the guest checkout of a basket of two brands, from nothing to an order with a payment to be made.

``checkout`` is cartCreate, checkoutStart and checkoutPlace one after the other for each shopper. Each gives two
orders, two parcels and a payment intent at paysim, which runs beside as a process of its own. ``checkout_place``
is checkoutPlace alone, of checkouts started beforehand. Every transaction is durable (fsync on).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from benchmarks.frame import Goal, Measured, Options
from benchmarks.load import Connection, Load, drive, post
from benchmarks.market import Market
from benchmarks.rounds import measure, selects, tpc_b, vendure
from benchmarks.servers import Platform
from services.api.auth import STOREFRONT_KEY

CART = "mutation ($input: CartCreateInput!) { cartCreate(input: $input) { cart { id } userErrors { code } } }"
START = """mutation ($input: CheckoutStartInput!) { checkoutStart(input: $input) {
  checkout { id } quote { total { amount currencyCode } problems { code message } } userErrors { code } } }"""
PLACE = """mutation ($input: CheckoutPlaceInput!) { checkoutPlace(input: $input) {
  checkout { id status total { amount } } payment { intentId clientSecret } userErrors { code message } } }"""
HOME = {"name": "王小明", "line1": "人民路 1 号", "city": "上海", "country": "CN", "region": "SH"}
MANY = 32
"""Clients that place at once: performance.md, goal 4."""
_PER_CLIENT = 3
_SEED = 7


class Shoppers:
    """Baskets of one product of each brand, drawn at random, and what a browser does with one."""

    def __init__(self, market: Market) -> None:
        self._market, self._rng = market, random.Random(_SEED)
        self._numbers: Iterator[int] = itertools.count()

    async def start(self, connection: Connection) -> dict[str, Any]:
        """A checkout that can be placed: the input of checkoutPlace."""
        number = next(self._numbers)
        chosen = self._rng.choice(self._market.own), self._rng.choice(self._market.partners)
        lines = [{"variantId": str(variant), "quantity": 1} for variant in chosen]
        cart = await self._ask(connection, CART, {"lines": lines})
        buyer = {"email": f"shopper{number}@example.com", "address": HOME}
        started = await self._ask(connection, START, {"cartId": cart["cart"]["id"], **buyer})
        if started["quote"]["problems"]:
            raise RuntimeError(str(started))
        checkout_id = started["checkout"]["id"]
        total = started["quote"]["total"]
        return {"checkoutId": checkout_id, "idempotencyKey": checkout_id, "expectedTotal": total}

    async def place(self, connection: Connection, wanted: dict[str, Any]) -> None:
        placed = await self._ask(connection, PLACE, wanted)
        if placed["checkout"]["status"] != "PLACED" or not placed["payment"]["intentId"]:
            raise RuntimeError(str(placed))

    async def _ask(self, connection: Connection, document: str, given: dict[str, Any]) -> dict[str, Any]:
        body = orjson.dumps({"query": document, "variables": {"input": given}})
        headers = {STOREFRONT_KEY: self._market.key}
        answer = orjson.loads(await connection.ask(post("/storefront/graphql", body, headers)))
        if answer.get("errors"):
            raise RuntimeError(str(answer))
        payload: dict[str, Any] = next(iter(answer["data"].values()))
        if payload["userErrors"]:
            raise RuntimeError(str(payload))
        return payload


def checkout(platform: Platform, market: Market, options: Options) -> list[Measured]:
    with platform.web("services.api.app:create_app") as (port, pid):
        shoppers = Shoppers(market)
        processes = {"server": pid, "database": platform.database_pid, "provider": platform.provider_pid}

        async def buy(connection: Connection, _: int) -> None:
            await shoppers.place(connection, await shoppers.start(connection))

        def load(seconds: float) -> Load:
            return drive(port, buy, clients=options.clients, seconds=seconds)

        load(1.0)  # statements prepared, documents parsed
        whole = measure(
            "checkout",
            "guest checkout of two brands, cart to order with a payment intent",
            lambda _: load(options.seconds),
            [
                tpc_b(platform, options, clients=options.clients),
                selects(platform, options),
                vendure(10.1, 10),
            ],
            processes=processes,
            clients=options.clients,
            rounds=options.rounds,
            p99_goal_ms=150,
        )
        started = [_started(port, shoppers) for _ in range(options.rounds)]
        goal = Goal(0.35, about="the write transaction alone; here with payment and answer")
        placing = measure(
            "checkout_place",
            "checkoutPlace alone: reserve, write two orders, route, ask for payment",
            lambda number: _place_all(port, shoppers, started[number]),
            [tpc_b(platform, options, clients=MANY, goal=goal)],
            processes=processes,
            clients=MANY,
            rounds=options.rounds,
        )
    return [whole, placing]


def _started(port: int, shoppers: Shoppers) -> list[dict[str, Any]]:
    ready: list[dict[str, Any]] = []

    async def step(connection: Connection, _: int) -> None:
        ready.append(await shoppers.start(connection))

    drive(port, step, clients=8, seconds=60, most=MANY * _PER_CLIENT)
    return ready


def _place_all(port: int, shoppers: Shoppers, ready: Sequence[dict[str, Any]]) -> Load:
    async def step(connection: Connection, number: int) -> None:
        await shoppers.place(connection, ready[number])

    return drive(port, step, clients=MANY, seconds=60, most=len(ready))
