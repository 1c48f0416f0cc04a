"""`lianyu demo`: a stack of its own, a seeded market, a virtual fortnight of trade, a report that adds up.

The shared clock stands still and is moved from step to step. Within a step people click, a while later they
buy, suppliers answer, ship and deliver; when the platform has nothing left to do the next step begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from core.clock import SharedClock
from infra.config import Settings
from infra.db.session import Database
from services.demo.chaos import Chaos
from services.demo.facts import Facts, gather
from services.demo.http_clients import Browser, Edge, GraphQL, Patience, client, each
from services.demo.market import SEED, Market, generate
from services.demo.merchants import Merchants
from services.demo.notebook import FILE, Notebook
from services.demo.proof import prove
from services.demo.quiet import Platform
from services.demo.report import Driven, problems
from services.demo.scenario import STEPS, Visit, fortnight
from services.demo.shopper import Shoppers
from services.demo.warehouses import Warehouses
from services.running import Running, running_stack
from services.secrets_file import stack_secrets
from services.wiring import make_database

BEGINS = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
"""A Monday morning in China."""
STEP = timedelta(hours=12)
_BROWSING = timedelta(minutes=20)
"""Between the click and the basket: a click in the middle of a checkout would earn nothing."""
_AFTER = (timedelta(days=4), timedelta(days=4), timedelta(days=8), timedelta(days=8))
"""Then the last parcels arrive, return windows close, and everybody is paid."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """``failures``: what is not as it must be; empty for a sound run."""

    facts: Facts
    driven: Driven
    failures: list[str]

    def to_json(self) -> dict[str, Any]:
        driven = asdict(self.driven) | {"paid": sorted(self.driven.paid)}
        return {**self.facts.to_json(), "driven": driven, "failures": self.failures}


def unusual_ports() -> int:
    """Where a stack that comes and goes listens: below the ephemeral ports, away from `lianyu up`'s."""
    return random.randrange(20_000, 32_000, 10)


@contextlib.contextmanager
def own_stack(*, seed: int = SEED, keep: Path | None = None) -> Iterator[Running]:
    """A fresh stack whose clock stands at ``BEGINS`` from the first process on; everything goes afterwards."""
    directory = keep or Path(tempfile.mkdtemp(prefix="lianyu-demo-"))
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / "clock").exists():
        SharedClock(directory / "clock").freeze(BEGINS)
    Notebook(directory / FILE).update({"seed": seed})
    try:
        with running_stack(Settings(), data_dir=directory, port_base=unusual_ports()) as running:
            yield running
    finally:
        if keep is None:
            shutil.rmtree(directory, ignore_errors=True)


def run(running: Running, *, seed: int, orders: int, chaos: bool, say: Say) -> Outcome:
    """Drive a seeded stack through the fortnight and look at what came of it."""
    return asyncio.run(_run(running, seed=seed, orders=orders, chaos=chaos, say=say))


async def _run(running: Running, *, seed: int, orders: int, chaos: bool, say: Say) -> Outcome:
    market = generate(seed)
    visits = fortnight(market, orders=orders)
    driven = Driven(asked_for=orders)
    async with _world(running, market, driven, chaos=chaos) as world:
        started = time.monotonic()
        await world.live(visits, say)
        driven.seconds = time.monotonic() - started
        world.note()
        say("counting")
        facts = await gather(world.db, driven.placed)
        driven.proofs = await prove(world.merchants.brands(), facts.partners)
        provider = await world.provider_holds()
    return Outcome(facts, driven, problems(facts, driven, provider))


