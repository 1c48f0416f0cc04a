"""A short life of the simulation: whole, green, and what it tells of a fault. The long one: `lianyu simulate money`."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from rich.console import Console

from services.commands.simulate import tell_failure
from services.simulate.run import Result, simulate
from supply.settlement import parties, release
from tests.conftest import TestDatabase
from tests.mutants.registry import everything_to_the_first

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
async def run(database_name: str, postgres: Any) -> Run:
    """A simulation in a database of its own."""
    own = TestDatabase(f"{database_name}_simulation")

    async def simulated(seed: int, orders: int) -> Result:
        await own.recreate()
        return await simulate(own.url(), seed, orders=orders)

    return simulated


@pytest.mark.parametrize("seed", [1, 5])
async def test_the_books_hold_whatever_a_seed_does(run: Run, seed: int) -> None:
    result = await run(seed, 40)

    story = "\n".join((f"seed {seed} breaks at step {result.steps}", *result.broken, *result.last))
    assert result.green, story
    assert result.orders >= 40
    assert result.kills, "somebody was killed on the way"
    assert result.happened["paid checkouts"] > 10


async def test_a_fault_in_a_recipe_is_found_and_told_with_the_way_to_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "released_account", everything_to_the_first(parties.released_account))
    result = await run(2, 10)

    assert any("a party has its share" in each for each in result.broken), result.broken
    assert result.last, "the steps before it"
    told = io.StringIO()
    tell_failure(Console(file=told, width=200), result)
    assert "seed 2 breaks at step" in told.getvalue()
    assert "again: lianyu simulate money --seed 2 --orders 10" in told.getvalue()
