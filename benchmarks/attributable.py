"""From a click to the order it won and to the figures both brands see, through the whole running stack.

    .venv/bin/python -m benchmarks.attributable [--clicks 300] [--rate 500]

All that `./dev up` starts runs: edge, API, worker, relay, PostgreSQL, broker. Browsers click one link at a steady rate
all the time. Twice a second somebody clicks a link of their own and, as soon as the redirect is there, the
advertiser's shop tells a paid order with the touch that came in its address. Measured from the click's request: until
attribution's own query finds the row, and until the worker has decided the order. From the redirect, and from the
answer to the shop: until the link's performance counts the click, and the order. Every order must be won by its click.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
import uvloop
from sqlalchemy import text

from benchmarks.browsers import Browsers, Clicked, Market, market_of, read_by_attribution
from benchmarks.frame import Beside, Goal, Measured, Options, lines_of, percentile
from benchmarks.load import Connection, counting, post
from core.actor import SYSTEM, Actor, ActorKind
from core.clock import SystemClock
from core.ids import StorefrontId
from infra.config import Settings
from infra.db.session import Database, make_engine
from infra.suppliers.secrets import SecretBox
from infra.suppliers.signing import headers_of
from marketplace.brands import service as brands
from marketplace.brands import signing_secrets
from marketplace.brands.roles import BRAND_SCOPES
from marketplace.promotion.touches.touch_token import SignedTouch, TouchSigner
from services.running import running_stack

CLICKS, RATE = 300, 500.0
DECIDED_GOAL_MS, COUNTED_GOAL_MS = 1_000.0, 10_000.0
EVERY_S = 0.5
_AGENTS = 3_000
_PATIENCE_S = 30.0
_PORTS = 21_340
_CONFIGURED = ("DATABASE_URL", "APP_DATABASE_URL", "BROKER_URL", "STRIPE_API_KEY", "LIANYU_CLOCK_FILE")
_TOKEN = re.compile(rb"[?&]lyt=([A-Za-z0-9_-]+)")
_DECIDED = text(
    "SELECT t.reference, l.touch_id FROM told_orders t JOIN attribution_decisions d ON d.order_id = t.order_id"
    " LEFT JOIN commission_lines l ON l.order_id = t.order_id WHERE t.reference = ANY(:references)"
)
_COUNTED = text(
    "SELECT link_id, sum(clicks) AS clicks, sum(orders) AS orders FROM link_performance WHERE link_id = ANY(:links)"
    " GROUP BY link_id"
)


@dataclass(slots=True)
class Followed:
    """One click by a link of its own; instants of ``time.perf_counter``, ``None`` until it happened."""

    link_id: UUID
    clicked: float
    redirected: float
    touch: SignedTouch
    readable: float | None = None
    told: float | None = None
    decided: float | None = None
    click_counted: float | None = None
    order_counted: float | None = None

    @property
    def reference(self) -> str:
        return self.link_id.hex

    @property
    def done(self) -> bool:
        return None not in (self.readable, self.decided, self.click_counted, self.order_counted)


@dataclass
class Shop:
    """The advertiser's own: it tells orders to the API."""

    port: int
    storefront_id: StorefrontId
    secret: str
    _free: list[Connection] = field(default_factory=list)

    async def tell(self, followed: Followed, token: str) -> None:
        now = datetime.now(UTC)
        order = {
            "placed_at": now, "currency": "CNY", "total_minor": 10_000, "touches": [token],
            "lines": [{"reference": "1", "title": "cream", "quantity": 1, "unit_price_minor": 10_000}],
            "buyer": {"email": f"{followed.reference}@example.com"},
        }  # fmt: skip
        paid = {"id": f"paid-{followed.reference}", "type": "paid", "at": now}
        body = orjson.dumps({"orders": [{"reference": followed.reference, "order": order, "events": [paid]}]})
        signed = headers_of([self.secret], message_id=followed.reference, at=now, body=body)
        headers = {**signed, "x-lianyu-storefront": str(self.storefront_id)}
        connection = await self._connection()
        (row,) = orjson.loads(await connection.ask(post("/intake/v1/orders", body, headers)))["rows"]
        if row["error"] is not None:
            raise RuntimeError(str(row))
        followed.told = time.perf_counter()
        self._free.append(connection)

    async def _connection(self) -> Connection:
        if self._free:
            return self._free.pop()
        return Connection(*await asyncio.open_connection("127.0.0.1", self.port))


