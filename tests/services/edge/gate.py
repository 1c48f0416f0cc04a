"""A door between a process and its database that a test can shut."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit


class Gate:
    """Lets the edge reach the database, or not: a port that forwards while it is open.

    Shut it refuses connections, but the port stays the gate's: an outgoing connection of anybody's could take it
    otherwise. When ``shut`` returns, nothing passes any more, whatever was on its way.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._claim = _bound(0)
        self.port = int(self._claim.getsockname()[1])
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        host = self._target.netloc.replace(str(self._target.port), str(self.port))
        return self._target._replace(netloc=host).geturl()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._join, sock=_bound(self.port))

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._streams):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def close(self) -> None:
        await self.shut()
        self._claim.close()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.add(writer)
        there = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._streams.add(there[1])
        if writer.transport.is_closing():  # shut meanwhile
            there[1].transport.abort()
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            self._streams.discard(writer)
            writer.close()


def _bound(port: int) -> socket.socket:
    """A socket of ours at the port, which several of ours may share."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made
