"""A short life of the simulation: whole, green and the same every time. The long one is `lianyu simulate money`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from services.simulate.run import Result, simulate
from tests.conftest import TestDatabase

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def run(database_name: str, postgres: Any) -> Run:
    """A simulation in a database of its own."""
    own = TestDatabase(f"{database_name}_simulation")

    async def simulated(seed: int, orders: int) -> Result:
        await own.recreate()
        return await simulate(own.url(), seed, orders=orders)

    return simulated


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_books_hold_whatever_a_seed_does(run: Run, seed: int) -> None:
    result = await run(seed, 60)

    story = "\n".join((f"seed {seed} breaks at step {result.steps}", *result.broken, *result.last))
    assert result.green, story
    assert result.orders >= 60
    assert result.kills, "somebody was killed on the way"
    assert result.happened["paid checkouts"] > 10


async def test_the_same_seed_gives_the_same_steps(run: Run) -> None:
    first, again = await run(7, 10), await run(7, 10)

    assert first.trace == again.trace
    assert (first.steps, first.kills, first.happened) == (again.steps, again.kills, again.happened)
