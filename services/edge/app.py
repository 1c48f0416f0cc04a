"""The link edge: GET /l/{code} records the click durably and redirects. Raw ASGI, nothing it does not need.

Run as ``uvicorn --factory services.edge.app:create_app``.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg

from core.clock import Clock, clock_from_path
from core.ids import TouchId
from infra.config import Settings
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.links import qr
from marketplace.promotion.touches.clicks import Click
from marketplace.promotion.touches.touch_token import TouchSigner
from services.edge.click_log import PATIENCE_S, ClickLog, ClickNotStored
from services.edge.link_table import LinkTable, LinkUnknown, LinkUnreachable, Target
from services.edge.metrics import Metrics
from services.edge.spool import Spool
from services.edge.visitor import Repeats, VisitorReader, set_cookie

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_LINK = "/l/"
_COLLECT_AFTER = (5_000, 10, 1_000)
"""Objects made more than dropped, and how often a younger generation is looked at before the next; the oldest after
fifty million."""
_HTML = (b"content-type", b"text/html; charset=utf-8")
_PLAIN = (b"content-type", b"text/plain; charset=utf-8")
_NO_STORE = (b"cache-control", b"no-store")
_PAGE = (
    '<!doctype html><html lang="{lang}"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title><body><h1>{title}</h1><p>{body}</p>"
)
_NOT_FOUND = _PAGE.format(
    lang="zh", title="链接不存在 · Link not found", body="请检查链接是否完整。Please check the address."
).encode()
_LATER = _PAGE.format(
    lang="zh", title="请稍后再试 · Try again", body="链接暂时无法打开。This link cannot be opened just now."
).encode()


def create_app(
    settings: Settings | None = None, *, clock: Clock | None = None, patience_s: float = PATIENCE_S
) -> Edge:
    settings = settings or Settings()
    return Edge(settings, clock or clock_from_path(settings.clock_file), patience_s=patience_s)


class ClickSink(Protocol):
    """Where clicks go; ``record`` returns when the click may be relied on."""

    @property
    def database_up(self) -> bool: ...

    async def start(self) -> None: ...

    async def record(self, click: Click) -> None: ...

    async def close(self) -> None: ...


class Edge:
    """An ASGI application; ``start`` and ``close`` are its lifespan. Clicks go to the database unless told."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        clicks: ClickSink | None = None,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._settings, self._clock = settings, clock
        self._signer = TouchSigner(settings.secret_key.get_secret_value())
        self._secure_cookies = urlsplit(settings.edge_url).scheme == "https"
        self.metrics = Metrics()
        home = settings.data_dir / "edge"
        self.links = LinkTable(self._connect, home / "links.jsonl", self.metrics)
        self.clicks = clicks or ClickLog(
            self._connect, Spool(home / "spool"), self.metrics, patience_s=patience_s
        )
        self._visitors, self._repeats = VisitorReader(self._signer), Repeats()

    async def start(self) -> None:
        await self.links.start()
        await self.clicks.start()

    async def close(self) -> None:
        await self.clicks.close()
        await self.links.close()

    async def _connect(self) -> asyncpg.Connection[Any]:
        """As the platform: clicks and links of every brand pass here. Works through session pooling."""
        connection = await asyncpg.connect(self._settings.app_database_url, timeout=2, command_timeout=10)
        await connection.execute(
            "SELECT set_config('lianyu.kind', 'system', false), set_config('application_name', 'lianyu-edge', false)"
        )
        return connection

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            status, headers, body = await self._answer(scope)
            self.metrics.answered(status)
            await _respond(scope, send, status, headers, body)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        _rarely_collect_garbage()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope) -> tuple[int, Headers, bytes]:
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD"):
            return 405, [_PLAIN, (b"allow", b"GET, HEAD")], b"only GET and HEAD\n"
        if path.startswith(_LINK):
            return await self._link(scope, path[len(_LINK) :])
        if path == "/healthz":
            return 200, [_PLAIN], b"ok\n"
        if path == "/readyz":
            return self._readiness()
        if path == "/metrics":
            return 200, [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")], self.metrics.text()
        return 404, [_HTML, _NO_STORE], _NOT_FOUND

    def _readiness(self) -> tuple[int, Headers, bytes]:
        """Ready without a database too, as long as there are links to redirect."""
        database = b"up" if self.clicks.database_up else b"away"
        ready = self.links.loaded
        return (200 if ready else 503), [_PLAIN], b"database " + database + b"\n"

    async def _link(self, scope: Scope, name: str) -> tuple[int, Headers, bytes]:
        started = time.perf_counter()
        code, _, picture = name.partition(".")
        try:
            target = self.links.get(code) or await self.links.find(code)
        except LinkUnknown:
            return 404, [_HTML, _NO_STORE], _NOT_FOUND
        except LinkUnreachable:
            return 503, [_HTML, _NO_STORE, (b"retry-after", b"1")], _LATER
        if picture or name.endswith("."):
            return self._picture(code, picture)
        if scope["method"] == "HEAD":
            # Link checkers look without visiting: nothing happened that could earn.
            return 302, [(b"location", target.link.destination.encode()), _NO_STORE], b""
        answer = await self._visit(scope, target)
        self.metrics.seconds.observe(time.perf_counter() - started)
        return answer

    async def _visit(self, scope: Scope, target: Target) -> tuple[int, Headers, bytes]:
        visitor = self._visitors.read(scope["headers"], scope.get("client"), scope["query_string"])
        touch_id, at, link = TouchId.new(), self._clock.now(), target.link
        repeated = self._repeats.first_of(visitor.session_key, link.id, touch_id, at)
        scanned = qr.SCAN.encode() in scope["query_string"].split(b"&")
        click = Click(
            touch_id,
            link.id,
            link.agreement_id,
            link.advertiser_id,
            link.promoter_brand_id,
            at,
            TouchKind.SCAN if scanned else TouchKind.CLICK,
            visitor.session_key,
            None,
            visitor.is_bot,
            repeated,
            visitor.ip_prefix_hash,
            visitor.user_agent_hash,
            visitor.referrer_host,
            visitor.ad_parameters,
        )
        try:
            await self.clicks.record(click)
        except ClickNotStored:
            return 503, [_HTML, _NO_STORE, (b"retry-after", b"1")], _LATER
        token = self._signer.token(touch_id, link.id, at)
        if visitor.in_wechat and target.in_app_before:
            location = f"{target.in_app_before}{token}{target.in_app_after}"
        else:
            location = f"{target.before}{token}{target.after}"
        headers: Headers = [(b"location", location.encode()), _NO_STORE]
        if visitor.new_cookie is not None:
            headers.append((b"set-cookie", set_cookie(visitor.new_cookie, secure=self._secure_cookies)))
        return 302, headers, b""

    def _picture(self, code: str, kind: str) -> tuple[int, Headers, bytes]:
        url = qr.scan_url(self._settings.edge_url, code)
        cached = (b"cache-control", b"public, max-age=86400")
        if kind == "svg":
            return 200, [(b"content-type", b"image/svg+xml"), cached], qr.svg(url)
        if kind == "png":
            return 200, [(b"content-type", b"image/png"), cached], qr.png(url)
        return 404, [_HTML, _NO_STORE], _NOT_FOUND


def _rarely_collect_garbage() -> None:
    """What lives long here, links and the visits of the last half minute, is hundreds of thousands of objects without
    a cycle: each look at all of them holds every visitor up for a tenth of a second, and finds nothing."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


async def _respond(scope: Scope, send: Send, status: int, headers: Headers, body: bytes) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
