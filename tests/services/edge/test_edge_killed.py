"""The edge as a process: what a visitor was redirected for survives ``kill -9``, and comes home once."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, TouchId
from infra.db.session import Database
from infra.embedded.ports import free_port
from infra.embedded.postgres import APPLICATION
from marketplace.promotion.touches.touch_token import TouchSigner
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.fixtures.waiting import PATIENCE_S, until
from tests.services.edge.gate import Gate

SECRET = "a secret of the tests, long enough to be one"
ROOT = Path(__file__).parents[3]


@contextmanager
def _edge(port: int, gate: Gate, data_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ, "APP_DATABASE_URL": gate.url, "LIANYU_SECRET_KEY": SECRET, "LIANYU_DATA_DIR": str(data_dir),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'graphql'}",
    }  # fmt: skip
    argv = [sys.executable, "-m", "uvicorn", "services.edge.app:create_app", "--factory", "--port", str(port)]
    process = subprocess.Popen(
        [*argv, "--host", "127.0.0.1", "--log-level", "warning"], env=environment, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _ready(browser: httpx.AsyncClient) -> None:
    async def ready() -> bool:
        try:
            return (await browser.get("/readyz")).status_code == 200
        except httpx.TransportError:
            return False

    await until(ready, "the edge did not start")


def _touch(answer: httpx.Response) -> TouchId:
    assert answer.status_code == 302
    return TouchSigner(SECRET).read(parse_qs(urlsplit(answer.headers["location"]).query)["lyt"][0]).touch_id


async def test_clicks_spooled_by_a_killed_edge_are_stored_by_the_next(
    db: Database, postgres: Any, clock: FixedClock, tmp_path: Path
) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, brand_actor(BrandId.new()), brand_actor(BrandId.new()), clock)
        link = await make.link(session, market, clock)
    gate, port, given = Gate(postgres.url(APPLICATION)), free_port(0), []
    await gate.open()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as browser:
        with _edge(port, gate, tmp_path) as process:
            await _ready(browser)
            given += [_touch(await browser.get(f"/l/{link.code}")) for _ in range(5)]
            await gate.shut()
            away = await asyncio.gather(*[browser.get(f"/l/{link.code}") for _ in range(40)])
            given += [_touch(answer) for answer in away]
            process.send_signal(signal.SIGKILL)
            process.wait()
        await gate.open()
        with _edge(port, gate, tmp_path):
            await _ready(browser)
            given.append(_touch(await browser.get(f"/l/{link.code}")))
            stored = await _stored(db, len(given))
    await gate.close()
    assert sorted(stored) == sorted(given)


async def _stored(db: Database, count: int) -> list[TouchId]:
    found: list[TouchId] = []

    async def all_there() -> bool:
        async with db.reading(SYSTEM) as session:
            found[:] = [TouchId.of(row.id) for row in await session.execute(text("SELECT id FROM touches"))]
        return len(found) >= count

    await until(all_there, f"not {count} touches")
    return found
