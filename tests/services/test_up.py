"""`lianyu up` as users see it: one process in the foreground, one JSON object, everything stopped after."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from infra.config import Settings
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.process import wait_until
from infra.embedded.supervisor import running_record
from services.running import services_needed
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.processes import running

pytestmark = pytest.mark.stack

ROOT = Path(__file__).resolve().parents[2]
SERVERS = "postgres,valkey,paysim"
CONFIGURED = ("DATABASE_URL", "APP_DATABASE_URL", "BROKER_URL", "STRIPE_API_KEY", "LIANYU_CLOCK_FILE")


def environment(data_dir: Path, **more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name not in CONFIGURED}
    return {**inherited, "LIANYU_DATA_DIR": str(data_dir), **more}


def lianyu(data_dir: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        cwd=ROOT,
        env=environment(data_dir, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


@contextlib.contextmanager
def up(
    data_dir: Path, parts: str = SERVERS, *options: str
) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.cli", "up", "--json", "--only", parts, *options],
        cwd=ROOT,
        env=environment(data_dir),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "it did not start; the reason stands on stderr"
        yield process, json.loads(line)
    finally:
        process.terminate()
        process.wait(timeout=PATIENCE_S)
        process.stdout.close()


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lianyu-up-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "data"


def test_up_prints_one_object_a_second_up_the_same_and_down_stops_all(data_dir: Path) -> None:
    with up(data_dir) as (process, facts):
        assert set(facts) == {"urls", "keys", "pids", "data_dir"}
        assert facts["data_dir"] == str(data_dir)
        assert set(facts["urls"]) == {"brand", "storefront", "fulfillment", "edge", "paysim"}
        assert facts["keys"]["paysim"].startswith("sk_test_")
        assert set(facts["pids"]) == {"postgres", "valkey", "paysim"}
        assert all(running(pid) for pid in facts["pids"].values())

        second = lianyu(data_dir, "up", "--json", "--only", SERVERS)
        assert second.returncode == 0
        assert json.loads(second.stdout) == facts
        assert json.loads(lianyu(data_dir, "status", "--json").stdout) == facts

        assert lianyu(data_dir, "clean", "--yes").returncode == 1  # not while it runs
        assert lianyu(data_dir, "down").returncode == 0
        assert process.wait(timeout=PATIENCE_S) == 0

    assert not any(running(pid) for pid in facts["pids"].values())
    assert lianyu(data_dir, "status").returncode == 3
    assert lianyu(data_dir, "clean", "--yes").returncode == 0
    assert not data_dir.exists()


def test_killed_servers_come_back_at_the_same_address(data_dir: Path) -> None:
    with up(data_dir) as (_, facts):
        record = running_record(data_dir)
        assert record is not None
        addresses = record.facts["environment"]
        for name in ("postgres", "valkey", "paysim"):
            os.kill(facts["pids"][name], signal.SIGKILL)

        def all_new() -> bool:
            now = running_record(data_dir)
            assert now is not None
            return now.facts["pids"].keys() == facts["pids"].keys() and all(
                now.facts["pids"][name] != pid for name, pid in facts["pids"].items()
            )

        assert wait_until(all_new, timeout_s=PATIENCE_S)
        for name in ("DATABASE_URL", "BROKER_URL", "STRIPE_API_BASE"):
            port = int(addresses[name].rpartition(":")[2].partition("/")[0])
            assert wait_until(lambda port=port: listens(port), timeout_s=PATIENCE_S), name


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def test_after_kill_9_of_the_supervisor_the_next_up_works_on_the_same_data(data_dir: Path) -> None:
    with up(data_dir) as (process, facts):
        process.kill()
        process.wait()

        with up(data_dir) as (_, again):
            assert again["keys"] == facts["keys"]
            assert not set(facts["pids"].values()) & set(again["pids"].values())
            assert not any(running(pid) for pid in facts["pids"].values())


def test_a_taken_usual_port_is_not_fought_for(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        base = other.getsockname()[1] - 3  # paysim would listen there

        with up(data_dir, "paysim", "--port-base", str(base)) as (_, facts):
            assert not facts["urls"]["paysim"].endswith(f":{base + 3}")


def test_a_command_starts_what_it_needs_and_stops_it(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone(monkeypatch, data_dir)

    with services_needed(Settings(), broker=True) as settings:
        assert settings.app_database_url.startswith("postgresql://lianyu_app:")
        assert settings.broker_url.startswith("redis://")
        record = running_record(data_dir)
        assert record is not None
        assert set(record.facts["pids"]) == {"postgres", "valkey"}
        pids = record.facts["pids"]

    assert running_record(data_dir) is None
    assert not any(running(pid) for pid in pids.values())
    assert "BROKER_URL" not in os.environ


def test_a_command_uses_the_running_stack_and_leaves_it(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(monkeypatch, data_dir)
    with up(data_dir) as (process, facts):
        with services_needed(Settings(), broker=True, paysim=True) as settings:
            assert settings.stripe_api_base == facts["urls"]["paysim"]
            record = running_record(data_dir)
            assert record is not None
            assert record.facts["pids"] == facts["pids"]
        assert process.poll() is None
        assert all(running(pid) for pid in facts["pids"].values())


async def test_with_only_the_owners_url_the_application_role_can_still_log_in(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(monkeypatch, data_dir)
    yours = EmbeddedPostgres(data_dir.parent / "yours", settings={"fsync": "off", "shared_buffers": "128MB"})
    yours.start()
    try:
        monkeypatch.setenv("DATABASE_URL", yours.url())
        with services_needed(Settings()) as settings:
            record = running_record(data_dir)
            assert record is not None
            assert record.facts["pids"] == {}  # nothing embedded was started
            connection = await asyncpg.connect(settings.app_database_url)
            assert await connection.fetchval("SELECT current_user") == "lianyu_app"
            assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
            await connection.close()
    finally:
        yours.remove()


def test_a_failure_says_which_part_why_and_where_its_log_is(data_dir: Path) -> None:
    failed = lianyu(
        data_dir, "up", "--json", "--only", "none", DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/none"
    )

    assert failed.returncode == 1
    assert failed.stdout == ""
    assert "migrations ended with exit code 1" in failed.stderr
    assert "Connection" in failed.stderr
    assert f"Its log: {data_dir / 'log' / 'migrations.log'}" in failed.stderr


def alone(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> None:
    for name in CONFIGURED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIANYU_DATA_DIR", str(data_dir))