@dataclass(slots=True)
class _World:
    settings: Settings
    http: httpx.AsyncClient
    platform: Platform
    db: Database
    shoppers: Shoppers
    warehouses: Warehouses
    merchants: Merchants
    chaos: Chaos | None
    patience: Patience
    driven: Driven

    async def live(self, visits: tuple[Visit, ...], say: Say) -> None:
        for step in range(STEPS):
            await self._half_day(step, [visit for visit in visits if visit.step == step])
            say(f"{self.platform.clock.now():%d %B}: {len(self.driven.paid)} baskets paid")
        for number, pause in enumerate(_AFTER):
            await self._later(pause, last=number == len(_AFTER) - 1)
            say(f"{self.platform.clock.now():%d %B}: return windows close, payouts")

    async def _half_day(self, step: int, visits: list[Visit]) -> None:
        """Clicks, and a while later baskets; suppliers work; the other half of the day passes."""
        clock = self.platform.clock
        await each(visits, self.shoppers.click)
        clock.advance(_BROWSING)
        strike = asyncio.create_task(self.chaos.strike(step)) if self.chaos else None
        await each(visits, self.shoppers.buy)
        if strike is not None:
            await strike
        await self._quiet()
        await self.warehouses.work(step)
        await self._quiet()
        await self.merchants.give_back_unsourced()
        await self.merchants.send_back(self.shoppers.bought, after_payout=False)
        await self._quiet()
        clock.advance(STEP - _BROWSING)
        await self.platform.settle(self.db)

    async def _later(self, pause: timedelta, *, last: bool) -> None:
        """Parcels arrive, windows close, the operator pays out; at the very end more comes back."""
        self.platform.clock.advance(pause)
        await self.platform.settle(self.db)
        await self.warehouses.work(STEPS)
        await self.merchants.send_back(self.shoppers.bought, after_payout=False)
        await self._quiet()
        await self.merchants.pay_out(f"{self.platform.clock.now():%Y-%m-%d}")
        await self.platform.settle(self.db)
        if last:
            await self.merchants.send_back(self.shoppers.bought, after_payout=True)
            await self.platform.settle(self.db)

    async def _quiet(self) -> None:
        await self.platform.quiet(self.db)

    def note(self) -> None:
        driven = self.driven
        driven.turned_away = dict(self.shoppers.away)
        driven.refunds = list(self.merchants.refunds)
        driven.webhooks = self.warehouses.webhooks
        driven.repeated = dict(self.patience.troubles)
        driven.killed = list(self.chaos.killed) if self.chaos else []

    async def provider_holds(self) -> Mapping[str, int]:
        """Available and pending at the provider, by currency."""
        key = self.settings.stripe_api_key.get_secret_value()
        answer = await self.http.get(
            f"{self.settings.stripe_api_base or 'https://api.stripe.com'}/v1/balance",
            headers={"authorization": f"Bearer {key}"},
        )
        answer.raise_for_status()
        balance: dict[str, Any] = answer.json()
        held: dict[str, int] = {}
        for kind in ("available", "pending"):
            for part in balance[kind]:
                currency = part["currency"].upper()
                held[currency] = held.get(currency, 0) + part["amount"]
        return held


@contextlib.asynccontextmanager
async def _world(running: Running, market: Market, driven: Driven, *, chaos: bool) -> AsyncIterator[_World]:
    settings, data_dir = running.settings, Path(running.facts["data_dir"])
    notes, patience = Notebook(data_dir / FILE), Patience(90.0 if chaos else 20.0)
    db = make_database(settings)
    async with client() as http, Warehouses.open(http, settings, market, notes, patience) as warehouses:
        platform = Platform(settings, http, admin_key=stack_secrets(data_dir).paysim_admin_key)
        warehouses.clock = platform.clock
        edge = Edge(http, settings.edge_url, patience)
        shoppers = Shoppers(
            market=market,
            notes=notes,
            edge=edge,
            browser=Browser(http, settings.stripe_api_base or "https://api.stripe.com", patience),
            storefronts={
                (brand.key, index): GraphQL(
                    http,
                    settings.storefront_url,
                    {"x-storefront-key": notes[f"storefront:{brand.key}:{index}"]},
                    patience,
                )
                for brand in market.brands
                for index in range(len(brand.storefronts))
            },
            driven=driven,
        )
        try:
            yield _World(
                settings=settings,
                http=http,
                platform=platform,
                db=db,
                shoppers=shoppers,
                warehouses=warehouses,
                merchants=Merchants(http, settings, market, notes, patience),
                chaos=Chaos(data_dir, steps=STEPS) if chaos else None,
                patience=patience,
                driven=driven,
            )
        finally:
            await platform.close()
            await db.close()


__all__ = ["SEED", "Outcome", "own_stack", "run"]
