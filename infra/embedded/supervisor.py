"""Runs a stack of processes in the foreground: starts in stages, restarts the dead, stops all in reverse.

Everything happens in the thread that calls it, so that the kernel can bind the children's life to it
(`infra.embedded.process.spawn`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any

from infra.embedded.child import Child, ProcessSpec, State
from infra.embedded.errors import DataDirInUse, ServerFailedToStart
from infra.embedded.lock import DirectoryLock
from infra.embedded.process import ProcessIdentity, last_lines
from infra.embedded.run_record import RunRecord, end_leftovers

_TICK_S = 0.05
_STARTS_BEFORE_GIVING_UP = 3


class Happening(StrEnum):
    """What a supervisor reports to its ``tell``."""

    LEFTOVER = "leftover"
    STARTING = "starting"
    READY = "ready"
    DIED = "died"
    STOPPING = "stopping"
    STOPPED = "stopped"


Tell = Callable[[Happening, str, str], None]
"""(what happened, name of the process, detail)"""


class Stopped(Exception):
    """SIGINT, SIGTERM or SIGHUP arrived while starting."""


class Supervisor:
    """Owns ``data_dir`` (one at a time, by lock) and everything started below it.

    Use as a context manager: entering takes the lock (`DataDirInUse` when taken), ends what a killed
    predecessor left, and listens to signals; leaving stops all and restores the handlers.
    """

    def __init__(self, data_dir: Path, *, tell: Tell) -> None:
        self.data_dir = data_dir
        self._tell = tell
        self._lock = DirectoryLock(data_dir / "lock")
        self._stages: list[list[Child]] = []
        self._signals = 0
        self._previous: dict[int, Any] = {}
        me = ProcessIdentity.of(os.getpid())
        assert me is not None
        self._record = RunRecord(supervisor=me)

    def __enter__(self) -> Supervisor:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if not self._lock.acquire():
            raise DataDirInUse(self.data_dir)
        self._listen()
        try:
            before = RunRecord.read(record_path(self.data_dir))
            for name in end_leftovers(before) if before else []:
                self._tell(Happening.LEFTOVER, name, "ended what a killed supervisor had left")
            self._save()
        except BaseException:
            self._let_go()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._let_go()

    def start(self, specs: Sequence[ProcessSpec]) -> None:
        """Start one stage, in parallel; returns when all are ready.

        Raises `ServerFailedToStart` when one fails its third start (a task: its first), `Stopped` when told.
        """
        stage = [Child(spec) for spec in specs]
        self._stages.append(stage)
        while not all(child.state in (State.READY, State.DONE) for child in stage):
            self._tick()
            for child in stage:
                patience = 1 if child.spec.once else _STARTS_BEFORE_GIVING_UP
                if child.failures >= patience:
                    tail = last_lines(child.spec.log)
                    raise ServerFailedToStart(child.spec.name, child.why, log=child.spec.log, tail=tail)
            if self._signals:
                raise Stopped
            time.sleep(_TICK_S)

    def announce(self, facts: dict[str, Any], *, ready: bool = True) -> None:
        """Tell those who find the record what to know: addresses, keys."""
        self._record.facts, self._record.ready = facts, ready
        self._save()

    def watch(self) -> None:
        """Restart what dies until SIGINT, SIGTERM or SIGHUP arrives."""
        while not self._signals:
            self._tick()
            time.sleep(_TICK_S)

    def check(self) -> None:
        """One look at all processes, for callers with a loop of their own. Raises `Stopped` when told."""
        self._tick()
        if self._signals:
            raise Stopped

    def stop(self) -> None:
        """Stage by stage, the last first; within one, all are asked at once and killed when they are late.

        A second signal while stopping kills at once.
        """
        already = self._signals
        while self._stages:
            stage = self._stages.pop()
            waiting = [child for child in reversed(stage) if child.process is not None]
            asked_at = time.monotonic()
            for child in waiting:
                self._tell(Happening.STOPPING, child.spec.name, "")
                child.signal_stop()
            while waiting:
                for child in list(waiting):
                    late = time.monotonic() - asked_at > child.spec.stop_timeout_s
                    if child.gone():
                        detail = ""
                    elif late or self._signals > max(1, already):
                        child.kill()
                        detail = "killed, it did not end in time"
                    else:
                        continue
                    self._tell(Happening.STOPPED, child.spec.name, detail)
                    waiting.remove(child)
                time.sleep(_TICK_S)

    @property
    def pids(self) -> dict[str, int]:
        return {child.spec.name: child.process.pid for child in self._children() if child.process is not None}

    def _children(self) -> Iterator[Child]:
        for stage in self._stages:
            yield from stage

    def _tick(self) -> None:
        for child in self._children():
            before = child.identity
            changed = child.step()
            if child.identity != before:
                self._save()
            if changed is State.STARTING:
                self._tell(Happening.STARTING, child.spec.name, "")
            elif changed in (State.READY, State.DONE):
                self._tell(Happening.READY, child.spec.name, "")
            elif changed is State.WAITING:
                self._tell(Happening.DIED, child.spec.name, child.why)

    def _save(self) -> None:
        self._record.children = {
            child.spec.name: child.identity for child in self._children() if child.identity is not None
        }
        if "pids" in self._record.facts:
            self._record.facts["pids"] = self.pids
        self._record.write(record_path(self.data_dir))

    def _listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # started with nohup
            self._previous[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1

    def _let_go(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        with contextlib.suppress(OSError):
            record_path(self.data_dir).unlink()
        self._lock.release()


def record_path(data_dir: Path) -> Path:
    return data_dir / "run.json"


def running_record(data_dir: Path) -> RunRecord | None:
    """The record of the supervisor that holds ``data_dir`` now, else None."""
    record = RunRecord.read(record_path(data_dir))
    return record if record is not None and record.supervisor.alive() else None
