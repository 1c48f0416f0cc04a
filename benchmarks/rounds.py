"""Rounds: a load on our servers and its yardsticks one after the other, several times."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.frame import Beside, Goal, Measured, Options, percentile
from benchmarks.load import Load, counting, pgbench, resident_mib
from benchmarks.servers import BENCH, Platform

SELECTS = "pgbench -S"
_PEERS_SELECTS = 45_000.0
"""What pgbench -S gave beside Vendure: performance.md section 1."""


@dataclass(frozen=True, slots=True)
class Yardstick:
    """``run`` gives its rate. ``of``: instead, the rate of an earlier yardstick times ``factor``."""

    name: str
    run: Callable[[], float] | None = None
    goal: Goal | None = None
    of: str = ""
    factor: float = 1.0


def selects(platform: Platform, options: Options) -> Yardstick:
    """Single-row selects by as many connections: what this machine is worth just now."""
    return Yardstick(SELECTS, lambda: pgbench(
        platform.postgres, ["-S"], clients=options.clients, seconds=options.seconds / 2, database=BENCH
    ))  # fmt: skip


def vendure(rate: float, goal: float) -> Yardstick:
    """Vendure 3.7 as it was measured in another run, scaled by pgbench -S here and there: a rough guide."""
    about = "estimated"
    return Yardstick(
        "Vendure 3.7, scaled by pgbench -S",
        of=SELECTS,
        factor=rate / _PEERS_SELECTS,
        goal=Goal(goal, about=about),
    )


def tpc_b(platform: Platform, options: Options, *, clients: int, goal: Goal | None = None) -> Yardstick:
    return Yardstick(f"pgbench TPC-B, {clients} clients", lambda: pgbench(
        platform.postgres, ["-b", "tpcb-like"], clients=clients, seconds=options.seconds / 2, database=BENCH
    ), goal)  # fmt: skip


def measure(
    benchmark: str,
    name: str,
    load: Callable[[int], Load],
    yardsticks: Sequence[Yardstick],
    *,
    processes: Mapping[str, int],
    clients: int,
    rounds: int,
    p99_goal_ms: float | None = None,
) -> Measured:
    """``load`` is given the number of the round. ``processes``: pids by who they are; ``server`` tells its memory."""
    loads: list[Load] = []
    spent: list[dict[str, float]] = []
    figures: dict[str, list[float]] = {yardstick.name: [] for yardstick in yardsticks}
    for number in range(rounds):
        with counting(processes) as cpu:
            loads.append(load(number))
        spent.append(cpu.per_operation_ms(loads[-1].operations))
        _take(yardsticks, figures)
    rates = [each.rate for each in loads]
    latencies = sorted(latency for each in loads for latency in each.latencies_ms)
    return Measured(
        benchmark=benchmark,
        name=name,
        clients=clients,
        operations=len(latencies),
        rate=statistics.median(rates),
        p50_ms=percentile(latencies, 50),
        p99_ms=percentile(latencies, 99),
        p99_goal_ms=p99_goal_ms,
        cpu_ms={who: statistics.median(each[who] for each in spent) for who in spent[0]},
        memory_mib=resident_mib(processes["server"]) if "server" in processes else None,
        beside=_beside(yardsticks, figures, rates),
    )


def rates_only(
    benchmark: str,
    name: str,
    rate: Callable[[], float],
    yardsticks: Sequence[Yardstick],
    *,
    clients: int,
    rounds: int,
) -> Measured:
    """Where another program makes the load (pgbench) and tells nothing but its rate."""
    rates: list[float] = []
    figures: dict[str, list[float]] = {yardstick.name: [] for yardstick in yardsticks}
    for _ in range(rounds):
        rates.append(rate())
        _take(yardsticks, figures)
    return Measured(
        benchmark, name, clients, 0, statistics.median(rates), beside=_beside(yardsticks, figures, rates)
    )


def _take(yardsticks: Sequence[Yardstick], figures: dict[str, list[float]]) -> None:
    for yardstick in yardsticks:
        rate = yardstick.run() if yardstick.run else figures[yardstick.of][-1] * yardstick.factor
        figures[yardstick.name].append(rate)


def _beside(
    yardsticks: Sequence[Yardstick], figures: Mapping[str, Sequence[float]], rates: Sequence[float]
) -> list[Beside]:
    return [
        Beside(y.name, statistics.median(figures[y.name]), _ratios(rates, figures[y.name]), y.goal)
        for y in yardsticks
    ]


def _ratios(rates: Sequence[float], figures: Sequence[float]) -> list[float]:
    return [ours / theirs for ours, theirs in zip(rates, figures, strict=True)]
