"""One seed is one story, on any machine: nothing but the seed says what happens.

On a server of its own: a transaction of somebody else's holds back the horizon, and with it roll-ups and statements.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.simulate.run import Result, simulate
from services.simulate.scratch import Scratch, scratch_server
from services.simulate.seeds import OTHERWISE, Asked, in_processes, run_seed
from services.simulate.trace import first_difference

ORDERS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[Scratch]:
    with scratch_server() as running:
        yield running


async def lived(server: Scratch, name: str, settings: dict[str, str]) -> tuple[Result, list[str]]:
    trace: list[str] = []
    with server.database(name, settings=settings) as url:
        result = await simulate(
            url, 9, orders=ORDERS, listen=trace.append, kill_server=server.kill, power_cut_one_in=2
        )
        return result, trace


async def test_the_same_seed_gives_the_same_steps_however_the_database_plans_them(server: Scratch) -> None:
    first, one = await lived(server, "one", {})
    again, other = await lived(server, "other", OTHERWISE)

    assert not first_difference(one, other), first_difference(one, other)
    assert first.trace == again.trace
    assert (first.steps, first.kills, first.happened) == (again.steps, again.kills, again.happened)
    assert first.green, first.broken
    assert first.kills
    assert first.power_cuts == again.power_cuts > 0
    assert first.happened["at once"]
    assert first.happened["shared orders"]


def test_seeds_in_a_process_of_their_own_are_the_same_stories(server: Scratch) -> None:
    here = run_seed(server, Asked(3, 1))
    (elsewhere,) = in_processes([Asked(3, 1)], jobs=1)

    assert here.green, here.broken
    assert (elsewhere.seed, elsewhere.trace, elsewhere.steps) == (3, here.trace, here.steps)
    assert elsewhere.green
