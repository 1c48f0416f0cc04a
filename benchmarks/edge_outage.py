"""PostgreSQL stopped in the middle of a stream of clicks: none may be lost, none doubled.

    .venv/bin/python -m benchmarks.edge_outage [--clicks 200000] [--rate 2000] [--outage 20] [--kill]

One edge process, an embedded PostgreSQL with fsync on. Browsers click at a steady rate; after two fifths of the
clicks PostgreSQL is stopped (``--kill``: by SIGKILL), and started again after the outage. Every redirect's touch id
is kept, and compared in the end with the rows of ``touches``. Before the outage some clicks are followed until
attribution's own query finds them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.browsers import Browsers, Clicked, Market, follow, market_of
from benchmarks.edge import edge_process
from benchmarks.frame import percentile
from infra.db.migrate import upgrade
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE, SUPERUSER, EmbeddedPostgres
from marketplace.promotion.touches.touch_token import TouchSigner

_HOME_WITHIN_S = 120


@dataclass(slots=True)
class Outage(Clicked):
    stored: set[UUID] = field(default_factory=set)
    away_s: float = 0.0
    home_s: float = 0.0
    """From the last click until the spool was empty."""
    seconds: float = 0.0
    spooled: int = 0

    @property
    def lost(self) -> set[UUID]:
        return self.given - self.stored

    @property
    def doubled(self) -> set[UUID]:
        """Rows that no redirect stands for."""
        return self.stored - self.given


async def _stop_and_start(
    postgres: EmbeddedPostgres,
    browsers: Browsers,
    outage: Outage,
    following: asyncio.Task[None],
    *,
    after: int,
    outage_s: float,
    kill: bool,
) -> None:
    while True:
        if browsers.sent >= after:
            break
        await asyncio.sleep(0.01)
    browsers.away, stopped = True, time.perf_counter()
    await following  # the click it is at would be read from a database that is gone
    pid = postgres.pid
    if kill and pid is not None:
        os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(outage_s)
    await asyncio.to_thread(postgres.start)
    outage.away_s = time.perf_counter() - stopped
    browsers.away = False


def _files_wait(spool: Path) -> bool:
    return any(spool.glob("clicks-*.jsonl"))


async def _spool_home(spool: Path) -> float:
    started = time.perf_counter()
    while _files_wait(spool):
        if time.perf_counter() - started > _HOME_WITHIN_S:
            raise TimeoutError("the spool did not come home")
        await asyncio.sleep(0.02)
    return time.perf_counter() - started


async def _stored(url: str) -> set[UUID]:
    connection = await asyncpg.connect(url)
    try:
        return {UUID(int=row["id"].int) for row in await connection.fetch("SELECT id FROM touches")}
    finally:
        await connection.close()


async def _metric(port: int, name: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: l\r\nconnection: close\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    found = re.search(rf"^{name} ([0-9.e+]+)$", answer, re.MULTILINE)
    return int(float(found[1])) if found else 0


def outage_run(
    home: Path, *, clicks: int, rate: float, outage_s: float, kill: bool = False, settings: Any = None
) -> Outage:
    """Everything of one run, in ``home``. ``clicks`` are the steady ones; followed clicks come on top."""
    postgres, secret = EmbeddedPostgres(home / "postgres", settings=settings), secrets.token_hex(32)
    postgres.start()
    try:
        upgrade(postgres.url())
        url = postgres.url(role=APPLICATION)
        market = asyncio.run(market_of(url))
        data = home / "data"
        environment = {"APP_DATABASE_URL": url, "LIANYU_SECRET_KEY": secret, "LIANYU_DATA_DIR": str(data)}
        with edge_process("services.edge.app:create_app", environment) as (port, _):
            return asyncio.run(
                _run(postgres, port, url, TouchSigner(secret), market, data, clicks, rate, outage_s, kill)
            )
    finally:
        postgres.remove()


async def _run(
    postgres: EmbeddedPostgres, port: int, url: str, signer: TouchSigner, market: Market, data: Path, clicks: int,
    rate: float, outage_s: float, kill: bool,
) -> Outage:  # fmt: skip
    outage = Outage()
    browsers, started = Browsers(port, market.code, outage), time.perf_counter()
    following = asyncio.create_task(follow(browsers, port, url, signer, market, outage))
    await asyncio.gather(
        browsers.click(clicks, rate),
        _stop_and_start(
            postgres, browsers, outage, following, after=clicks * 2 // 5, outage_s=outage_s, kill=kill
        ),
    )
    outage.home_s = await _spool_home(data / "edge" / "spool")
    outage.seconds = time.perf_counter() - started
    outage.spooled = await _metric(port, "lianyu_edge_clicks_spooled_total")
    outage.stored = await _stored(postgres.url(DEFAULT_DATABASE, role=SUPERUSER))
    return outage


def lines_of(outage: Outage) -> list[str]:
    def spread(name: str, values: list[float]) -> str:
        ordered = sorted(values)
        return f"{name}: p50 {percentile(ordered, 50):.2f} ms, p99 {percentile(ordered, 99):.2f} ms of {len(ordered):,}"

    return [
        f"{len(outage.given):,} redirects in {outage.seconds:.0f} s, {outage.refused} refused;"
        f" database away {outage.away_s:.1f} s, {outage.spooled:,} clicks spooled",
        f"lost {len(outage.lost)}, doubled {len(outage.doubled)}",
        f"spool empty {outage.home_s:.1f} s after the last click",
        spread("redirect with the database there", outage.before_ms),
        spread("redirect with the database away", outage.during_ms),
        spread("click until attribution reads it", outage.attributable_ms),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clicks", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=2_000, help="clicks per second, at most")
    parser.add_argument("--outage", type=float, default=20.0, help="seconds without PostgreSQL")
    parser.add_argument("--kill", action="store_true", help="SIGKILL instead of a shutdown")
    given = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} at the start")
    with tempfile.TemporaryDirectory(prefix="lianyu-bench-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        outage = outage_run(
            home, clicks=given.clicks, rate=given.rate, outage_s=given.outage, kill=given.kill
        )
    print("\n".join(lines_of(outage)))
    if outage.lost or outage.doubled:
        raise SystemExit("clicks were lost or doubled")


if __name__ == "__main__":
    main()
