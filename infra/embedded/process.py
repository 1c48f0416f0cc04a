"""Operating-system processes: start, recognise again, end. Nothing here knows what a process is for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Account:
    """The unprivileged user a server is started as when we are root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A pid and the second it started: together they name one process for ever, a pid alone does not."""

    pid: int
    started_at: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def alive(self) -> bool:
        """Whether this very process still runs. A zombie does not: it holds nothing any more."""
        try:
            process = psutil.Process(self.pid)
            return self._is(process.create_time()) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def given_away(self) -> bool:
        """Whether the pid names another process by now."""
        now = ProcessIdentity.of(self.pid)
        return now is not None and not self._is(now.started_at)

    def _is(self, started_at: float) -> bool:
        return abs(started_at - self.started_at) < 0.05


def accepts_tcp(port: int, *, timeout_s: float = 0.5) -> bool:
    """Whether something accepts connections on 127.0.0.1:``port``."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=timeout_s):
        return True
    return False


def spawn(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | str = "/",
    account: Account | None = None,
    death_signal: int = signal.SIGTERM,
) -> subprocess.Popen[bytes]:
    """Start ``argv`` in its own session, output appended to ``log`` (mode 0600), as ``account`` when given.

    On Linux the kernel sends ``death_signal`` when the starting thread ends, so that a starter killed
    with SIGKILL leaves nothing behind. Other threads than the main one may end early: there it is left out.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=str(cwd),
            start_new_session=True,
            preexec_fn=die_with_parent(death_signal),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    finally:
        os.close(descriptor)


def die_with_parent(death_signal: int) -> Callable[[], None] | None:
    """A ``preexec_fn``: the kernel sends ``death_signal`` when the calling thread ends. None but on Linux."""
    if _LIBC is None or threading.current_thread() is not threading.main_thread():
        return None
    parent = os.getpid()

    def arm() -> None:
        # Runs after setuid, which would have cleared the setting.
        assert _LIBC is not None
        _LIBC.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the line above
            os._exit(1)

    return arm


def end_identities(
    identities: Sequence[ProcessIdentity], *, polite: int = signal.SIGTERM, timeout_s: float
) -> None:
    """End processes that are not our children; each is checked to be the recorded one before every signal."""
    for signal_number, patience_s in ((polite, timeout_s), (int(signal.SIGKILL), 5.0)):
        for identity in identities:
            if identity.alive():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(identity.pid, signal_number)
        wait_until(lambda: not any(i.alive() for i in identities), timeout_s=patience_s)


def processes_in(directory: Path, program: str) -> list[ProcessIdentity]:
    """Live processes called ``program``… whose working directory is ``directory``: servers stay in theirs.

    Finds what no pid file or parent leads to any more, such as the backends of a killed postmaster. Processes
    we may not look into belong to somebody else and are left out.
    """
    wanted = str(directory.resolve())
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name().startswith(program) and process.cwd() == wanted:
                found.append(ProcessIdentity(process.pid, process.create_time()))
    return [identity for identity in found if identity.alive()]


def wait_until(condition: Callable[[], bool], *, timeout_s: float, interval_s: float = 0.02) -> bool:
    """Poll ``condition`` until it holds or ``timeout_s`` have passed; the last answer."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval_s)
    return True


def last_lines(log: Path, count: int = 20) -> str:
    """The end of a log file, at most 64 KiB of it, for a failure message; empty when there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 65_536))
            tail = stream.read()
    except OSError:
        return ""
    return "\n".join(tail.decode("utf-8", "replace").splitlines()[-count:])
