"""Killed at any moment, again and again: every order is there once and the books are right."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from pathlib import Path

import asyncpg

from infra.db.session import Database
from tests.conftest import TestDatabase
from tests.fixtures.waiting import until
from tests.services.replay.recorded import COMPARED, Recording, expected

ROOT = Path(__file__).parents[3]
_PLACE = "SELECT stage, position FROM replay_progress"


def busy_year(recording: Recording) -> Path:
    """Every month some orders of each fate; a month's end is also a transaction's."""
    for month in range(1, 13):
        for number in range(6):
            day = f"2017-{month:02}-{number * 4 + 1:02}"
            recording.order(
                f"order-{month}-{number}",
                bought=f"{day} 08:00:00", approved=f"{day} 09:00:00",
                carrier="" if number in (4, 5) else f"{day} 20:00:00",
                delivered="" if number in (3, 4, 5) else f"{day} 23:00:00", promised=f"{day} 23:59:00",
                status={3: "shipped", 4: "canceled", 5: "unavailable"}.get(number, "delivered"),
                items=[("kettle", "ana", f"{10 + month}.05", "1.20"), ("poster", "bob", "3.99", "0.50")],
            )  # fmt: skip
    return recording.write()


async def started(directory: Path, report: Path, postgres: TestDatabase) -> asyncio.subprocess.Process:
    environment = {
        **os.environ, "DATABASE_URL": postgres.url("lianyu"), "APP_DATABASE_URL": postgres.url(),
    }  # fmt: skip
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "replay", "olist", str(directory), "--json", str(report),
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def place_of(watcher: asyncpg.Connection) -> tuple[str, int] | None:
    row = await watcher.fetchrow(_PLACE)
    return (row["stage"], row["position"]) if row else None


async def moves_on(watcher: asyncpg.Connection, since: tuple[str, int] | None) -> tuple[str, int] | None:
    """The place of the replay once it is another than ``since``, or done: who looks too seldom sees nothing else."""

    async def elsewhere() -> bool:
        place = await place_of(watcher)
        return place != since or done(place)

    await until(elsewhere, f"the replay stands still at {since}", every_s=0.01)
    return await place_of(watcher)


def done(place: tuple[str, int] | None) -> bool:
    return place is not None and place[0] == "done"


async def test_killed_again_and_again_it_finishes_with_every_order_once(
    db: Database, postgres: TestDatabase, tmp_path: Path
) -> None:
    directory, report = busy_year(Recording(tmp_path)), tmp_path / "report.json"
    chance, place, killed = random.Random(20170301), None, 0
    watcher = await asyncpg.connect(postgres.url("postgres"))

    while killed < 3:
        process = await started(directory, report, postgres)
        for _ in range(chance.randint(1, 3)):
            place = await moves_on(watcher, place)
        await asyncio.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        killed += 1
        place = await place_of(watcher)
        if done(place):
            break
    await watcher.close()
    process = await started(directory, report, postgres)
    _, complaint = await process.communicate()

    assert process.returncode == 0, complaint.decode()
    body, wanted = json.loads(report.read_text(encoding="utf-8")), expected(directory)
    assert {name: body[name] for name in COMPARED} == {name: wanted[name] for name in COMPARED}
    assert (body["ledger"]["sum_minor"], body["ledger"]["unbalanced"]) == (0, 0)
    assert (tmp_path / "olist-settlement.csv").read_text(encoding="utf-8").startswith("seller,month,")
