"""A supplier's own webhook receiver: verifies the signature of each message and keeps it once."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import orjson

_LARGEST = 256 * 1024


@dataclass(slots=True)
class Inbox:
    """``messages``: type by message id. Standard Webhooks 1.0.0: HMAC-SHA256 over ``id.timestamp.body``."""

    url: str = ""
    secrets: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    forged: int = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def listening(cls) -> AsyncIterator[Inbox]:
        inbox = cls()
        server = await asyncio.start_server(inbox._serve, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        inbox.url = f"http://{host}:{port}"
        async with server:
            yield inbox

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            body = await reader.readexactly(min(int(headers.get("content-length", "0")), _LARGEST))
            status = self._take(head[0].split()[1].strip("/"), headers, body)
            writer.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, IndexError, ValueError):
            pass  # whoever it was, it was no webhook
        finally:
            writer.close()

    def _take(self, supplier: str, headers: dict[str, str], body: bytes) -> str:
        message_id = headers.get("webhook-id", "")
        signed = f"{message_id}.{headers.get('webhook-timestamp', '')}.".encode() + body
        secret = base64.b64decode(self.secrets.get(supplier, "").removeprefix("whsec_"))
        expected = "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()
        given = headers.get("webhook-signature", "").split()
        if not secret or not any(hmac.compare_digest(expected, signature) for signature in given):
            self.forged += 1
            return "401 Unauthorized"
        self.messages[message_id] = str(orjson.loads(body).get("type", ""))
        return "204 No Content"
