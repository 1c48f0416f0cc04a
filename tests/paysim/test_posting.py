"""The delivery client against receivers that behave badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from services.paysim.posting import DeliveryFailed, Poster
from tests.fixtures.patience import PATIENCE_S

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def poster() -> AsyncIterator[Poster]:
    poster = Poster(timeout_s=PATIENCE_S)
    yield poster
    poster.close()


async def listening(answer: bytes | None, *, close: bool = False) -> tuple[str, list[bytes]]:
    """A receiver that answers every request with ``answer`` (None: never); its address and what it got."""
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            bodies.append(await reader.readexactly(length))
            if answer is not None:
                writer.write(answer)
            if close:
                writer.close()
                return

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/in?x=1", bodies


async def test_a_body_arrives_and_the_connection_is_used_again(poster: Poster) -> None:
    url, bodies = await listening(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
    assert [await poster.post(url, body, {"a": "b"}) for body in (b"one", b"two")] == [200, 200]
    assert bodies == [b"one", b"two"]


async def test_an_idle_connection_that_was_closed_is_replaced(poster: Poster) -> None:
    url, bodies = await listening(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", close=True)
    assert await poster.post(url, b"one", {}) == 200
    assert await poster.post(url, b"two", {}) == 200
    assert bodies == [b"one", b"two"]


async def test_an_answer_of_unknown_length_still_counts(poster: Poster) -> None:
    url, _ = await listening(b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
    assert await poster.post(url, b"x", {}) == 202


async def test_silence_is_a_failure() -> None:
    url, _ = await listening(None)
    impatient = Poster(timeout_s=0.2)
    with pytest.raises(DeliveryFailed):
        await impatient.post(url, b"x", {})
    impatient.close()


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 20"])
async def test_garbage_is_a_failure(poster: Poster, answer: bytes) -> None:
    url, _ = await listening(answer, close=True)
    with pytest.raises(DeliveryFailed):
        await poster.post(url, b"x", {})


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "http://127.0.0.1:99999/x", "nonsense"])
async def test_nowhere_is_a_failure(poster: Poster, url: str) -> None:
    with pytest.raises(DeliveryFailed):
        await poster.post(url, b"x", {})
