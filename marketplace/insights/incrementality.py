"""What showing brings: the difference between members who were shown something and members who were not. Pure.

The estimate is the difference of the arms' means per member, adjusted by what the same members did before (CUPED:
x is the outcome of as long a time before the start, theta its regression within the arms; where nobody bought before,
theta is 0). Its 95 % interval is Student's with Welch's degrees of freedom. Purchases are rare and skewed, and a small
arm of few buyers is too sure of itself: the interval takes the wider of Welch's standard error and that with one
variance for both arms. What it covers in simulated experiments is told in docs/decisions.

Estimates are floats: they are no money that anybody has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

LEAST_MEMBERS = 100
LEAST_BUYERS = 10
"""Of each arm; with fewer, the answer is "not enough"."""

_Z = NormalDist().inv_cdf(0.975)


@dataclass(slots=True)
class Arm:
    """Sums over members: ``y`` after the start, ``x`` before it; exact integers. Members who did nothing count too."""

    members: int = 0
    buyers: int = 0
    """With an outcome after the start."""
    y: int = 0
    yy: int = 0
    x: int = 0
    xx: int = 0
    xy: int = 0

    def add(self, y: int, x: int = 0) -> None:
        """One of the members, who did something; ``members`` is set apart."""
        self.buyers += y != 0
        self.y += y
        self.yy += y * y
        self.x += x
        self.xx += x * x
        self.xy += x * y


@dataclass(frozen=True, slots=True)
class Estimate:
    """Per member shown, in the units of ``y``; between ``low`` and ``high`` in 95 of 100 experiments."""

    per_member: float
    low: float
    high: float
    theta: float

    @property
    def significant(self) -> bool:
        return not self.low <= 0 <= self.high


@dataclass(frozen=True, slots=True)
class _Moments:
    members: int
    mean_y: float
    mean_x: float
    yy: float
    xx: float
    xy: float

    @classmethod
    def of(cls, arm: Arm) -> _Moments:
        """Centred sums, from exact integers: what cancels, cancels exactly."""
        n = arm.members
        return cls(
            n,
            arm.y / n,
            arm.x / n,
            (n * arm.yy - arm.y * arm.y) / n,
            (n * arm.xx - arm.x * arm.x) / n,
            (n * arm.xy - arm.x * arm.y) / n,
        )


def enough(shown: Arm, held_out: Arm) -> bool:
    return all(arm.members >= LEAST_MEMBERS and arm.buyers >= LEAST_BUYERS for arm in (shown, held_out))


def estimate(shown: Arm, held_out: Arm) -> Estimate | None:
    """What showing adds per member; ``None`` when there is not enough to tell."""
    if not enough(shown, held_out):
        return None
    arms = [_Moments.of(shown), _Moments.of(held_out)]
    before = sum(arm.xx for arm in arms)
    theta = sum(arm.xy for arm in arms) / before if before else 0.0
    means = [arm.mean_y - theta * arm.mean_x for arm in arms]
    squares = [max(arm.yy - 2 * theta * arm.xy + theta * theta * arm.xx, 0.0) for arm in arms]
    variances = [s / (arm.members - 1) / arm.members for s, arm in zip(squares, arms, strict=True)]
    welch = sum(variances)
    if welch == 0:
        return Estimate(means[0] - means[1], means[0] - means[1], means[0] - means[1], theta)
    common = sum(squares) / (arms[0].members + arms[1].members - 2)
    pooled = common * (1 / arms[0].members + 1 / arms[1].members)
    freedom = welch**2 / sum(v * v / (arm.members - 1) for v, arm in zip(variances, arms, strict=True))
    reach = student_975(freedom) * math.sqrt(max(welch, pooled))
    difference = means[0] - means[1]
    return Estimate(difference, difference - reach, difference + reach, theta)


def student_975(freedom: float) -> float:
    """The 97.5 % point of Student's t; within 0.0001 from 10 degrees of freedom on.

    The Cornish-Fisher expansion (Abramowitz and Stegun, 26.7.5).
    """
    z, v = _Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
