"""The servers under load, in a temporary directory: PostgreSQL as `./dev up` starts it, and one process each of
the API and paysim with production settings. No worker and no relay: what they do is not the shopper's wait.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from infra.db.migrate import upgrade
from infra.embedded.ports import free_port
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE, EmbeddedPostgres
from infra.embedded.process import accepts_tcp

ROOT = Path(__file__).resolve().parents[1]
BENCH = "pgbench"
"""The database of TPC-B and of single-row selects, on the same server."""
SCALE = 32
"""Accounts in 100,000; TPC-B needs as many branches as clients."""
PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Platform:
    """``environment`` is what its processes are told."""

    home: Path
    postgres: EmbeddedPostgres
    environment: Mapping[str, str]
    provider_pid: int = 0

    @property
    def database_pid(self) -> int:
        return int((self.postgres.cluster / "postmaster.pid").read_text().split()[0])

    def application_url(self) -> str:
        return self.postgres.url(role=APPLICATION)

    @contextmanager
    def web(self, factory: str) -> Iterator[tuple[int, int]]:
        """Port and pid of one uvicorn process, as `./dev up` runs it, once `/healthz` answers."""
        port = free_port(0)
        argv = [sys.executable, "-m", "uvicorn", factory, "--factory", "--host", "127.0.0.1"]
        argv += ["--port", str(port), "--no-access-log", "--log-level", "warning"]
        with process(argv, self.environment) as running:
            _wait_for(running, lambda: _healthy(port))
            yield port, running.pid


@contextmanager
def database_only() -> Iterator[Platform]:
    """PostgreSQL, migrated, with a database for TPC-B beside."""
    with tempfile.TemporaryDirectory(prefix="lianyu-bench-") as name, ExitStack() as closing:
        home = Path(name)
        home.chmod(0o755)
        postgres = EmbeddedPostgres(home / "postgres")
        closing.callback(postgres.remove)
        postgres.start()
        upgrade(postgres.url())
        postgres.create_database(BENCH)
        command = [postgres.binary("pgbench"), "-i", "-q", "-s", str(SCALE), postgres.url(BENCH)]
        subprocess.run(command, capture_output=True, check=True)
        yield Platform(home, postgres, _environment(home, postgres))


@contextmanager
def platform() -> Iterator[Platform]:
    """The same with paysim."""
    with database_only() as servers, _paysim(servers.home, servers.environment) as provider_pid:
        yield replace(servers, provider_pid=provider_pid)


def _environment(home: Path, postgres: EmbeddedPostgres) -> dict[str, str]:
    key = f"sk_test_{secrets.token_hex(16)}"
    return {
        **os.environ,
        "LIANYU_ENV": "production",
        "LIANYU_DATA_DIR": str(home / "data"),
        "LIANYU_SECRET_KEY": secrets.token_hex(32),
        "LIANYU_LOG_LEVEL": "WARNING",
        "APP_DATABASE_URL": postgres.url(DEFAULT_DATABASE, APPLICATION),
        "BROKER_URL": "redis://127.0.0.1:1/0",  # production asks for one; the API never talks to it
        "STRIPE_API_KEY": key,
        "STRIPE_API_BASE": f"http://127.0.0.1:{free_port(0)}",
        "STRIPE_WEBHOOK_SECRET": f"whsec_{secrets.token_hex(16)}",
        "STRIPE_PUBLISHABLE_KEY": f"pk_test_{secrets.token_hex(16)}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'graphql'}",
    }


@contextmanager
def _paysim(home: Path, environment: Mapping[str, str]) -> Iterator[int]:
    port = environment["STRIPE_API_BASE"].rpartition(":")[2]
    argv = [sys.executable, "-m", "services.paysim", "--port", port, "--data-dir", str(home / "paysim")]
    told = {
        "PAYSIM_SECRET_KEY": environment["STRIPE_API_KEY"],
        "PAYSIM_PUBLISHABLE_KEY": environment["STRIPE_PUBLISHABLE_KEY"],
    }
    with process(argv, {**environment, **told}) as running:
        _wait_for(running, lambda: accepts_tcp(int(port)))
        yield running.pid


@contextmanager
def process(argv: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(argv, env=dict(environment), cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(timeout=10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _wait_for(running: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        if running.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"did not start: {' '.join(map(str, running.args[2:5]))}")  # type: ignore[index]
        time.sleep(0.1)
