"""What a durable click costs: the redirect with it beside the same redirect without a sink, in one run.

    .venv/bin/python -m benchmarks.edge [--seconds 5] [--clients 32]

Two uvicorn processes of the edge stand side by side on one embedded PostgreSQL with fsync on: one commits
every click before its redirect leaves (many clicks per commit), the other drops them. Rounds alternate; the
figure is CPU per redirect of the edge process, with the database's own beside it. Goal: at most 2.5 times.
Afterwards the clicks in the database are counted against the redirects answered: none may be missing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from benchmarks.frame import Beside, Goal, Measured, lines_of, percentile
from benchmarks.load import pgbench
from core.clock import SystemClock
from core.ids import BrandId, CommunityId, LinkId, PlacementId
from infra.config import Settings
from infra.db.migrate import upgrade
from infra.embedded.ports import free_port
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE, SUPERUSER, EmbeddedPostgres
from marketplace.promotion.touches.clicks import Click
from services.edge.app import Edge

_AGENT = b"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) MicroMessenger/8.0"
_CODE = "benchmark2"
_ROUNDS = 3


def one_click(code: str) -> str:
    """What PostgreSQL does with each click in a commit of its own; told apart from the edge's by its is_bot."""
    return (
        "INSERT INTO touches (id, link_id, agreement_id, advertiser_id, promoter_brand_id, at, kind, is_bot)"
        " SELECT uuidv7(), id, agreement_id, advertiser_id, promoter_brand_id, now(), 'click', true"
        f" FROM tracked_links WHERE code = '{code}';"
    )


class NoSink:
    """Takes clicks and keeps none."""

    database_up = True

    async def start(self) -> None: ...

    async def record(self, click: Click) -> None: ...

    async def close(self) -> None: ...


def without_sink() -> Edge:
    return Edge(Settings(), SystemClock(), NoSink())


@dataclass(frozen=True, slots=True)
class Round:
    redirects: int
    seconds: float
    edge_cpu_s: float
    database_cpu_s: float
    latencies_ms: Sequence[float]

    @property
    def rate(self) -> float:
        return self.redirects / self.seconds

    @property
    def edge_ms(self) -> float:
        return 1000 * self.edge_cpu_s / self.redirects

    @property
    def database_ms(self) -> float:
        return 1000 * self.database_cpu_s / self.redirects


async def _client(port: int, until: float, latencies: list[float]) -> None:
    """One keep-alive browser after another asking for the same link, each without a cookie."""
    request = b"GET /l/%s HTTP/1.1\r\nhost: l\r\nuser-agent: %s\r\n\r\n" % (_CODE.encode(), _AGENT)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        latencies.append(1000 * (time.perf_counter() - started))
        if not head.startswith(b"HTTP/1.1 302"):
            raise RuntimeError(head.decode())
    writer.close()


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def database_pid(postgres: EmbeddedPostgres) -> int:
    return int((postgres.cluster / "postmaster.pid").read_text().split()[0])


def _database(postgres: EmbeddedPostgres) -> list[psutil.Process]:
    postmaster = psutil.Process(database_pid(postgres))
    return [postmaster, *postmaster.children(recursive=True)]


def measure(port: int, pid: int, postgres: EmbeddedPostgres, *, seconds: float, clients: int) -> Round:
    edge, latencies = [psutil.Process(pid)], list[float]()
    database = _database(postgres)
    before, before_database, started = _cpu_s(edge), _cpu_s(database), time.perf_counter()

    async def load() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*[_client(port, until, latencies) for _ in range(clients)])

    asyncio.run(load())
    return Round(
        len(latencies),
        time.perf_counter() - started,
        _cpu_s(edge) - before,
        _cpu_s(database) - before_database,
        latencies,
    )


