"""The estimate of what showing brings, on experiments of which the truth is known."""

from __future__ import annotations

import math
import random
from statistics import fmean, variance

import pytest

from marketplace.insights.incrementality import Arm, Estimate, enough, estimate, student_975

EXPERIMENTS = 1_000


@pytest.mark.parametrize(
    ("freedom", "table"),
    [(10, 2.228139), (30, 2.042272), (60, 2.000298), (120, 1.979930), (10_000, 1.960201)],
)
def test_students_point_is_the_tables(freedom: int, table: float) -> None:
    assert student_975(freedom) == pytest.approx(table, abs=1e-4)


def _arm(ys: list[int], xs: list[int] | None = None) -> Arm:
    arm = Arm(members=len(ys))
    for y, x in zip(ys, xs or [0] * len(ys), strict=True):
        arm.add(y, x)
    return arm


def test_arms_of_one_size_give_welchs_interval() -> None:
    """Equal sizes: both standard errors are sqrt(var1/n + var0/n), whichever way they are reckoned."""
    draw = random.Random(4)
    shown, held = ([draw.randrange(1, 900) for _ in range(200)] for _ in range(2))
    found = estimate(_arm(shown), _arm(held))
    assert found is not None
    se = math.sqrt(variance(shown) / 200 + variance(held) / 200)
    assert found.per_member == pytest.approx(fmean(shown) - fmean(held))
    freedom = (variance(shown) + variance(held)) ** 2 / (
        variance(shown) ** 2 / 199 + variance(held) ** 2 / 199
    )
    assert found.high - found.per_member == pytest.approx(student_975(freedom) * se)
    assert found.low == pytest.approx(2 * found.per_member - found.high)


def test_what_members_did_before_takes_its_part_out_of_the_noise() -> None:
    """y = x + 3 when shown, x when not: with x known nothing is left to chance."""
    draw = random.Random(5)
    before = [[draw.randrange(1, 500) for _ in range(150)] for _ in range(2)]
    shown = _arm([x + 3 for x in before[0]], before[0])
    held = _arm(before[1], before[1])
    found = estimate(shown, held)
    assert found is not None
    assert (found.per_member, found.theta) == (pytest.approx(3), pytest.approx(1))
    assert found.high - found.low == pytest.approx(0, abs=1e-6)


def test_a_few_buyers_are_not_enough() -> None:
    crowd = _arm([0] * 5_000 + [100] * 500)
    assert enough(crowd, _arm([0] * 490 + [100] * 10))
    assert estimate(crowd, _arm([0] * 491 + [100] * 9)) is None
    assert estimate(crowd, _arm([100] * 99)) is None


class Market:
    """Members who buy rarely and spend unevenly; those who bought before buy more. ``lift`` is of those shown."""

    def __init__(self, members: int, held_out: float, buying: float, lift: float) -> None:
        self.members, self.held_out, self.buying, self.lift = members, held_out, buying, lift
        self.mean = 5_000 * math.exp(0.8**2 / 2)

    def truth(self) -> float:
        """Per member: E[y | shown] - E[y | held out]."""
        loyal = self.buying
        rate = self.buying * (loyal * 2.5 + (1 - loyal) * 0.8)
        return rate * (self.lift - 1) * self.mean

    def experiment(self, draw: random.Random) -> Estimate | None:
        shown, held = Arm(), Arm()
        for _ in range(self.members):
            arm, lift = (held, 1.0) if draw.random() < self.held_out else (shown, self.lift)
            arm.members += 1
            loyal = draw.random() < self.buying
            bought = draw.random() < self.buying * lift * (2.5 if loyal else 0.8)
            if bought or loyal:
                y, x = (
                    round(draw.lognormvariate(math.log(5_000), 0.8)) if each else 0
                    for each in (bought, loyal)
                )
                arm.add(y, x)
        return estimate(shown, held)


@pytest.mark.parametrize(
    "market",
    [
        Market(600, 0.5, 0.10, 1.0), Market(600, 0.5, 0.10, 1.6), Market(1_200, 0.2, 0.12, 1.4),
        Market(1_500, 0.1, 0.15, 1.0), Market(1_500, 0.1, 0.15, 1.5), Market(1_200, 0.2, 0.20, 0.5),
    ],
    ids=["half, nothing", "half, more", "fifth, more", "tenth, nothing", "tenth, more", "fifth, less"],
)  # fmt: skip
def test_the_interval_covers_the_truth_and_nothing_is_not_called_something(market: Market) -> None:
    """Of a thousand experiments: coverage at least 93 %, and, where showing does nothing, at most 6 % significant."""
    draw = random.Random(17)
    found = [each for each in (market.experiment(draw) for _ in range(EXPERIMENTS)) if each is not None]
    assert len(found) > 0.6 * EXPERIMENTS
    covered = sum(each.low <= market.truth() <= each.high for each in found)
    assert covered >= 0.93 * len(found)
    if market.lift == 1:
        assert sum(each.significant for each in found) <= 0.06 * len(found)
