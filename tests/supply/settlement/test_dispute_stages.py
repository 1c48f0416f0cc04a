"""Which steps lead from our stage to what the provider says; and how a disputed charge is divided."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply.settlement.disputes.freezing import over_orders
from supply.settlement.disputes.stages import Stage, Step, course

WITHDRAW, LOSE, WIN, WIN_BACK = Step.WITHDRAW, Step.LOSE, Step.WIN, Step.WIN_BACK
STATUSES = (
    "warning_needs_response", "warning_under_review", "warning_closed", "needs_response", "under_review",
    "won", "lost", "prevented",
)  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "status", "withdrawn", "steps", "then"),
    [
        (Stage.NOTICED, "warning_needs_response", False, (), Stage.INQUIRY),
        (Stage.INQUIRY, "warning_under_review", False, (), Stage.INQUIRY),
        (Stage.INQUIRY, "warning_closed", False, (), Stage.CLOSED),
        (Stage.NOTICED, "prevented", False, (), Stage.CLOSED),
        (Stage.CLOSED, "needs_response", True, (WITHDRAW,), Stage.OPEN),
        (Stage.NOTICED, "needs_response", True, (WITHDRAW,), Stage.OPEN),
        (Stage.INQUIRY, "lost", True, (WITHDRAW, LOSE), Stage.LOST),
        (Stage.NOTICED, "won", True, (WITHDRAW, WIN), Stage.WON),
        (Stage.OPEN, "under_review", True, (), Stage.OPEN),
        (Stage.OPEN, "won", True, (WIN,), Stage.WON),
        (Stage.OPEN, "lost", True, (LOSE,), Stage.LOST),
        (Stage.LOST, "won", True, (WIN_BACK,), Stage.WON),
        (Stage.LOST, "needs_response", True, (), Stage.LOST),
        (Stage.WON, "lost", True, (), Stage.WON),
        (Stage.WON, "needs_response", True, (), Stage.WON),
    ],
)
def test_the_steps_between_two_states(
    stage: Stage, status: str, withdrawn: bool, steps: tuple[Step, ...], then: Stage
) -> None:
    found = course(stage, status, withdrawn=withdrawn)
    assert (tuple(found.steps), found.stage) == (steps, then)


def test_what_was_applied_is_old_news_the_second_time() -> None:
    for stage, status, withdrawn in itertools.product(Stage, STATUSES, (False, True)):
        once = course(stage, status, withdrawn=withdrawn)
        again = course(once.stage, status, withdrawn=withdrawn)
        assert (tuple(again.steps), again.stage) == ((), once.stage)


@given(st.integers(1, 10**9), st.lists(st.integers(-1_000, 10**8), min_size=1, max_size=6))
def test_a_disputed_charge_is_divided_to_the_last_unit(amount: int, kept: list[int]) -> None:
    shares, platform = over_orders(amount, kept)
    assert sum(shares) + platform == amount
    assert all(0 <= share <= max(room, 0) for share, room in zip(shares, kept, strict=True))
    assert platform == max(amount - sum(max(room, 0) for room in kept), 0)
