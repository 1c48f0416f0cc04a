"""Kills processes of the stack in the middle of the work, once each, by their process ids."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded.process import ProcessIdentity
from infra.embedded.supervisor import running_record

VICTIMS = ("api", "worker", "relay", "paysim", "postgres")
_INTO_THE_STEP_S = 0.25
_BACK_WITHIN_S = 60.0


@dataclass(slots=True)
class Chaos:
    """One victim every few steps, evenly over ``steps``."""

    data_dir: Path
    steps: int
    killed: list[str] = field(default_factory=list)

    async def strike(self, step: int) -> None:
        """`kill -9` when this step has a victim; returns when the supervisor has it running again."""
        turns = {(index + 1) * self.steps // (len(VICTIMS) + 1): name for index, name in enumerate(VICTIMS)}
        name = turns.get(step)
        if name is None:
            return
        await asyncio.sleep(_INTO_THE_STEP_S)
        victim = self._find(name)
        assert victim is not None, f"{name} does not run"
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGKILL)
        self.killed.append(name)
        for _ in range(int(_BACK_WITHIN_S / 0.1)):
            await asyncio.sleep(0.1)
            back = self._find(name)
            if back is not None and back != victim and back.alive():
                return
        raise TimeoutError(f"{name} did not come back within {_BACK_WITHIN_S:.0f} s")

    def _find(self, name: str) -> ProcessIdentity | None:
        record = running_record(self.data_dir)
        return record.children.get(name) if record else None
