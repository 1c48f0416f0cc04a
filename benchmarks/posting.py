"""Ledger posting beside TPC-B with as many clients: from Python, and as the database functions alone.

The Python side is what a handler does: one unit of work per journal, 32 at a time in one process. The rest is
benchmarks/ledger.py, whose accounts and journals these are: five legs, two of them hot, three strict parties.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import uvloop

from benchmarks.frame import Goal, Measured, Options
from benchmarks.ledger import BATCH, CHECK, OPEN_PARTIES, PARTIES, POST_BATCH, POST_JOURNAL
from benchmarks.load import Load, pgbench, repeat
from benchmarks.rounds import Yardstick, measure, rates_only, tpc_b
from benchmarks.servers import Platform, database_only
from core.actor import SYSTEM
from core.clock import SystemClock
from core.ids import OrderId
from infra.db.session import Database, make_engine
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit

SUBMITTERS = 32
_PARTIES = (Code.PENDING, Code.AVAILABLE, Code.IN_PAYOUT)


def posting(options: Options) -> list[Measured]:
    with database_only() as platform:
        platform.postgres.execute(OPEN_PARTIES, database=DEFAULT_DATABASE)
        yardstick = tpc_b(
            platform, options, clients=SUBMITTERS, goal=Goal(1.0, about="with a batcher, not yet there")
        )
        measured = [_from_python(platform, options, yardstick)]
        measured += _in_the_database(platform, options)
        total, wrong = platform.postgres.execute(CHECK, database=DEFAULT_DATABASE).split("|")[1:]
        if total != "0" or wrong != "0":
            raise SystemExit("the books do not balance")
    return measured


def _from_python(platform: Platform, options: Options, yardstick: Yardstick) -> Measured:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        db = Database(make_engine(platform.application_url(), pool_size=SUBMITTERS))
        rng, clock = random.Random(11), SystemClock()

        async def post() -> None:
            now = clock.now()
            journal = _journal(rng)
            async with db.unit_of_work(SYSTEM) as session:
                await ledger.post(session, journal, now=now)

        def load(seconds: float) -> Load:
            return runner.run(repeat(post, clients=SUBMITTERS, seconds=seconds))

        load(1.0)
        measured = measure(
            "posting",
            "ledger.post from Python, one journal per transaction",
            lambda _: load(options.seconds),
            [yardstick],
            processes={"database": platform.database_pid},
            clients=SUBMITTERS,
            rounds=options.rounds,
        )
        runner.run(db.close())
    return measured


def _journal(rng: random.Random) -> Journal:
    amount = rng.randrange(100, 20_000)
    parties = [AccountKey(code, f"party:{rng.randrange(1, PARTIES + 1)}", "CNY") for code in _PARTIES]
    owed = [credit(account, amount) for account in (AccountKey(Code.TAX, "tax:CN", "CNY"), *parties)]
    taken = debit(AccountKey(Code.PROVIDER_PENDING, "psp:stripe", "CNY"), 4 * amount)
    order_id = OrderId.new()
    return Journal(f"capture:{order_id}", "capture", (taken, *owed), SystemClock().now(), order_id=order_id)


def _in_the_database(platform: Platform, options: Options) -> list[Measured]:
    measured = []
    for name, sql, many, goal in (
        ("post_journal by pgbench", POST_JOURNAL, 1, 1.0),
        (f"post_batch of {BATCH} by pgbench, journals", POST_BATCH, BATCH, 2.5),
    ):
        script = _script(platform.home, sql)

        def rate(arguments: tuple[str, ...] = ("-f", str(script)), times: int = many) -> float:
            return times * pgbench(
                platform.postgres, arguments, clients=SUBMITTERS, seconds=options.seconds / 2,
                database=DEFAULT_DATABASE, role=APPLICATION,
            )  # fmt: skip

        yardsticks = [tpc_b(platform, options, clients=SUBMITTERS, goal=Goal(goal))]
        measured.append(
            rates_only("posting", name, rate, yardsticks, clients=SUBMITTERS, rounds=options.rounds)
        )
    return measured


def _script(home: Path, sql: str) -> Path:
    with tempfile.NamedTemporaryFile("w", suffix=".sql", dir=home, delete=False) as file:
        file.write(sql)
    return Path(file.name)
