"""No brand may fill a list: at most three of ten, unless there are too few brands to fill it otherwise."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")


def at_most_three_of_ten(ranked: Sequence[T], limit: int, owner: Callable[[T], Hashable]) -> list[T]:
    """The best ``limit`` of ``ranked`` with the bound held; their order stays."""
    bound = max(1, -(-3 * limit // 10))
    chosen: set[int] = set()
    taken: dict[Hashable, int] = {}
    for index, item in enumerate(ranked):
        if len(chosen) == limit:
            break
        if taken.get(owner(item), 0) < bound:
            taken[owner(item)] = taken.get(owner(item), 0) + 1
            chosen.add(index)
    for index in range(len(ranked)):
        if len(chosen) >= limit:
            break
        chosen.add(index)
    return [ranked[index] for index in sorted(chosen)]
