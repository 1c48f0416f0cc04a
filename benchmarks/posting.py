"""Ledger posting beside TPC-B with as many clients: from Python, and as the database functions alone.

From Python: what a handler does, one unit of work per journal, and through the group-commit batcher; 32 at a time in
one process. The rest is benchmarks/ledger.py, whose accounts and journals these are: five legs, two of them hot, three
strict parties out of 50,000 (cold) or 100 (hot).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.frame import Goal, Measured, Options
from benchmarks.ledger import BATCH, PARTIES, check, open_parties, post_batch, post_journal, script
from benchmarks.load import Load, pgbench, repeat
from benchmarks.rounds import measure, rates_only, tpc_b
from benchmarks.servers import Platform, database_only
from core.actor import SYSTEM
from core.clock import SystemClock
from core.ids import OrderId
from infra.db.session import Database, make_engine
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE
from supply.ledger import service as ledger
from supply.ledger.batcher import PostingBatcher
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit

CLIENTS = 32
_PARTY_CODES = (Code.PENDING, Code.AVAILABLE, Code.IN_PAYOUT)
Submit = Callable[[Journal], Awaitable[object]]


def posting(options: Options) -> list[Measured]:
    with database_only() as platform:
        open_parties(platform)
        measured = [
            _from_python(
                platform, options, "ledger.post from Python, one journal per transaction", _alone, None
            ),
            _from_python(
                platform,
                options,
                "from Python through the group-commit batcher (p50 goal ≤ 10 ms)",
                _batched,
                1.0,
            ),
        ]
        measured += _in_the_database(platform, options)
        check(platform)
    return measured


def _alone(db: Database) -> tuple[Submit, Callable[[], Awaitable[None]]]:
    clock = SystemClock()

    async def submit(journal: Journal) -> object:
        async with db.unit_of_work(SYSTEM) as session:
            return await ledger.post(session, journal, now=clock.now())

    return submit, db.close


def _batched(db: Database) -> tuple[Submit, Callable[[], Awaitable[None]]]:
    batcher = PostingBatcher(db, SystemClock())

    async def submit(journal: Journal) -> object:
        outcome = await batcher.submit(journal)
        if outcome.error:
            raise outcome.error
        return outcome

    async def close() -> None:
        await batcher.close()
        await db.close()

    return submit, close


def _from_python(
    platform: Platform,
    options: Options,
    name: str,
    way: Callable[[Database], tuple[Submit, Callable[[], Awaitable[None]]]],
    goal: float | None,
) -> Measured:
    yardstick = tpc_b(platform, options, clients=CLIENTS, goal=Goal(goal) if goal else None)
    rng = random.Random(11)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def opened() -> tuple[Submit, Callable[[], Awaitable[None]]]:
            return way(Database(make_engine(platform.application_url(), pool_size=CLIENTS)))

        submit, close = runner.run(opened())

        async def once() -> None:
            await submit(_journal(rng))

        def load(seconds: float) -> Load:
            return runner.run(repeat(once, clients=CLIENTS, seconds=seconds))

        load(1.0)
        measured = measure(
            "posting",
            name,
            lambda _: load(options.seconds),
            [yardstick],
            processes={"database": platform.database_pid},
            clients=CLIENTS,
            rounds=options.rounds,
        )
        runner.run(_closed(close))
    return measured


async def _closed(close: Callable[[], Awaitable[None]]) -> None:
    await close()


def _journal(rng: random.Random) -> Journal:
    amount = rng.randrange(100, 20_000)
    parties = [
        AccountKey(code, f"party:cold-{rng.randrange(1, PARTIES['cold'] + 1)}", "CNY")
        for code in _PARTY_CODES
    ]
    owed = [credit(account, amount) for account in (AccountKey(Code.TAX, "tax:CN", "CNY"), *parties)]
    taken = debit(AccountKey(Code.PROVIDER_PENDING, "psp:stripe", "CNY"), 4 * amount)
    order_id = OrderId.new()
    return Journal(f"capture:{order_id}", "capture", (taken, *owed), SystemClock().now(), order_id=order_id)


def _in_the_database(platform: Platform, options: Options) -> list[Measured]:
    measured = []
    for name, sql, many, goal in (
        ("post_journal by pgbench", post_journal, 1, 1.0),
        (f"post_batch of {BATCH} by pgbench, journals", post_batch, BATCH, 2.5),
    ):
        for heat in PARTIES:
            path = script(platform, f"{many}-{heat}", sql(heat))

            def rate(arguments: tuple[str, ...] = ("-f", str(path)), times: int = many) -> float:
                return times * pgbench(
                    platform.postgres, arguments, clients=CLIENTS, seconds=options.seconds,
                    database=DEFAULT_DATABASE, role=APPLICATION,
                )  # fmt: skip

            yardsticks = [tpc_b(platform, options, clients=CLIENTS, goal=Goal(goal))]
            measured.append(
                rates_only(
                    "posting", f"{name}, {heat}", rate, yardsticks, clients=CLIENTS, rounds=options.rounds
                )
            )
    return measured
