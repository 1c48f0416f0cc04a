"""HTTP to an application of this process: no socket, no other thread, so that a seed decides everything."""

from __future__ import annotations

from typing import Any

import httpx
from starlette.types import ASGIApp


class InProcess(httpx.AsyncBaseTransport):
    """Calls an ASGI application. An answer that is cut off before its end is a broken connection, as on a wire."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []

        async def receive() -> Any:
            return waiting.pop() if waiting else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(_scope(request), receive, send)
        start, *bodies = sent
        if not bodies or bodies[-1].get("more_body"):
            raise httpx.RemoteProtocolError("the connection was closed before the answer", request=request)
        content = b"".join(part.get("body", b"") for part in bodies)
        return httpx.Response(start["status"], headers=start["headers"], content=content, request=request)


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": request.method,
        "scheme": request.url.scheme, "path": request.url.path, "raw_path": request.url.raw_path.partition(b"?")[0],
        "query_string": request.url.query, "root_path": "", "client": ("127.0.0.1", 1),
        "server": (request.url.host, request.url.port or 80),
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
    }  # fmt: skip
