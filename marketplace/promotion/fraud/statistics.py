"""The three statistics the fraud rules use. Evidence, not money: floats are fine here."""

from __future__ import annotations

import math
from collections.abc import Sequence


def poisson_z(count: int, history: Sequence[int]) -> float:
    """How far ``count`` lies above the mean of ``history``, in standard deviations; 0 without history.

    Counts of independent visitors scatter at least like a Poisson variable: the deviation is never taken for less
    than √mean (nor than 1), so that a quiet history does not turn a small bump into an outlier.
    """
    if not history:
        return 0.0
    mean = math.fsum(history) / len(history)
    variance = math.fsum((each - mean) ** 2 for each in history) / len(history)
    return (count - mean) / math.sqrt(max(variance, mean, 1.0))


def percentile(values: Sequence[int], parts_per_hundred: int) -> int:
    """The smallest value that at least so many per cent of ``values`` do not exceed; 0 of none."""
    if not values:
        return 0
    rank = -(-len(values) * parts_per_hundred // 100)
    return sorted(values)[max(rank, 1) - 1]


def ks_p_value(distance: float, size: float) -> float:
    """P(D ≥ ``distance``) of the Kolmogorov-Smirnov statistic for an effective sample ``size``.

    Asymptotic, with Stephens' correction for small samples; ``size`` is n, or n·m / (n + m) for two samples.
    """
    root = math.sqrt(size)
    scaled = (root + 0.12 + 0.11 / root) * distance
    if scaled < 0.2:
        return 1.0  # the series converges slowly here, and is 1 to twelve digits
    total = math.fsum((-1) ** (k - 1) * math.exp(-2 * (k * scaled) ** 2) for k in range(1, 101))
    return min(max(2 * total, 0.0), 1.0)


def ks_uniform(values: Sequence[float], width: float) -> float:
    """p of the hypothesis that ``values`` are spread evenly over 0 … ``width``."""
    ordered, n = sorted(values), len(values)
    distance = 0.0
    for index, value in enumerate(ordered):
        expected = min(max(value / width, 0.0), 1.0)
        distance = max(distance, expected - index / n, (index + 1) / n - expected)
    return ks_p_value(distance, n)


def ks_two_samples(one: Sequence[float], other: Sequence[float]) -> float:
    """p of the hypothesis that both samples come from one distribution."""
    a, b = sorted(one), sorted(other)
    i = j = 0
    distance = 0.0
    while i < len(a) and j < len(b):
        value = min(a[i], b[j])
        while i < len(a) and a[i] <= value:
            i += 1
        while j < len(b) and b[j] <= value:
            j += 1
        distance = max(distance, abs(i / len(a) - j / len(b)))
    return ks_p_value(distance, len(a) * len(b) / (len(a) + len(b)))