@contextmanager
def edge_process(factory: str, environment: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Its port and pid, once it answers. No click was made to find out."""
    port = free_port(0)
    argv = [sys.executable, "-m", "uvicorn", factory, "--factory", "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
    process = subprocess.Popen(argv, env={**os.environ, **environment}, cwd=Path(__file__).parents[1])
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                asyncio.run(_client(port, 0.0, []))
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(timeout=10)


def _prepare(postgres: EmbeddedPostgres) -> None:
    upgrade(postgres.url())
    link, brand, community, placement = LinkId.new(), BrandId.new(), CommunityId.new(), PlacementId.new()
    postgres.execute(
        "INSERT INTO tracked_links (id, code, advertiser_id, promoter_brand_id, community_id, placement_id,"
        f" destination, status, created_at) VALUES ('{link.hex}', '{_CODE}', '{brand.hex}', '{brand.hex}',"
        f" '{community.hex}', '{placement.hex}', 'https://shop.example.com/cream?utm=1', 'ACTIVE', now())",
        database=DEFAULT_DATABASE,
    )


def redirect(seconds: float, clients: int) -> list[Measured]:
    with tempfile.TemporaryDirectory(prefix="lianyu-bench-") as directory:
        home = Path(directory)
        home.chmod(0o755)
        postgres = EmbeddedPostgres(home / "postgres")
        postgres.start()
        try:
            _prepare(postgres)
            return _compare(postgres, home, seconds=seconds, clients=clients)
        finally:
            postgres.remove()


def _compare(postgres: EmbeddedPostgres, home: Path, *, seconds: float, clients: int) -> list[Measured]:
    environment = {
        "APP_DATABASE_URL": postgres.url(role=APPLICATION),
        "LIANYU_SECRET_KEY": secrets.token_hex(32),
        "LIANYU_DATA_DIR": str(home / "data"),
    }
    durable: list[Round] = []
    bare: list[Round] = []
    inserts: list[float] = []
    script = home / "click.sql"
    script.write_text(one_click(_CODE))
    with (
        edge_process("services.edge.app:create_app", environment) as (with_sink, with_pid),
        edge_process("benchmarks.edge:without_sink", environment) as (no_sink, no_pid),
    ):
        for _ in range(_ROUNDS):
            durable.append(measure(with_sink, with_pid, postgres, seconds=seconds, clients=clients))
            bare.append(measure(no_sink, no_pid, postgres, seconds=seconds, clients=clients))
            inserts.append(
                pgbench(
                    postgres, ["-f", str(script)], clients=clients, seconds=seconds / 2,
                    database=DEFAULT_DATABASE, role=SUPERUSER,
                )
            )  # fmt: skip
    stored = int(postgres.execute("SELECT count(*) FROM touches WHERE NOT is_bot", database=DEFAULT_DATABASE))
    answered = sum(round_.redirects for round_ in durable)
    if stored < answered:
        raise SystemExit(f"clicks are missing: {answered} answered, {stored} in the database")
    beside_bare = Beside(
        "edge CPU of the same redirect without a sink",
        statistics.median(r.edge_ms for r in bare),
        [one.edge_ms / other.edge_ms for one, other in zip(durable, bare, strict=True)],
        Goal(2.5, at_most=True),
        unit=" ms",
    )
    beside_insert = Beside(
        "pgbench, one click per commit, same connections",
        statistics.median(inserts),
        [one.rate / figure for one, figure in zip(durable, inserts, strict=True)],
    )
    return [
        _measured(
            "302 with the click on disk before it leaves", durable, clients, [beside_bare, beside_insert]
        ),
        _measured("302 without a sink", bare, clients, []),
    ]


def _measured(name: str, rounds: Sequence[Round], clients: int, beside: Sequence[Beside]) -> Measured:
    latencies = sorted(each for round_ in rounds for each in round_.latencies_ms)
    return Measured(
        "redirect",
        name,
        clients,
        len(latencies),
        statistics.median(r.rate for r in rounds),
        percentile(latencies, 50),
        percentile(latencies, 99),
        cpu_ms={
            "edge": statistics.median(r.edge_ms for r in rounds),
            "database": statistics.median(r.database_ms for r in rounds),
        },
        beside=beside,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each of the six rounds")
    parser.add_argument("--clients", type=int, default=32)
    arguments = parser.parse_args()
    print("\n".join(lines_of(redirect(arguments.seconds, arguments.clients))))


if __name__ == "__main__":
    main()
