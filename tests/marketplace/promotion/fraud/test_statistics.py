"""Against published tables and arithmetic on paper."""

from __future__ import annotations

import math
import random

import pytest

from marketplace.promotion.fraud.statistics import (
    ks_p_value,
    ks_two_samples,
    ks_uniform,
    percentile,
    poisson_z,
)


# Critical values of the one-sample Kolmogorov-Smirnov test, two-sided, as tables print them.
@pytest.mark.parametrize(
    ("size", "distance", "p"),
    [
        (10, 0.40925, 0.05), (10, 0.48893, 0.01), (20, 0.29408, 0.05), (20, 0.35241, 0.01), (30, 0.24170, 0.05),
        (30, 0.28987, 0.01), (100, 0.13403, 0.05), (100, 0.16081, 0.01),
    ],
)  # fmt: skip
def test_the_p_value_agrees_with_the_tables(size: int, distance: float, p: float) -> None:
    # Stephens promises two digits, more than evidence needs.
    assert math.isclose(ks_p_value(distance, size), p, rel_tol=0.05)


def test_the_p_value_goes_from_one_to_zero() -> None:
    values = [ks_p_value(step / 100, 40) for step in range(1, 101)]

    assert values[0] == 1.0
    assert values[-1] < 1e-30
    assert values == sorted(values, reverse=True)


def test_evenly_spaced_values_are_even_and_crowded_ones_are_not() -> None:
    assert ks_uniform([(i + 0.5) * 10 for i in range(50)], 500) > 0.999
    assert ks_uniform([i * 0.5 for i in range(50)], 500) < 1e-9


def test_one_sample_against_itself_and_against_another() -> None:
    rng = random.Random(5)
    early = [rng.expovariate(1 / 600) for _ in range(80)]

    assert ks_two_samples(early, early) == 1.0
    assert ks_two_samples(early, [rng.expovariate(1 / 600) for _ in range(80)]) > 0.01
    assert ks_two_samples(early, [rng.uniform(0, 86_400) for _ in range(80)]) < 1e-6


def test_the_z_of_a_count_by_hand() -> None:
    assert poisson_z(90, []) == 0.0
    assert poisson_z(130, [100] * 7) == 3.0  # no scatter seen: √100 = 10 is taken
    assert poisson_z(5, [0] * 28) == 5.0  # a silent history scatters by 1
    assert poisson_z(20, [0, 20]) == 1.0  # mean 10, deviation 10


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([], 99) == 0
    assert percentile([7], 99) == 7
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([0] * 671 + [9], 99) == 0  # one hour of 28 days is less than one in a hundred
