"""Clicks at a steady rate through one edge process, each on disk before its redirect leaves and soon attributable.

    .venv/bin/python -m benchmarks.clicks [--rate 2000] [--seconds 10]

The edge is a process of its own in front of an embedded PostgreSQL with fsync on; browsers come over HTTP whether the
last one has been answered or not (32 connections at most). Four times a second a click is followed: from its request
until its row is there and attribution's own query finds it. The edge's own clock says how long a redirect took in it;
beside it stands how long one connection of pgbench waits for the commit of one click, after each round.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import uvloop

from benchmarks.browsers import Browsers, Clicked, Market, follow, market_of
from benchmarks.edge import database_pid, edge_process, one_click
from benchmarks.frame import Beside, Goal, Measured, Options, lines_of, percentile
from benchmarks.load import counting, pgbench
from infra.db.migrate import upgrade
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE, SUPERUSER, EmbeddedPostgres
from marketplace.promotion.touches.touch_token import TouchSigner

RATE = 2_000
P50_GOAL_MS, P99_GOAL_MS, READABLE_GOAL_MS = 2.0, 10.0, 1_000.0
_HISTOGRAM = re.compile(r'^lianyu_edge_redirect_seconds_bucket\{le="([^"]+)"\} ([0-9.e+]+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Round:
    clicked: Clicked
    seconds: float
    buckets: Mapping[float, float]
    """Redirects the edge counted, by upper bound in seconds, cumulative."""
    cpu_ms: Mapping[str, float]
    """Per redirect, by who spent it."""
    commit_ms: float
    """Of one click by one connection of pgbench."""

    @property
    def rate(self) -> float:
        return len(self.clicked.given) / self.seconds

    def server_ms(self, of_hundred: int) -> float:
        """By the edge's histogram, linear inside a bucket."""
        wanted = self.buckets[float("inf")] * of_hundred / 100
        lower, below = 0.0, 0.0
        for upper, count in sorted(self.buckets.items()):
            if count >= wanted and upper != float("inf"):
                return 1000 * (lower + (upper - lower) * (wanted - below) / max(count - below, 1))
            lower, below = upper, count
        return float("inf")


async def _buckets(port: int) -> dict[float, float]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: l\r\nconnection: close\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    return {float(upper): float(count) for upper, count in _HISTOGRAM.findall(answer)}


async def _round(
    port: int,
    url: str,
    signer: TouchSigner,
    market: Market,
    processes: Mapping[str, int],
    *,
    rate: float,
    seconds: float,
    commit_ms: float,
) -> Round:
    clicked = Clicked()
    browsers = Browsers(port, market.code, clicked)
    before, started = await _buckets(port), time.perf_counter()
    following = asyncio.create_task(follow(browsers, port, url, signer, market, clicked))
    with counting(processes) as cpu:
        await browsers.click(int(rate * seconds), rate)
        took = time.perf_counter() - started
    browsers.away = True  # ends the following
    await following
    after = await _buckets(port)
    buckets = {upper: count - before[upper] for upper, count in after.items()}
    return Round(clicked, took, buckets, cpu.per_operation_ms(len(clicked.given)), commit_ms)


def _commit_ms(postgres: EmbeddedPostgres, market: Market, home: Path) -> float:
    script = home / "click.sql"
    script.write_text(one_click(market.code))
    return 1000 / pgbench(
        postgres, ["-f", str(script)], clients=1, seconds=2, database=DEFAULT_DATABASE, role=SUPERUSER
    )


async def _stored(url: str) -> int:
    """Of the edge: pgbench's say that they are a bot's."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM touches WHERE NOT is_bot"))
    finally:
        await connection.close()


def clicks(options: Options, *, rate: float = RATE) -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="lianyu-bench-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        postgres, secret = EmbeddedPostgres(home / "postgres"), secrets.token_hex(32)
        postgres.start()
        try:
            upgrade(postgres.url())
            url = postgres.url(role=APPLICATION)
            market = asyncio.run(market_of(url))
            environment = {
                "APP_DATABASE_URL": url, "LIANYU_SECRET_KEY": secret, "LIANYU_DATA_DIR": str(home / "data"),
            }  # fmt: skip
            with (
                edge_process("services.edge.app:create_app", environment) as (port, pid),
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                processes = {"edge": pid, "database": database_pid(postgres)}
                rounds = [
                    runner.run(
                        _round(
                            port, url, TouchSigner(secret), market, processes, rate=rate, seconds=options.seconds,
                            commit_ms=_commit_ms(postgres, market, home),
                        )
                    )
                    for _ in range(options.rounds)
                ]  # fmt: skip
            stored = asyncio.run(_stored(postgres.url(DEFAULT_DATABASE, role=SUPERUSER)))
        finally:
            postgres.remove()
    given = sum(len(each.clicked.given) for each in rounds)
    if stored != given:
        raise SystemExit(f"{given} redirects, {stored} clicks in the database")
    return _measured(rounds, rate)


def _measured(rounds: list[Round], rate: float) -> list[Measured]:
    seen = sorted(ms for each in rounds for ms in each.clicked.before_ms)
    followed = sorted(ms for each in rounds for ms in each.clicked.attributable_ms)
    server = {q: [each.server_ms(q) for each in rounds] for q in (50, 99)}

    def beside(name: str, goal_ms: float, figures: list[float]) -> Beside:
        ratios = [figure / goal_ms for figure in figures]
        return Beside(name, statistics.median(figures), ratios, Goal(1.0, at_most=True), unit=" ms")

    readable = [percentile(sorted(each.clicked.attributable_ms), 99) for each in rounds]
    return [
        Measured(
            "clicks",
            f"302 with the click on disk, at {rate:,.0f}/s, as browsers see it",
            32,
            len(seen),
            statistics.median(each.rate for each in rounds),
            percentile(seen, 50),
            percentile(seen, 99),
            cpu_ms={who: statistics.median(each.cpu_ms[who] for each in rounds) for who in rounds[0].cpu_ms},
            beside=[
                Beside(
                    f"the rate asked for, {rate:,.0f}/s", rate, [r.rate / rate for r in rounds], Goal(0.99)
                ),
                beside(f"in the edge, p50 of {P50_GOAL_MS:g} ms", P50_GOAL_MS, server[50]),
                Beside(
                    "in the edge, p50: one click's commit by itself in pgbench",
                    statistics.median(each.commit_ms for each in rounds),
                    [p50 / each.commit_ms for p50, each in zip(server[50], rounds, strict=True)],
                    unit=" ms",
                ),
                beside(f"in the edge, p99 of {P99_GOAL_MS:g} ms", P99_GOAL_MS, server[99]),
            ],
        ),
        Measured(
            "clicks",
            "from the click's request until attribution reads it, at that rate",
            1,
            len(followed),
            len(followed) / sum(each.seconds for each in rounds),
            percentile(followed, 50),
            percentile(followed, 99),
            READABLE_GOAL_MS,
            beside=[beside("the p99 of a second", READABLE_GOAL_MS, readable)],
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rate", type=float, default=RATE, help="clicks a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print("\n".join(lines_of(clicks(Options(given.seconds, given.rounds), rate=given.rate))))


if __name__ == "__main__":
    main()
