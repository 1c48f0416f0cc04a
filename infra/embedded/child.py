"""One supervised process: what it is (`ProcessSpec`) and where it stands (`Child`)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from infra.embedded.probes import START_MARK, Probe
from infra.embedded.process import Account, ProcessIdentity, spawn

_LONGEST_LOG = 20 << 20
_SLOWEST_RESTART_S = 10.0
_STEADY_AFTER_S = 30.0


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """How to run one process and know that it is ready.

    ``before`` runs ahead of every start (clean up after a kill, choose a port), ``after`` each time it has
    become ready. ``once`` marks a task: it is ready when it has ended with 0, and is not started again.
    A process that has lived ``settled_after_s`` counts as ready whatever its probe says: for those that
    listen nowhere and may be told to log nothing.
    """

    name: str
    argv: Callable[[], Sequence[str]]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | str = "/"
    account: Account | None = None
    ready: Probe | None = None
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    once: bool = False
    settled_after_s: float | None = None
    ready_timeout_s: float = 60.0
    stop_signal: int = signal.SIGTERM
    stop_timeout_s: float = 10.0


class State(StrEnum):
    WAITING = "waiting"
    """Not started yet, or in the pause before a restart."""
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    """A task that ended well."""


class Child:
    """The life of one process, driven by `step`. It never blocks longer than ``before`` and ``after`` do."""

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        self.state = State.WAITING
        self.process: subprocess.Popen[bytes] | None = None
        self.identity: ProcessIdentity | None = None
        self.failures = 0
        """Ends in a row without `_STEADY_AFTER_S` of readiness between them."""
        self.why = ""
        """The reason of the last end."""
        self._not_before = 0.0
        self._since = 0.0

    def step(self) -> State | None:
        """Advance; the new state when it changed, `State.WAITING` after an end."""
        if self.state is State.DONE:
            return None
        if self.state is State.WAITING:
            return self._start() if time.monotonic() >= self._not_before else None
        code = self._ended()
        if code is not None:
            return self._after_end(code)
        if self.state is State.STARTING:
            return self._check_ready()
        if self.failures and time.monotonic() - self._since > _STEADY_AFTER_S:
            self.failures = 0
        return None

    def signal_stop(self) -> None:
        if self.process is not None and self._ended() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.spec.stop_signal)

    def gone(self) -> bool:
        """Whether it has ended (or never ran); its group is ended with it."""
        if self.process is None:
            return True
        if self._ended() is None:
            return False
        self._reap()
        return True

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._reap()

    def _start(self) -> State:
        self._rotate_log()
        try:
            if self.spec.before is not None:
                self.spec.before()
            argv = self.spec.argv()
            self._mark_start(argv)
            self.process = spawn(
                argv,
                log=self.spec.log,
                env=self.spec.env,
                cwd=self.spec.cwd,
                account=self.spec.account,
                death_signal=self.spec.stop_signal,
            )
        except (OSError, RuntimeError) as error:
            return self._fail(f"could not be started: {error}")
        self.identity = ProcessIdentity.of(self.process.pid)
        self._since = time.monotonic()
        self.state = State.STARTING
        return self.state

    def _check_ready(self) -> State | None:
        waited_s = time.monotonic() - self._since
        if not self.spec.once and self._is_ready(waited_s):
            try:
                if self.spec.after is not None:
                    self.spec.after()
            except (OSError, RuntimeError) as error:
                self.kill()
                return self._fail(f"is ready, but then: {error}")
            self._since = time.monotonic()
            self.state = State.READY
            return self.state
        if waited_s > self.spec.ready_timeout_s:
            self.kill()
            return self._fail(f"was not ready after {self.spec.ready_timeout_s:.0f} s")
        return None

    def _is_ready(self, waited_s: float) -> bool:
        if self.spec.settled_after_s is not None and waited_s > self.spec.settled_after_s:
            return True
        return self.spec.ready is not None and self.spec.ready()

    def _after_end(self, code: int) -> State:
        self._reap()
        if self.spec.once and code == 0:
            self.state = State.DONE
            return self.state
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return self._fail(how)

    def _fail(self, why: str) -> State:
        self.why = why
        self.failures += 1
        # The first restart is immediate: a killed process is the common case, a broken one repeats itself.
        pause_s = 0.0 if self.failures == 1 else min(_SLOWEST_RESTART_S, 0.25 * 2.0**self.failures)
        self._not_before = time.monotonic() + pause_s
        self.state = State.WAITING
        return self.state

    def _ended(self) -> int | None:
        """The exit code (negative: signal) once it has ended. Where the system can, without reaping it."""
        assert self.process is not None
        if self.process.returncode is not None:
            return self.process.returncode
        if sys.platform == "darwin":
            return self.process.poll()
        info = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if info is None:
            return None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def _reap(self) -> None:
        """End what is left of the group while the dead leader still reserves its id, then let go of it."""
        process, self.process, self.identity = self.process, None, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _rotate_log(self) -> None:
        with contextlib.suppress(OSError):
            if self.spec.log.stat().st_size > _LONGEST_LOG:
                self.spec.log.replace(self.spec.log.with_suffix(".log.1"))

    def _mark_start(self, argv: Sequence[str]) -> None:
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a") as stream:
            stream.write(f"{START_MARK}{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}: {argv[0]} ---\n")