async def _shop(db: Database, market: Market, port: int, secret_key: str) -> Shop:
    actor, clock = Actor(ActorKind.BRAND, market.advertiser, scopes=BRAND_SCOPES), SystemClock()
    async with db.unit_of_work(actor) as session:
        made = await brands.create_storefront(
            session, actor, name="shop", channel="web", currency="CNY", country="CN", clock=clock
        )
        issued = await signing_secrets.issue(session, actor, made.id, box=SecretBox(secret_key), clock=clock)
    return Shop(port, made.id, issued.secret)


async def _click(port: int, link_id: UUID, code: str, signer: TouchSigner) -> tuple[Followed, str]:
    """And the signed touch in the redirect's address."""
    request = f"GET /l/{code} HTTP/1.1\r\nhost: l\r\nuser-agent: Mozilla/5.0 (iPhone) {code}\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    clicked = time.perf_counter()
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    redirected = time.perf_counter()
    writer.close()
    token = _TOKEN.search(head)
    if token is None:
        raise RuntimeError(head.decode())
    signed = token[1].decode()
    return Followed(link_id, clicked, redirected, signer.read(signed)), signed


async def _watch(db: Database, followed: list[Followed], until: asyncio.Event) -> None:
    """Sees, every hundredth of a second, which orders are decided, and which links' figures have moved."""
    while not (until.is_set() and all(each.done for each in followed)):
        await asyncio.sleep(0.01)
        waiting = {each.reference: each for each in followed if each.told and each.decided is None}
        uncounted = {
            each.link_id: each for each in followed if None in (each.click_counted, each.order_counted)
        }
        if not (waiting or uncounted):
            continue
        async with db.reading(SYSTEM) as session:
            rows = (await session.execute(_DECIDED, {"references": list(waiting)})).all()
            figures = (await session.execute(_COUNTED, {"links": list(uncounted)})).all()
        now = time.perf_counter()
        for row in rows:
            each = waiting[row.reference]
            if row.touch_id != each.touch.touch_id:
                raise SystemExit(f"the order of {each.touch.touch_id} was won by {row.touch_id}")
            each.decided = now
        for row in figures:
            each = uncounted[row.link_id]
            each.click_counted = each.click_counted or (now if row.clicks else None)
            each.order_counted = each.order_counted or (now if row.orders else None)
        if any(each.told and now - each.told > _PATIENCE_S for each in followed if not each.done):
            late = next(each for each in followed if each.told and not each.done)
            raise SystemExit(f"not there after {_PATIENCE_S:.0f} s: {late}")


async def _read(db: Database, followed: Followed, market: Market) -> None:
    await read_by_attribution(db, followed.touch, market)
    followed.readable = time.perf_counter()


async def _follow(
    db: Database, edge: int, shop: Shop, market: Market, signer: TouchSigner, followed: list[Followed]
) -> None:
    """One click after the other, each with its order, whether the last one has been decided or not."""
    telling: set[asyncio.Task[None]] = set()
    for link_id, code in market.links.items():
        started = time.perf_counter()
        one, token = await _click(edge, link_id, code, signer)
        followed.append(one)
        telling.add(asyncio.create_task(_read(db, one, market)))
        telling.add(asyncio.create_task(shop.tell(one, token)))
        await asyncio.sleep(max(0.0, EVERY_S - (time.perf_counter() - started)))
    await asyncio.gather(*telling)


