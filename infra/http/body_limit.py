"""Refuses a request body that is, or grows, too large. Raw ASGI: nothing is buffered to find out."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """``refuse(largest)`` makes the answer to a body declared larger than ``largest`` bytes."""

    def __init__(self, app: ASGIApp, *, largest: int, refuse: Callable[[int], ASGIApp]) -> None:
        self._app, self._largest, self._refuse = app, largest, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if not declared.isdigit() or int(declared) > self._largest:
            await self._refuse(self._largest)(scope, receive, send)
            return
        taken = 0

        async def counting() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._largest:
                # A body without a declared length: cut off, as if the client had gone away.
                return {"type": "http.disconnect"}
            return message

        await self._app(scope, counting, send)
