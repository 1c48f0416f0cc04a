"""Reservations per second, and that none is oversold: one hot shelf and many cool ones, durable commits.

    .venv/bin/python -m benchmarks.inventory [--writers 16] [--seconds 5] [--orders N]

Each order of one to three SKUs is reserved, committed and shipped or released, as a checkout and a supplier
would, until the shelves are empty or the time is over; ``--orders`` gives every writer that many orders
instead. Afterwards the levels are recomputed from the ledgers. Beside it: pgbench TPC-B with as many clients.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from benchmarks.frame import Beside, Measured, lines_of
from core.actor import SYSTEM, Actor, ActorKind
from core.clock import FixedClock
from core.ids import BrandId, CheckoutId, LocationId, OrderLineId, SupplierId, VariantId
from core.money import Money
from infra.db.migrate import upgrade
from infra.db.session import Database, make_engine
from infra.embedded.postgres import APPLICATION, EmbeddedPostgres
from supply.inventory import service as inventory
from supply.inventory.errors import InsufficientStock
from supply.suppliers import service as suppliers
from supply.suppliers.service import NewLocation

_TPS = re.compile(r"tps = ([0-9.]+) \(without")
CLOCK = FixedClock(datetime(2026, 3, 2, 2, 0, tzinfo=UTC))


async def shelves(db: Database, skus: int, units: int) -> tuple[LocationId, list[VariantId]]:
    actor = Actor(ActorKind.SUPPLIER, SupplierId.new())
    brand, variants = BrandId.new(), [VariantId.new() for _ in range(skus)]
    async with db.unit_of_work(SYSTEM) as session:
        await suppliers.register(session, supplier_id=actor.supplier_id, name="Bench", clock=CLOCK)
        new = NewLocation("bench", "Bench", "CN", Money(0, "CNY"))
        location = await suppliers.create_location(session, actor, new, clock=CLOCK)
        rows = [inventory.StockRow(location, variant, brand, count=units) for variant in variants]
        await inventory.apply_stock(session, actor.supplier_id, rows, clock=CLOCK)
    return location, variants


async def writer(
    db: Database,
    location: LocationId,
    variants: Sequence[VariantId],
    outcomes: Counter[str],
    *,
    seed: int,
    until: float,
    orders: int | None,
) -> None:
    dice, done = random.Random(seed), 0
    while done < orders if orders is not None else time.perf_counter() < until:
        done += 1
        chosen = dice.sample(variants, dice.randint(1, 3))
        requests = [inventory.StockRequest(OrderLineId.new(), location, variant, 1) for variant in chosen]
        try:
            outcomes[await one_order(db, requests, dice)] += 1
        except InsufficientStock:
            outcomes["sold out"] += 1
        except DBAPIError as error:
            outcomes[f"FAILED {type(error.orig).__name__}"] += 1


async def one_order(db: Database, requests: Sequence[inventory.StockRequest], dice: random.Random) -> str:
    now, reference = CLOCK.now(), CheckoutId.new()
    async with db.unit_of_work(SYSTEM) as session:
        held = await inventory.reserve(
            session, requests, reference=reference, expires_at=now + timedelta(minutes=30), now=now
        )
    ids = list(held.values())
    async with db.unit_of_work(SYSTEM) as session:
        if dice.random() < 0.2:
            await inventory.release(session, ids, cause="changed mind", now=now)
            return "released"
        await inventory.commit(session, ids, now=now)
        await inventory.consume(session, [(each, 1) for each in ids], cause=str(reference), now=now)
        return "shipped"


async def measure(
    url: str, *, skus: int, writers: int, seconds: float, orders: int | None
) -> tuple[float, int]:
    """Orders that found stock per second; differences between levels and ledgers (0 is the only good figure)."""
    db = Database(make_engine(url, pool_size=writers))
    try:
        location, variants = await shelves(db, skus, 1_000_000)
        outcomes: Counter[str] = Counter()
        started = time.perf_counter()
        until = started + seconds
        await asyncio.gather(
            *(
                writer(db, location, variants, outcomes, seed=seed, until=until, orders=orders)
                for seed in range(writers)
            )
        )
        elapsed = time.perf_counter() - started
        async with db.reading(SYSTEM) as session:
            drifts = len(await inventory.drifts(session))
    finally:
        await db.close()
    rate = (outcomes["shipped"] + outcomes["released"]) / elapsed
    print(f"{skus:>6} SKUs {rate:>8.0f} orders/s  {drifts} differences  {dict(outcomes)}", flush=True)
    if drifts or any(name.startswith("FAILED") for name in outcomes):
        raise SystemExit("stock is not what its ledgers say, or a writer failed")
    return rate, drifts


async def race(url: str, *, writers: int) -> None:
    """More buyers than units: as many are served as there are units."""
    db = Database(make_engine(url, pool_size=writers))
    try:
        location, (variant,) = await shelves(db, 1, 100)

        async def buy() -> bool:
            request = inventory.StockRequest(OrderLineId.new(), location, variant, 1)
            now = CLOCK.now()
            try:
                async with db.unit_of_work(SYSTEM) as session:
                    await inventory.reserve(
                        session, [request], reference=CheckoutId.new(), expires_at=now, now=now
                    )
            except InsufficientStock:
                return False
            return True

        served = sum(await asyncio.gather(*(buy() for _ in range(400))))
    finally:
        await db.close()
    print(f"400 buyers for 100 units: {served} served")
    if served != 100:
        raise SystemExit("oversold or undersold")


def yardstick(server: EmbeddedPostgres, *, clients: int, seconds: int) -> float:
    pgbench = server.binary("pgbench")
    command = [
        pgbench,
        "-n",
        "-M",
        "prepared",
        "-c",
        str(clients),
        "-j",
        "1",
        "-T",
        str(seconds),
        server.url(),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = _TPS.search(result.stdout)
    if found is None:
        raise SystemExit(f"pgbench said nothing: {result.stderr[-500:]}")
    return float(found[1])


def reservations(*, writers: int, seconds: float, rounds: int, orders: int | None = None) -> list[Measured]:
    """A figure per assortment, each round with TPC-B beside it; then the race. Ends at a unit oversold."""
    rates: dict[int, list[float]] = {5: [], 500: []}
    ratios: dict[int, list[float]] = {5: [], 500: []}
    yardsticks: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lianyu-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = EmbeddedPostgres(directory / "postgres")
        server.start()
        try:
            upgrade(server.url())
            url = server.url(role=APPLICATION)
            fill = [server.binary("pgbench"), "-i", "-q", "-s", "20", server.url()]
            subprocess.run(fill, capture_output=True, check=True)
            for _ in range(rounds):
                yardsticks.append(yardstick(server, clients=writers, seconds=max(1, round(seconds))))
                for skus in rates:
                    rate, _ = asyncio.run(
                        measure(url, skus=skus, writers=writers, seconds=seconds, orders=orders)
                    )
                    rates[skus].append(rate)
                    ratios[skus].append(rate / yardsticks[-1])
            asyncio.run(race(url, writers=writers))
        finally:
            server.remove()
    tps = statistics.median(yardsticks)
    return [
        Measured(
            "inventory",
            f"reserve, then ship or release, over {skus} SKUs from Python",
            writers,
            0,
            statistics.median(rates[skus]),
            beside=[Beside(f"pgbench TPC-B, {writers} clients", tps, ratios[skus])],
        )
        for skus in rates
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--orders", type=int, help="of each writer, instead of a time")
    given = parser.parse_args()
    measured = reservations(
        writers=given.writers, seconds=given.seconds, rounds=given.rounds, orders=given.orders
    )
    print("\n".join(lines_of(measured)))


if __name__ == "__main__":
    main()
