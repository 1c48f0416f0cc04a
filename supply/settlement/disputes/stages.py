"""What can become of a dispute (money.md R9): a table of steps, applied to whatever the provider says now.

Notices repeat and come in any order, so nothing here depends on which of them came: the provider's object is
read, and every step between our stage and what it says is taken, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    NOTICED = "noticed"
    """Known, and its charge is not in our books yet: looked at again."""
    INQUIRY = "inquiry"
    """The bank asks; no money has moved."""
    OPEN = "open"
    """The money is withdrawn, the parties' shares are frozen."""
    WON = "won"
    LOST = "lost"
    CLOSED = "closed"
    """Ended without the money having moved."""


class Step(StrEnum):
    WITHDRAW = "withdraw"
    LOSE = "lose"
    WIN = "win"
    """From the open dispute: the shares are unfrozen."""
    WIN_BACK = "win_back"
    """A lost dispute was decided anew, months later even: everybody gets back what losing took."""


_NOTHING_MOVED = frozenset({Stage.NOTICED, Stage.INQUIRY, Stage.CLOSED})
_ENDED_INQUIRY = frozenset({"warning_closed", "prevented", "won", "lost"})


@dataclass(frozen=True, slots=True)
class Course:
    """The steps that lead from our stage to ``stage``; none when the provider's word is old or no news."""

    steps: Sequence[Step]
    stage: Stage


def course(stage: Stage, status: str, *, withdrawn: bool) -> Course:
    """``withdrawn``: the provider has taken the money at some time, given back or not."""
    steps: list[Step] = []
    now = stage
    if now in _NOTHING_MOVED and not withdrawn:
        return Course((), Stage.CLOSED if status in _ENDED_INQUIRY else Stage.INQUIRY)
    if now in _NOTHING_MOVED:
        steps.append(Step.WITHDRAW)
        now = Stage.OPEN
    if now is Stage.OPEN and status in ("won", "lost"):
        steps.append(Step.WIN if status == "won" else Step.LOSE)
        now = Stage(status)
    elif now is Stage.LOST and status == "won":
        steps.append(Step.WIN_BACK)
        now = Stage.WON
    return Course(tuple(steps), now)
