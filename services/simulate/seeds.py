"""Seeds one after the other, or in several processes: each process has a server of its own, for the horizon of one
seed's transactions must not be held back by another's."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from typing import Any

from services.simulate.run import Result, simulate
from services.simulate.scratch import Scratch, scratch_server
from services.simulate.trace import first_difference

OTHERWISE = {"plan_cache_mode": "force_generic_plan", "enable_nestloop": "off", "enable_bitmapscan": "off"}
"""How the planner goes about it on another machine, or with other statistics."""


@dataclass(frozen=True, slots=True)
class Asked:
    """``twice``: a second time with other plans, and the two traces are compared."""

    seed: int
    orders: int
    twice: bool = False


def in_turn(asked: Sequence[Asked], listen: Callable[[str], object] = len) -> Iterator[Result]:
    with scratch_server() as server:
        for each in asked:
            yield run_seed(server, each, listen)


def in_processes(asked: Sequence[Asked], jobs: int) -> Iterator[Result]:
    """As they end. A process that ends without an answer is an error here."""
    context = multiprocessing.get_context("spawn")
    todo: Queue[Asked | None] = context.Queue()
    done: Queue[Result] = context.Queue()
    for each in (*asked, *[None] * jobs):
        todo.put(each)
    workers = [context.Process(target=_work, args=(todo, done)) for _ in range(jobs)]
    for worker in workers:
        worker.start()
    try:
        for _ in asked:
            yield _next(done, workers)
    finally:
        for worker in workers:
            worker.join(timeout=60)
            worker.terminate()  # nothing, when it has ended


def run_seed(server: Scratch, asked: Asked, listen: Callable[[str], object] = len) -> Result:
    import uvloop

    def live(name: str, settings: dict[str, str]) -> tuple[Result, list[str]]:
        trace: list[str] = []

        def hear(line: str) -> None:
            trace.append(line)
            listen(line)

        with server.database(f"{name}_{asked.seed}", settings=settings) as url:
            run = simulate(url, asked.seed, orders=asked.orders, listen=hear, kill_server=server.kill)
            return uvloop.run(run), trace

    first, one = live("seed", {})
    if not asked.twice:
        return first
    again, other = live("again", OTHERWISE)
    if parting := first_difference(one, other):
        broken = (*first.broken, *again.broken, "the same seed told two stories:", *parting.splitlines())
        return replace(first, broken=broken)
    return first


def _work(todo: Queue[Asked | None], done: Queue[Result]) -> None:
    from infra.observability.logs import configure_logging

    configure_logging(level="CRITICAL", style="console")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server is taken down on the way out
    with scratch_server() as server:
        while (asked := todo.get()) is not None:
            done.put(run_seed(server, asked))


def _next(done: Queue[Result], workers: Sequence[Any]) -> Result:
    from queue import Empty

    while True:
        try:
            return done.get(timeout=1)
        except Empty:
            if any(worker.exitcode for worker in workers):
                raise RuntimeError("a process of the simulation ended before its time") from None
