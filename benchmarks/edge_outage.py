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
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.edge import edge_process
from benchmarks.frame import percentile
from core.actor import SYSTEM, Actor, ActorKind
from core.clock import SystemClock
from core.ids import BrandId, TouchId
from infra.db.migrate import upgrade
from infra.db.session import Database, make_engine
from infra.embedded.postgres import APPLICATION, DEFAULT_DATABASE, SUPERUSER, EmbeddedPostgres
from marketplace.audiences import service as audiences
from marketplace.audiences.models import CommunityChannel, PlacementKind
from marketplace.brands import onboarding
from marketplace.brands.models import TenantKind
from marketplace.brands.roles import BRAND_SCOPES
from marketplace.promotion import service as promotion
from marketplace.promotion.agreements.terms import Terms
from marketplace.promotion.links.destinations import DestinationPolicy
from marketplace.promotion.touches.touch_facts import touch_facts_for
from marketplace.promotion.touches.touch_token import TouchSigner

_AGENT = b"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Safari/605"
_TOKEN = re.compile(rb"[?&]lyt=([A-Za-z0-9_-]+)")
_HOME_WITHIN_S = 120
_FOLLOW_EVERY_S = 0.25
_CLIENTS = 32
_ROW = text("SELECT true FROM touches WHERE id = :id")


@dataclass(slots=True)
class Outage:
    """``refused`` are answers without a redirect, which claim no click. Latencies in milliseconds."""

    given: set[UUID] = field(default_factory=set)
    refused: int = 0
    stored: set[UUID] = field(default_factory=set)
    before_ms: list[float] = field(default_factory=list)
    during_ms: list[float] = field(default_factory=list)
    attributable_ms: list[float] = field(default_factory=list)
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


@dataclass(frozen=True, slots=True)
class _Market:
    code: str
    advertiser: BrandId


async def _market(url: str) -> _Market:
    """Two brands, their agreement, one link of it."""
    db, clock = Database(make_engine(url)), SystemClock()
    async with db.unit_of_work(SYSTEM) as session:
        actors = []
        for name in ("Advertiser", "Promoter"):
            made = await onboarding.onboard(
                session, kind=TenantKind.BRAND, name=name, email=f"{name}@example.com".lower(), country="CN",
                currency="CNY", clock=clock,
            )  # fmt: skip
            actors.append(Actor(ActorKind.BRAND, made.tenant_id, scopes=BRAND_SCOPES))
        advertiser, promoter = actors
        invitation = await promotion.invite(
            session, advertiser, advertiser_id=advertiser.brand_id, promoter_brand_id=promoter.brand_id,
            terms=Terms.flat(100_000), clock=clock,
        )  # fmt: skip
        opened = await promotion.accept(session, promoter, invitation, clock=clock)
        for signer in actors:
            await promotion.sign_agreement(
                session, signer, opened.agreement_id, content_hash=opened.content_hash, clock=clock
            )
        community = await audiences.create_community(
            session, promoter, name="Outage", channel=CommunityChannel.WECOM_GROUP, clock=clock
        )
        placement = await audiences.create_placement(
            session, promoter, community_id=community, kind=PlacementKind.POST, name="post", clock=clock
        )
        link = await promotion.create_link(
            session, promoter, agreement_id=opened.agreement_id, placement_id=placement,
            destination="https://shop.example.com/cream?utm=1", policy=DestinationPolicy(), clock=clock,
        )  # fmt: skip
    await db.close()
    return _Market(link.code, advertiser.brand_id)


class _Browsers:
    """Clicks at a steady rate over a few connections, each click a browser without a cookie."""

    def __init__(self, port: int, code: str, outage: Outage) -> None:
        self._port, self._outage = port, outage
        self._request = b"GET /l/%s HTTP/1.1\r\nhost: l\r\nuser-agent: %s\r\n\r\n" % (code.encode(), _AGENT)
        self.sent = 0
        self.away = False

    async def click(self, clicks: int, rate: float) -> None:
        started = time.perf_counter()
        await asyncio.gather(*(self._one(clicks, rate, started) for _ in range(_CLIENTS)))

    async def _one(self, clicks: int, rate: float, started: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        while self.sent < clicks:
            due = started + self.sent / rate
            self.sent += 1
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            away, at = self.away, time.perf_counter()
            await self.ask(reader, writer)
            (self._outage.during_ms if away else self._outage.before_ms).append(
                1000 * (time.perf_counter() - at)
            )
        writer.close()

    async def ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        """One click; its token when it was redirected."""
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if length is not None and int(length[1]):
            await reader.readexactly(int(length[1]))
        token = _TOKEN.search(head)
        if not head.startswith(b"HTTP/1.1 302") or token is None:
            self._outage.refused += 1
            return None
        self._outage.given.add(UUID(bytes=urlsafe_b64decode(token[1] + b"=" * (-len(token[1]) % 4))[:16]))
        return token[1]


async def _follow(
    browsers: _Browsers, port: int, url: str, signer: TouchSigner, market: _Market, outage: Outage
) -> None:
    """A click now and then, asked for as attribution would until it is there."""
    db = Database(make_engine(url, pool_size=1))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while not browsers.away:
            started = time.perf_counter()
            token = await browsers.ask(reader, writer)
            if token is not None:
                signed = signer.read(token.decode())
                async with db.reading(SYSTEM) as session:
                    # The token alone would do for attribution; what is measured is the click's own row.
                    await _readable(session, signed.touch_id)
                    found = await touch_facts_for(
                        session, advertiser_id=market.advertiser, signed=[signed], until=SystemClock().now()
                    )
                assert found.touches, "attribution does not see the click"
                outage.attributable_ms.append(1000 * (time.perf_counter() - started))
            await asyncio.sleep(_FOLLOW_EVERY_S)
    finally:
        writer.close()
        await db.close()


async def _readable(session: AsyncSession, touch_id: TouchId) -> None:
    while True:
        if await session.scalar(_ROW, {"id": touch_id}):
            return
        await asyncio.sleep(0.001)


async def _stop_and_start(
    postgres: EmbeddedPostgres,
    browsers: _Browsers,
    outage: Outage,
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
    await asyncio.sleep(2 * _FOLLOW_EVERY_S if outage.attributable_ms else 0)
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
        market = asyncio.run(_market(url))
        data = home / "data"
        environment = {"APP_DATABASE_URL": url, "LIANYU_SECRET_KEY": secret, "LIANYU_DATA_DIR": str(data)}
        with edge_process("services.edge.app:create_app", environment) as (port, _):
            return asyncio.run(
                _run(postgres, port, url, TouchSigner(secret), market, data, clicks, rate, outage_s, kill)
            )
    finally:
        postgres.remove()


async def _run(
    postgres: EmbeddedPostgres, port: int, url: str, signer: TouchSigner, market: _Market, data: Path, clicks: int,
    rate: float, outage_s: float, kill: bool,
) -> Outage:  # fmt: skip
    outage = Outage()
    browsers, started = _Browsers(port, market.code, outage), time.perf_counter()
    await asyncio.gather(
        browsers.click(clicks, rate),
        _follow(browsers, port, url, signer, market, outage),
        _stop_and_start(postgres, browsers, outage, after=clicks * 2 // 5, outage_s=outage_s, kill=kill),
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
