"""Everything a step may touch: the database, the provider, the clock, the queues, and what is known of orders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random

import httpx
from fastapi import FastAPI
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId
from infra.config import Settings
from infra.db.session import Database
from infra.gateways import Gateways
from infra.search.postgres_index import PostgresIndex
from infra.suppliers.http_endpoint import HttpEndpoint
from services.api.webhooks import payment_webhooks
from services.paysim.webhooks import Delivery as Hook
from services.paysim.webhooks import Outcome
from services.simulate.baskets import PlacedCheckout, PlacedOrder, Shopper
from services.simulate.kill import KillableDatabase, KillSwitch, killable_gateway, killable_rail
from services.simulate.market import RATES, Market
from services.simulate.provider import HOOKS, Provider
from services.simulate.trace import Names, Trace
from services.simulate.transport import InProcess
from services.worker.dispatch import Delivery
from supply.settlement.capture import CapturedOrder

_TIDY = text("VACUUM (ANALYZE)")
_ROWS = text(
    " UNION ALL ".join(
        f"SELECT '{table}' AS name, count(*)::int AS rows FROM {table}"
        for table in (
            "ledger_journals", "ledger_entries", "outbox", "handled_messages", "provider_events", "split_orders",
            "refunds", "payouts", "statements",
        )
    )
)  # fmt: skip
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
SECRET = "the secret of a simulation, long enough to be one"


@dataclass(slots=True, eq=False)
class Queued:
    """A message at the broker; ``tries`` counts how often it failed since it was carried last, ``not_before`` is
    when it is tried again."""

    delivery: Delivery
    tries: int = 0
    not_before: datetime = _LONG_AGO


@dataclass(slots=True)
class SharedOrder:
    """An order paid on the sharing rail."""

    name: str
    order: CapturedOrder
    recorded: bool = False
    delivered: bool = False

    @property
    def paid_minor(self) -> int:
        return sum(line.paid_minor for line in self.order.lines)


@dataclass
class World:
    seed: int
    dice: Random
    clock: FixedClock
    db: KillableDatabase
    calm: Database
    """The same database for whatever nobody kills: the market, the shoppers, the checks."""
    switch: KillSwitch
    provider: Provider
    gateways: Gateways
    market: Market
    shopper: Shopper
    receiver: httpx.AsyncClient
    trace: Trace = field(default_factory=Trace)
    names: Names = field(default_factory=Names)
    step: int = 0
    healthy: bool = False
    """Nobody is killed any more."""
    unpaid: list[PlacedCheckout] = field(default_factory=list)
    """Placed, and somebody may still pay them."""
    orders: list[PlacedOrder] = field(default_factory=list)
    """Of checkouts that were paid; whether we know it yet is the webhooks' affair."""
    broker: list[Queued] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=lambda: dict(RATES))
    shared: list[SharedOrder] = field(default_factory=list)
    disputes: list[str] = field(default_factory=list)
    """At the provider, as they were opened."""
    hooks: list[Hook] = field(default_factory=list)
    answered: list[Outcome] = field(default_factory=list)
    """Outcomes of deliveries that the provider was not told of yet."""
    kills: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """What no invariant says: messages a worker would have parked, deadlocks, rows that a power cut lost."""
    kill_server: Callable[[], None] | None = None
    power_cut_one_in: int = 1
    """Kills, of which one hits the database instead of the worker, where somebody can kill it."""
    power_cuts: int = 0
    cut_at: str = ""

    @property
    def now(self) -> datetime:
        return self.clock.now()

    def note(self, what: str) -> None:
        self.trace.note(self.step, self.now, what)

    def merchant(self, brand_id: BrandId) -> str:
        return self.market.names[str(brand_id)]

    def may_cut_power(self) -> bool:
        return self.kill_server is not None and self.dice.randrange(self.power_cut_one_in) == 0

    async def cut_power(self, where: str) -> None:
        """PostgreSQL dies with every process and starts again. What was acknowledged is there, and nothing else."""
        assert self.kill_server is not None
        before = await self._acknowledged()
        self.power_cuts, self.cut_at = self.power_cuts + 1, where
        self.kill_server()
        for db in (self.calm, self.db):
            await db.engine.dispose()  # what is in use finds out by itself
        after = await self._acknowledged()
        self.failures += [
            f"{table} had {before[table]} rows, after the power cut {count}"
            for table, count in after.items()
            if count != before[table]
        ]

    async def _acknowledged(self) -> dict[str, int]:
        async with self.calm.reading(SYSTEM) as session:
            return {row.name: row.rows for row in await session.execute(_ROWS)}

    async def tidy(self) -> None:
        """What autovacuum would have done by now, at a moment that the seed knows."""
        async with self.calm.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(_TIDY)

    @property
    def messages(self) -> list[Queued]:
        """At the broker, and not waiting for their next try."""
        return [queued for queued in self.broker if queued.not_before <= self.now]

    async def flush_answers(self) -> None:
        await self.provider.note(self.answered)
        self.answered.clear()

    async def fetch_hooks(self) -> None:
        """Webhooks the provider has queued since; those in hand stay in their order."""
        await self.flush_answers()
        flying = frozenset(hook.id for hook in self.hooks)
        self.hooks += await self.provider.take_deliveries(flying)


def make_gateways(
    db: KillableDatabase, provider: Provider, switch: KillSwitch, clock: FixedClock
) -> Gateways:
    rail = provider.sharing
    return Gateways(
        db=db,
        clock=clock,
        payments=killable_gateway(provider.gateway, switch),
        search=PostgresIndex(),
        endpoints=HttpEndpoint(allow_private=False),
        rails={rail.capabilities().name: killable_rail(rail, switch)},
        settings=Settings(secret_key=SECRET),  # type: ignore[arg-type, unused-ignore]
    )


def make_receiver(gateways: Gateways) -> httpx.AsyncClient:
    """The platform's own webhook route, reached over the in-process transport."""
    app = FastAPI()
    app.include_router(payment_webhooks(gateways))
    return httpx.AsyncClient(transport=InProcess(app), base_url=HOOKS.partition("/webhooks")[0])