async def _measured(
    settings: Settings, secret_key: str, pids: Mapping[str, int], clicks: int, rate: float
) -> list[Measured]:
    url = settings.app_database_url
    db = Database(make_engine(url, pool_size=4))
    market = await market_of(url, links=clicks)
    ports = [urlsplit(each).port or 0 for each in (settings.edge_url, settings.brand_url)]
    shop = await _shop(db, market, ports[1], secret_key)
    clicked, followed, told = Clicked(), list[Followed](), asyncio.Event()
    browsers = Browsers(ports[0], market.code, clicked, agents=_AGENTS)
    background = asyncio.create_task(browsers.click(sys.maxsize, rate))
    watching = asyncio.create_task(_watch(db, followed, told))
    await asyncio.sleep(2)  # links are known to the edge, caches are warm
    before, started = len(clicked.given), time.perf_counter()
    with counting(pids) as cpu:
        await _follow(db, ports[0], shop, market, TouchSigner(secret_key), followed)
    seconds = time.perf_counter() - started
    clicks_per_s = (len(clicked.given) - before) / seconds
    spent = ", ".join(f"{who} {used / seconds:.2f}" for who, used in sorted(cpu.seconds.items()))
    print(f"CPU seconds a second: {spent}", file=sys.stderr, flush=True)
    told.set()
    await watching
    background.cancel()
    await db.close()
    return _figures(followed, clicks_per_s, rate)


def _figures(followed: list[Followed], clicks_per_s: float, rate: float) -> list[Measured]:
    def between(began: str, ended: str) -> list[float]:
        return sorted(1000 * (getattr(each, ended) - getattr(each, began)) for each in followed)

    def shown(name: str, values: list[float], goal_ms: float) -> Measured:
        longest = Beside(
            f"the longest beside {goal_ms:g} ms", values[-1], [values[-1] / goal_ms], Goal(1.0, at_most=True), " ms"
        )  # fmt: skip
        asked = Beside("the clicks asked for besides", rate, [clicks_per_s / rate], Goal(0.99))
        return Measured(
            "attributable", name, 1, len(values), 1 / EVERY_S, percentile(values, 50), percentile(values, 99),
            goal_ms, beside=[longest, asked],
        )  # fmt: skip

    return [
        shown(
            "from the click's request until attribution reads it",
            between("clicked", "readable"),
            DECIDED_GOAL_MS,
        ),
        shown(
            "from the click's request until an order told right after is won by it",
            between("clicked", "decided"),
            DECIDED_GOAL_MS,
        ),
        shown(
            "from the redirect until performance counts the click",
            between("redirected", "click_counted"),
            COUNTED_GOAL_MS,
        ),
        shown(
            "from the answer to the shop until performance counts the order",
            between("told", "order_counted"),
            COUNTED_GOAL_MS,
        ),
    ]


@contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """The stack is one of our own, whatever this shell leads to."""
    saved = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def attributable(options: Options, *, clicks: int = CLICKS, rate: float = RATE) -> list[Measured]:
    """As many clicks as are asked for, whatever ``options`` say of seconds and rounds."""
    with tempfile.TemporaryDirectory(prefix="lianyu-bench-") as name, _without(_CONFIGURED):
        home = Path(name)
        home.chmod(0o755)
        with running_stack(Settings(), data_dir=home, seed=False, port_base=_PORTS) as running:
            secret_key = running.settings.secret_key.get_secret_value()
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(
                    _measured(running.settings, secret_key, running.facts["pids"], clicks, rate)
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clicks", type=int, default=CLICKS, help="followed to their orders")
    parser.add_argument("--rate", type=float, default=RATE, help="clicks a second besides")
    given: Any = parser.parse_args()
    print("\n".join(lines_of(attributable(Options(), clicks=given.clicks, rate=given.rate))))


if __name__ == "__main__":
    main()
