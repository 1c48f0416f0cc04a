"""A small HTTP/1.1 client for deliveries: POST a body, read the status, keep the connection.

A general client costs more than the rest of paysim together at a few hundred deliveries a second.
Plain ``http`` and ``https``; no redirects (a redirect is not an acceptance), no proxies.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from urllib.parse import urlsplit

MAX_HEAD_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 1 << 20

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Place = tuple[str, str, int]


class DeliveryFailed(Exception):
    """No complete HTTP answer; whether the receiver acted on the body is unknown."""


class Poster:
    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._idle: defaultdict[Place, list[Line]] = defaultdict(list)

    async def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """The status of the answer. Raises ``DeliveryFailed``."""
        try:
            parts = urlsplit(url)
            secure = parts.scheme == "https"
            place = (parts.scheme, parts.hostname or "", parts.port or (443 if secure else 80))
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            lines = [f"POST {target} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            request = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(place, request)
        except (OSError, TimeoutError, ValueError, LookupError, EOFError) as error:
            raise DeliveryFailed(f"{type(error).__name__}: {error}") from error

    def close(self) -> None:
        for lines in self._idle.values():
            for _, writer in lines:
                writer.close()

    async def _exchange(self, place: Place, request: bytes) -> int:
        reused = self._idle[place].pop() if self._idle[place] else None
        if reused is not None:
            try:
                return await self._ask(place, reused, request)
            except (ConnectionError, EOFError):
                pass  # the receiver closed an idle connection; a fresh one decides
        return await self._ask(place, await _connect(place), request)

    async def _ask(self, place: Place, line: Line, request: bytes) -> int:
        reader, writer = line
        keep = False
        try:
            writer.write(request)
            status, keep = await _answer(reader)
        finally:
            if keep:
                self._idle[place].append(line)
            else:
                writer.close()
        return status


async def _connect(place: Place) -> Line:
    scheme, host, port = place
    secure = ssl.create_default_context() if scheme == "https" else None
    return await asyncio.open_connection(host, port, ssl=secure, limit=MAX_HEAD_BYTES)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Status, and whether the connection can be used again: only after a body of known length."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise ValueError("the answer's head is too long") from error
    first, *rest = head.decode("latin-1").split("\r\n")
    status = int(first.split(" ", 2)[1])
    fields = {name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in rest)}
    length = fields.get("content-length", "0" if status == 204 else "")
    if not length.isdigit() or int(length) > MAX_ANSWER_BYTES:
        return status, False
    await reader.readexactly(int(length))
    return status, fields.get("connection", "").lower() != "close" and first.startswith("HTTP/1.1")
