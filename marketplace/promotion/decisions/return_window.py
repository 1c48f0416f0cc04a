"""A promoter whose buyers give back too much waits longer (cps.md §5, REFUND_RING): while the rule's signal holds, its
orders get the next longer return window. The window is part of the decision's amounts, so either brand sees it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from marketplace.promotion.agreements.terms import RETURN_WINDOWS_DAYS
from marketplace.promotion.attribution.crediting import SplitRule
from marketplace.promotion.attribution.decision import Award

SHORTEST_LONGER_DAYS = 30


def longer_window(days: int) -> int:
    """The next window that may be agreed on, thirty days at least; ninety stays."""
    return next((each for each in RETURN_WINDOWS_DAYS if each > days and each >= SHORTEST_LONGER_DAYS), days)


def lengthened(
    splits: Sequence[SplitRule], awards: Sequence[Award], watched: frozenset[str]
) -> tuple[SplitRule, ...]:
    """The splits of an order, with a longer window for the versions that a watched touch earns under."""
    longer = {
        (award.agreement_id, award.agreement_version)
        for award in awards
        if any(winner.touch_id in watched for winner in award.winners)
    }
    return tuple(
        replace(split, return_window_days=longer_window(split.return_window_days))
        if (split.agreement_id, split.version) in longer
        else split
        for split in splits
    )
