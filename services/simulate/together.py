"""Several workers at once, of which one runs at a time: where each of them gives way to another is the seed's to say.

A worker goes on to its next point: before a commit, with its locks held, after it, or around a call to the provider.
One that runs into another's lock waits in PostgreSQL, which says so, and goes on alone when the other has let go. So
claims pass over what another has claimed, guarded updates meet, and the same seed gives the same story.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from random import Random

import asyncpg
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.actor import SYSTEM
from infra.db.session import Database
from services.simulate.kill import KillSwitch

_LOOK_AGAIN_S = 0.005
_NO_ANSWER = (DBAPIError, OSError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError)
# Whom nobody blocks any more is not waiting, though it may not have woken yet.
_WAITING = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND cardinality(pg_blocking_pids(pid)) > 0"
)


class _Turn:
    """One worker. ``here``: it stands at a point, or is done."""

    def __init__(self, work: Callable[[], Awaitable[str]]) -> None:
        self._work, self._go = work, asyncio.Event()
        self.here = asyncio.Event()
        self.done = self._left_alone = False

    async def run(self, switch: KillSwitch) -> str:
        with switch.course(self._pause):
            try:
                await self._pause()
                return await self._work()
            finally:
                self.done = True
                self.here.set()

    def go_on(self) -> None:
        self.here.clear()
        self._go.set()

    def leave_alone(self) -> None:
        """From now on it gives way to nobody."""
        self._left_alone = True
        self._go.set()

    async def _pause(self) -> None:
        if self._left_alone:
            return
        self.here.set()
        await self._go.wait()
        self._go.clear()


async def together(
    works: Sequence[Callable[[], Awaitable[str]]], *, switch: KillSwitch, calm: Database, dice: Random
) -> list[str]:
    """What came of each, in their order. Raises what one of them raised, when all have ended."""
    turns = [_Turn(work) for work in works]
    tasks = [asyncio.create_task(turn.run(switch)) for turn in turns]
    try:
        await _take_turns(turns, calm, dice)
        return list(await asyncio.gather(*tasks))
    except BaseException:
        # Nobody would tell those that are left when it is their turn.
        for turn, task in zip(turns, tasks, strict=True):
            turn.leave_alone()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _take_turns(turns: Sequence[_Turn], calm: Database, dice: Random) -> None:
    while True:
        await _all_stand(turns, calm)
        ready = [turn for turn in turns if turn.here.is_set() and not turn.done]
        if ready:
            dice.choice(ready).go_on()
        elif all(turn.done for turn in turns):
            return
        else:
            # All that are left wait for each other: PostgreSQL ends that after a second.
            await asyncio.wait(
                [asyncio.create_task(t.here.wait()) for t in turns if not t.done],
                return_when="FIRST_COMPLETED",
            )


async def _all_stand(turns: Sequence[_Turn], calm: Database) -> None:
    """Until every worker stands at a point, is done, or waits for a lock that another holds."""
    while running := [turn for turn in turns if not turn.here.is_set()]:
        try:
            async with asyncio.timeout(_LOOK_AGAIN_S):
                await running[0].here.wait()
        except TimeoutError:
            with contextlib.suppress(*_NO_ANSWER):  # a worker may cut the power while we look
                async with calm.reading(SYSTEM) as session:
                    if (await session.execute(_WAITING)).scalar_one() >= len(running):
                        return
