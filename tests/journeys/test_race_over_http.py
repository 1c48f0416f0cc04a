"""24 buyers race for 5 units through the storefront API of two processes: 5 orders, 19 typed refusals, no 5xx."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import SystemClock
from core.ids import VariantId
from infra.db.session import Database
from infra.embedded.ports import free_port
from tests.conftest import TestDatabase
from tests.factories import supply
from tests.factories.brands import committed_brand, committed_storefront
from tests.factories.catalog import committed_product, priced

pytestmark = pytest.mark.stack
ROOT = Path(__file__).resolve().parents[2]
BUYERS, UNITS, SEEDS, PROCESSES = 24, 5, 20, 2
STARTUP_S = 60.0
_SECRET_KEY, _ADMIN = "sk_test_race", "ak_race"

PLACE = """mutation ($i: CheckoutPlaceInput!) { checkoutPlace(input: $i) {
  checkout { status } payment { intentId } userErrors { code facts } } }"""
HOME = {"name": "王小明", "line1": "人民路 1 号", "city": "上海", "country": "CN", "region": "SH"}


@dataclass(frozen=True, slots=True)
class Store:
    """What is raced for: one variant a seed, five units of each, and the two addresses to buy it at."""

    urls: list[str]
    key: str
    variants: list[VariantId]


@pytest.fixture
def processes(postgres: TestDatabase, tmp_path: Path) -> Iterator[list[str]]:
    """A payment provider and two API processes on the test's database; ended with the test."""
    environment = {
        **os.environ, "LIANYU_ENV": "test", "APP_DATABASE_URL": postgres.url(), "STRIPE_API_KEY": _SECRET_KEY,
        "STRIPE_WEBHOOK_SECRET": "whsec_race", "LIANYU_DATA_DIR": str(tmp_path), "LIANYU_LOG_LEVEL": "WARNING",
        "PAYSIM_SECRET_KEY": _SECRET_KEY, "PAYSIM_PUBLISHABLE_KEY": "pk_test_race", "PAYSIM_ADMIN_KEY": _ADMIN,
        "PAYSIM_WEBHOOK_SECRET": "whsec_race",
    }  # fmt: skip
    for stray in ("DATABASE_URL", "LIANYU_CLOCK_FILE", "BROKER_URL"):
        environment.pop(stray, None)
    started: list[subprocess.Popen[bytes]] = []
    log = (tmp_path / "log").open("wb")

    def start(*argv: str) -> None:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", *argv], cwd=ROOT, env=environment, stdout=log, stderr=log,
            )
        )  # fmt: skip

    paysim, *apis = [free_port() for _ in range(1 + PROCESSES)]
    environment["STRIPE_API_BASE"] = f"http://127.0.0.1:{paysim}"
    try:
        start("services.paysim", "--port", str(paysim), "--data-dir", str(tmp_path / "paysim"))
        for port in apis:
            start(
                "uvicorn", "services.api.app:create_app", "--factory", "--host", "127.0.0.1", "--port",
                str(port), "--no-access-log",
            )  # fmt: skip
        urls = [f"http://127.0.0.1:{port}" for port in (paysim, *apis)]
        for url in urls:
            _await_health(url, tmp_path / "log")
        yield urls[1:]
    finally:
        for process in started:
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        log.close()


def _await_health(url: str, log: Path) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/healthz", trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"{url} did not become healthy: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture
async def store(processes: list[str], db: Database) -> Store:
    clock = SystemClock()
    brand, _ = await committed_brand(db, clock)
    front = await committed_storefront(db, clock, brand)
    made = await committed_product(
        db, clock, brand, variants=[priced(f"RACE-{n}", "100.00", weight_g=100) for n in range(SEEDS)]
    )
    async with db.unit_of_work(SYSTEM) as session:
        await supply.supplier(
            session, clock, stock=dict.fromkeys(made.variants, UNITS), brand_id=brand.brand_id
        )
    return Store(processes, front.key, list(made.variants))


