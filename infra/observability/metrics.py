"""Prometheus metrics of every process, and the middleware that gives each request its id."""

from __future__ import annotations

import re
import time
from uuid import uuid4

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.observability.context import bind_request_id

REQUESTS = Counter(
    "lianyu_requests_total", "HTTP requests by surface, method and status", ["surface", "method", "status"]
)
SECONDS = Histogram(
    "lianyu_request_seconds", "Time to the last byte", ["surface"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)  # fmt: skip
MESSAGES = Counter("lianyu_messages_total", "Outbox messages by handler and outcome", ["handler", "outcome"])
OUTBOX_LAG = Gauge("lianyu_outbox_oldest_seconds", "Age of the oldest unpublished message")
LEDGER_TAIL = Gauge("lianyu_ledger_tail_entries", "Entries of deferred accounts that are not rolled up yet")
MATCHED = Gauge(
    "lianyu_reconciliation_matched_ratio",
    "Share of the provider's volume of 30 days matched with ours",
    ["provider"],
)
OLDEST_UNMATCHED = Gauge(
    "lianyu_reconciliation_oldest_unmatched_seconds", "Age of the oldest unmatched item", ["provider"]
)
SWEPT = Counter("lianyu_swept_total", "Rows done by each sweep", ["sweep"])

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")
_SERVER_ERROR = 500

log = structlog.get_logger("http")


class RequestMiddleware:
    """Takes or makes ``X-Request-Id``, answers with it, counts and times the request. Raw ASGI."""

    def __init__(self, app: ASGIApp, *, surface: str) -> None:
        self._app, self._surface = app, surface

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"x-request-id"), "")
        request_id = given if _ACCEPTABLE.match(given) else uuid4().hex
        bind_request_id(request_id)
        status, started = _SERVER_ERROR, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            SECONDS.labels(self._surface).observe(time.perf_counter() - started)
            REQUESTS.labels(self._surface, scope["method"], str(status)).inc()


async def metrics(_: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
