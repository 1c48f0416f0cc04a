"""Load and what it costs: HTTP over raw sockets, pgbench, and CPU time read from the system."""

from __future__ import annotations

import asyncio
import re
import resource
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil  # type: ignore[import-untyped, unused-ignore]
import uvloop

from infra.embedded.postgres import OWNER, EmbeddedPostgres

_TPS = re.compile(r"tps = ([0-9.]+) \(without")
_LENGTH = b"content-length:"
_SHORTEST_S = 2
"""pgbench's time includes that of connecting."""


class Connection:
    """One keep-alive HTTP/1.1 connection; only for servers that give a content-length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> bytes:
        """The body of a 200. Raises ``RuntimeError`` for any other status."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        at = head.lower().index(_LENGTH) + len(_LENGTH)
        body = await self._reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError((head + body).decode(errors="replace"))
        return body

    def close(self) -> None:
        self._writer.close()


def post(path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A whole request, ready to be written."""
    told = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    return _head("POST", path, told) + body


def get(path: str, headers: Mapping[str, str]) -> bytes:
    return _head("GET", path, headers)


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: benchmark", *(f"{n}: {v}" for n, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


Step = Callable[[Connection, int], Awaitable[None]]
"""One operation; the number counts them over all clients."""


@dataclass(frozen=True, slots=True)
class Load:
    seconds: float
    latencies_ms: Sequence[float]

    @property
    def operations(self) -> int:
        return len(self.latencies_ms)

    @property
    def rate(self) -> float:
        return self.operations / self.seconds


def drive(port: int, step: Step, *, clients: int, seconds: float, most: int = 1_000_000) -> Load:
    """Closed loop: every client begins the next operation when its last one is answered."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(port, step, clients, seconds, most))


async def _drive(port: int, step: Step, clients: int, seconds: float, most: int) -> Load:
    numbers = iter(range(most))
    free = [Connection(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(clients)]

    async def once() -> bool:
        if (number := next(numbers, None)) is None:
            return False
        connection = free.pop()
        await step(connection, number)
        free.append(connection)
        return True

    load = await repeat(once, clients=clients, seconds=seconds)
    for connection in free:
        connection.close()
    return load


async def repeat(operation: Callable[[], Awaitable[bool | None]], *, clients: int, seconds: float) -> Load:
    """``operation`` again and again by each client, until the time is over or it says ``False``: none is left."""
    latencies: list[float] = []
    started = time.perf_counter()

    async def client() -> None:
        while (now := time.perf_counter()) < started + seconds and await operation() is not False:
            latencies.append(1000 * (time.perf_counter() - now))

    await asyncio.gather(*(client() for _ in range(clients)))
    return Load(time.perf_counter() - started, latencies)


@dataclass(slots=True)
class Cpu:
    """Seconds spent inside a ``counting`` block, by name."""

    seconds: dict[str, float] = field(default_factory=dict)

    def per_operation_ms(self, operations: int) -> dict[str, float]:
        return {who: 1000 * spent / max(operations, 1) for who, spent in self.seconds.items()}


@contextmanager
def counting(processes: Mapping[str, int]) -> Iterator[Cpu]:
    """CPU of this process (``client``) and of the trees under the given pids, their dead children included."""
    spent = Cpu()
    before, before_own = {who: _tree_s(pid) for who, pid in processes.items()}, _own_s()
    yield spent
    spent.seconds["client"] = _own_s() - before_own
    spent.seconds |= {who: _tree_s(pid) - before[who] for who, pid in processes.items()}


def _own_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _tree_s(pid: int) -> float:
    root = psutil.Process(pid)
    total = 0.0
    for process in (root, *root.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def resident_mib(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / (1 << 20)


def pgbench(
    server: EmbeddedPostgres,
    arguments: Sequence[str],
    *,
    clients: int,
    seconds: float,
    database: str,
    role: str = OWNER,
) -> float:
    """Transactions per second, every statement prepared."""
    command = [server.binary("pgbench"), "-n", "-M", "prepared", "-c", str(clients), "-j", "1"]
    command += ["-T", str(max(_SHORTEST_S, round(seconds))), *arguments, server.url(database, role)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = _TPS.search(result.stdout)
    if found is None or result.returncode:
        raise SystemExit(f"pgbench failed: {(result.stdout + result.stderr)[-2000:]}")
    return float(found[1])