@pytest.fixture
async def clients(store: Store) -> AsyncIterator[list[httpx.AsyncClient]]:
    limits = httpx.Limits(max_connections=BUYERS)
    clients = [
        httpx.AsyncClient(
            base_url=url, headers={"x-storefront-key": store.key}, timeout=30, trust_env=False, limits=limits
        )
        for url in store.urls
    ]
    yield clients
    for client in clients:
        await client.aclose()


async def _ask(client: httpx.AsyncClient, document: str, **variables: Any) -> dict[str, Any]:
    answer = await client.post("/storefront/graphql", json={"query": document, "variables": variables})
    assert answer.status_code == 200, answer.text
    body = json.loads(answer.content)
    assert "errors" not in body, body
    data: dict[str, Any] = body["data"]
    return data


def _for_everybody(field: str, kind: str, selected: str) -> str:
    """One mutation for all buyers of a door: getting ready is not the race, and need not be 24 requests."""
    declared = ", ".join(f"$b{n}: {kind}!" for n in range(BUYERS // PROCESSES))
    each = " ".join(f"b{n}: {field}(input: $b{n}) {{ {selected} }}" for n in range(BUYERS // PROCESSES))
    return f"mutation ({declared}) {{ {each} }}"


CARTS = _for_everybody("cartCreate", "CartCreateInput", "cart { id }")
STARTS = _for_everybody("checkoutStart", "CheckoutStartInput", "checkout { id } quote { problems { code } }")


async def _ready_to_buy(client: httpx.AsyncClient, variant: VariantId) -> list[str]:
    """The checkouts of half of the buyers, each with its own cart, begun at this door."""
    wanted = {"lines": [{"variantId": str(variant), "quantity": 1}]}
    carts = await _ask(client, CARTS, **{f"b{n}": wanted for n in range(BUYERS // PROCESSES)})
    given = {
        name: {"cartId": made["cart"]["id"], "email": f"{name}@example.com", "address": HOME}
        for name, made in carts.items()
    }
    started = await _ask(client, STARTS, **given)
    assert all(each["quote"]["problems"] == [] for each in started.values())
    return [str(each["checkout"]["id"]) for each in started.values()]


async def _race(clients: list[httpx.AsyncClient], variant: VariantId, seed: int) -> Counter[str]:
    """Who buys where, and when within a few milliseconds, is the seed's choice."""
    chance = random.Random(seed)
    ready = await asyncio.gather(*(_ready_to_buy(client, variant) for client in clients))
    checkouts = [checkout for at_one_door in ready for checkout in at_one_door]
    doors = [clients[n % PROCESSES] for n in range(BUYERS)]
    chance.shuffle(doors)  # nobody need place where they started

    async def buy(door: httpx.AsyncClient, checkout: str, pause_s: float) -> str:
        await asyncio.sleep(pause_s)
        given = {"checkoutId": checkout, "idempotencyKey": f"race-{checkout}"}
        placed = (await _ask(door, PLACE, i=given))["checkoutPlace"]
        if placed["userErrors"]:
            (error,) = placed["userErrors"]
            assert error["facts"]["available"] < 1, error
            return str(error["code"])
        assert placed["payment"]["intentId"].startswith("pi_")
        return str(placed["checkout"]["status"])

    pauses = [chance.uniform(0, 0.02) for _ in range(BUYERS)]
    return Counter(await asyncio.gather(*map(buy, doors, checkouts, pauses)))


async def test_five_units_make_five_orders_whoever_asks_where(
    store: Store, clients: list[httpx.AsyncClient], db: Database
) -> None:
    for seed, variant in enumerate(store.variants):
        assert await _race(clients, variant, seed) == {
            "PLACED": UNITS,
            "INSUFFICIENT_STOCK": BUYERS - UNITS,
        }, seed

    async with db.reading(SYSTEM) as session:
        stock = await session.execute(text("SELECT on_hand, reserved FROM stock_levels"))
        assert {tuple(row) for row in stock} == {(UNITS, UNITS)}
        for table in ("orders", "payments", "fulfillment_orders"):
            count = (await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()
            assert count == UNITS * SEEDS, table
