"""What every benchmark gives: figures beside a yardstick taken in the same run, as a table and as JSON.

A ratio is the median over rounds; each round measures ours and the yardstick one after the other, so that what
else the machine does falls on both. Nothing fails because of a figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Options:
    """``seconds`` of each measurement, of which there are ``rounds``."""

    seconds: float = 3.0
    rounds: int = 3
    clients: int = 8


@dataclass(frozen=True, slots=True)
class Goal:
    """Of a ratio (``at_most``: smaller is better). ``about`` says how what is measured differs from the goal's."""

    value: float
    at_most: bool = False
    about: str = ""

    def met(self, ratio: float) -> bool:
        return ratio <= self.value if self.at_most else ratio >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.value:g}"


@dataclass(frozen=True, slots=True)
class Beside:
    """A yardstick: its own figure (``per_s``, unless ``unit`` says otherwise), and ours divided by it per round."""

    name: str
    figure: float
    ratios: Sequence[float]
    goal: Goal | None = None
    unit: str = "/s"

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


@dataclass(frozen=True, slots=True)
class Measured:
    """One measure over all rounds. ``operations``: 0 when another program counted them. CPU is in milliseconds
    per operation, by who spent it; rates are per second."""

    benchmark: str
    name: str
    clients: int
    operations: int
    rate: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    p99_goal_ms: float | None = None
    cpu_ms: dict[str, float] = field(default_factory=dict)
    memory_mib: float | None = None
    beside: Sequence[Beside] = ()

    def as_json(self) -> dict[str, Any]:
        plain = asdict(self)
        for shown, yardstick in zip(plain["beside"], self.beside, strict=True):
            shown["ratio"] = yardstick.ratio
            if yardstick.goal is not None:
                shown["met"] = yardstick.goal.met(yardstick.ratio)
        return plain


def percentile(sorted_values: Sequence[float], of_hundred: int) -> float:
    return sorted_values[min(len(sorted_values) * of_hundred // 100, len(sorted_values) - 1)]


def lines_of(measured: Iterable[Measured]) -> list[str]:
    """The table, a line per measure and one under it per yardstick."""
    lines = []
    for each in measured:
        lines.append(
            f"{each.benchmark}: {each.name}\n    {each.clients} clients, {each.rate:,.1f}/s{_latency(each)}"
        )
        if each.cpu_ms:
            spent = ", ".join(f"{who} {ms:.3f}" for who, ms in each.cpu_ms.items())
            lines.append(f"    CPU ms per operation: {spent}{_memory(each)}")
        lines += [f"    {_yardstick(beside)}" for beside in each.beside]
    return lines


def _latency(each: Measured) -> str:
    if each.p50_ms is None or each.p99_ms is None:
        return ""
    text = f", p50 {each.p50_ms:.4g} ms, p99 {each.p99_ms:.4g} ms of {each.operations:,}"
    if each.p99_goal_ms is None:
        return text
    return text + f" (goal ≤ {each.p99_goal_ms:g}{'' if each.p99_ms <= each.p99_goal_ms else ', MISSED'})"


def _memory(each: Measured) -> str:
    return "" if each.memory_mib is None else f"; server process {each.memory_mib:.0f} MiB"


def _yardstick(beside: Beside) -> str:
    spread = f"{min(beside.ratios):.3g} to {max(beside.ratios):.3g}"
    text = f"{beside.ratio:>8.3f} × {beside.name} ({beside.figure:,.4g}{beside.unit}; rounds {spread})"
    if beside.goal is None:
        return text
    about = f", {beside.goal.about}" if beside.goal.about else ""
    return text + f"; goal {beside.goal}{about}: {'met' if beside.goal.met(beside.ratio) else 'MISSED'}"
