"""One seed from the first basket to rest: which step is next is drawn, so the seed is the whole story."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from sqlalchemy.event import listens_for
from sqlalchemy.ext.asyncio import AsyncEngine

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import ids_drawn_from
from infra.db.session import Database, make_engine
from services.simulate import banks, carrying, happenings, operators, parcels, returns, shared
from services.simulate.at_rest import come_to_rest, provider_agrees, statements_agree
from services.simulate.baskets import OLDEST_TOUCH, Shopper
from services.simulate.invariants import violations
from services.simulate.kill import CallInsideTransaction, KillableDatabase, KillSwitch
from services.simulate.market import KEPT_IN, RATES, open_market
from services.simulate.provider import provider
from services.simulate.trace import Trace
from services.simulate.world import SECRET, World, make_gateways, make_receiver

BEGIN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
CHECK_EVERY = 500
"""Steps between two looks at all invariants."""
POWER_CUT_ONE_IN = 40
"""A seed of two thousand orders has about three of them."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Step = Callable[[World], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Result:
    """``asked`` orders make ``orders``, as baskets are whole. ``trace`` is the hash of every step; ``last`` the
    steps before the end, for a failure to be read from."""

    seed: int
    asked: int
    orders: int
    steps: int
    seconds: float
    trace: str
    broken: tuple[str, ...] = ()
    last: tuple[str, ...] = ()
    kills: dict[str, int] = field(default_factory=dict)
    happened: dict[str, int] = field(default_factory=dict)
    power_cuts: int = 0

    @property
    def green(self) -> bool:
        return not self.broken


async def simulate(
    url: str,
    seed: int,
    *,
    orders: int,
    listen: Callable[[str], object] = len,
    kill_server: Callable[[], None] | None = None,
    power_cut_one_in: int = POWER_CUT_ONE_IN,
) -> Result:
    """Until ``orders`` orders were placed and everything has come to rest. ``url``: an empty migrated database,
    as the application's role. ``listen`` hears every line of the trace. ``kill_server`` ends every process of the
    database by SIGKILL and starts it again, at one in ``power_cut_one_in`` kills; without it that never happens.
    """
    began, clock = monotonic(), FixedClock(BEGIN)

    def time_ns() -> int:
        return (clock.now() - _EPOCH) // timedelta(microseconds=1) * 1_000

    with ids_drawn_from(Random(f"ids of {seed}").randbytes, time_ns):
        world, broken = await _live(url, seed, clock, orders, Trace(listen), kill_server, power_cut_one_in)
    return Result(
        seed, orders, world.shopper.orders, world.step, monotonic() - began, world.trace.digest, tuple(broken),
        tuple(world.trace.last), dict(sorted(world.kills.items())), dict(sorted(world.happened.items())),
        world.power_cuts,
    )  # fmt: skip


async def _live(
    url: str,
    seed: int,
    clock: FixedClock,
    orders: int,
    trace: Trace,
    kill_server: Callable[[], None] | None,
    power_cut_one_in: int,
) -> tuple[World, Sequence[str]]:
    switch, dice = KillSwitch(), Random(seed)
    db, calm = KillableDatabase(_engine(url), switch), Database(_engine(url))
    with tempfile.TemporaryDirectory(prefix="lianyu-simulation-") as directory:
        try:
            async with provider(Path(directory), clock, seed=seed) as paysim:
                await paysim.convert(KEPT_IN, RATES)
                gateways = make_gateways(db, paysim, switch, clock)
                market = await open_market(
                    calm, dice=dice, payments=paysim.gateway, secret=SECRET, clock=clock
                )
                await shared.open_accounts(calm, market, paysim.sharing, paysim, clock)
                # Touches of the first baskets are younger than the agreements they earn under.
                clock.advance(OLDEST_TOUCH)
                async with make_receiver(gateways) as receiver:
                    world = World(
                        seed, dice, clock, db, calm, switch, paysim, gateways, market,
                        Shopper(market, dice, SECRET), receiver, trace, kill_server=kill_server,
                        power_cut_one_in=power_cut_one_in,
                    )  # fmt: skip
                    return world, await _to_rest(world, orders)
        finally:
            await db.close()
            await calm.close()


def _engine(url: str) -> AsyncEngine:
    """What the database draws by chance (who is closed first) follows from the seed as well."""
    engine = make_engine(url, pool_size=carrying.AT_ONCE)

    @listens_for(engine.sync_engine, "connect")
    def draw_the_same(connection: Any, _: Any) -> None:
        connection.run_async(lambda driver: driver.execute("SELECT setseed(0)"))

    return engine


async def _to_rest(world: World, orders: int) -> Sequence[str]:
    """What is broken, at the first look that finds something."""
    try:
        while not _over(world, orders):
            await _step(world, orders)
            if world.step % CHECK_EVERY == 0:
                await world.tidy()
                if broken := await look(world):
                    return broken
        restless = await come_to_rest(world)
        return restless or [*await look(world), *await provider_agrees(world), *await statements_agree(world)]
    except CallInsideTransaction as error:
        return [f"the provider's {error} was called inside a transaction"]
    except (
        Exception
    ) as error:  # whatever it is, it is a finding, and the steps before it say how to get there
        where = traceback.extract_tb(error.__traceback__)[-1]
        return [f"{type(error).__name__} at {where.name}, line {where.lineno}: {error}"]


def _over(world: World, orders: int) -> bool:
    return world.shopper.orders >= orders and not (world.unpaid or world.broker or world.hooks)


async def look(world: World) -> list[str]:
    async with world.calm.reading(SYSTEM) as session:
        found = await violations(session)
    return [str(each) for each in found] + world.failures


async def _step(world: World, orders: int) -> None:
    world.step += 1
    world.clock.advance(timedelta(seconds=world.dice.randrange(0, 20)))
    steps, weights = zip(*_possible(world, orders), strict=True)
    (chosen,) = world.dice.choices(steps, weights)
    world.note(await chosen(world))
    if world.step % 5 == 0:
        await world.fetch_hooks()


def _possible(world: World, orders: int) -> list[tuple[Step, int]]:
    """What can happen next, and how likely it is."""
    possible: list[tuple[Step, int]] = [
        (carrying.relay, 12), (carrying.any_sweep, 10), (carrying.at_once, 4),
        (happenings.pass_time, 4), (happenings.fault, 2),
        (happenings.let_webhooks_go, 1), (operators.pay_out, 1), (operators.recover, 1), (operators.write_off, 1),
        (operators.pay_ourselves, 1), (operators.give_what_is_owed, 1), (banks.move_rates, 1),
    ]  # fmt: skip
    if world.shopper.orders < orders and len(world.unpaid) < happenings.CHECKOUTS_AT_ONCE:
        possible.append((happenings.place, 12))
    if world.unpaid:
        possible.append((happenings.pay, 60))
    if world.hooks:
        possible.append((carrying.webhook, 40))
    if world.messages:
        possible.append((carrying.message, 60))
    if world.orders:
        possible += [
            (happenings.refund, 6), (parcels.deliver, 3), (operators.goodwill, 1), (parcels.reroute, 2),
            (returns.announce, 2), (returns.go_on, 4), (shared.sell, 2), (banks.dispute, 1), (banks.refund_past_us, 1),
        ]  # fmt: skip
    if world.shared:
        possible += [(shared.deliver, 1), (shared.refund, 1), (shared.decide, 1)]
    if world.disputes:
        possible += [(banks.decide, 1), (banks.answer, 1)]
    return possible
