"""Where clicks wait on disk while the database is away. A click is in here only once it is on the disk.

One file per process and outage, one JSON array per line; its writer holds a lock on it, so that a file whose
lock is free belongs to nobody alive and can be replayed by anyone.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import orjson

from core.canonical import from_micros, to_micros
from core.ids import AgreementId, BrandId, ContactId, LinkId, TouchId
from marketplace.promotion.facts import TouchKind
from marketplace.promotion.touches.clicks import Click


class Spool:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO | None = None

    def append(self, clicks: Sequence[Click]) -> None:
        """On the disk when it returns. Blocks for the time of one ``fsync``."""
        if self._file is None:
            self._file = self._new_file()
        lines = b"".join(orjson.dumps(_packed(click)) + b"\n" for click in clicks)
        self._file.write(lines)
        self._file.flush()
        os.fsync(self._file.fileno())

    def rotate(self) -> None:
        """Close the file in use, so that it can be replayed."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def waiting(self) -> list[Path]:
        """Files to replay, oldest first; those another process still writes are left out when claimed."""
        return sorted(self.directory.glob("clicks-*.jsonl"), key=lambda path: path.stat().st_mtime)

    def _new_file(self) -> BinaryIO:
        path = self.directory / f"clicks-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        file = path.open("ab")
        fcntl.flock(file, fcntl.LOCK_EX)
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return file


class Claimed:
    """One spool file, locked against other replayers while it is replayed."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self._file = path, file

    @classmethod
    def claim(cls, path: Path) -> Claimed | None:
        """``None`` when it is gone or somebody holds it."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return cls(path, file)

    def clicks(self) -> list[Click]:
        """A last line that was cut short by a crash was never acknowledged and is passed over."""
        found = []
        for line in self._file.read().split(b"\n"):
            if line:
                try:
                    found.append(_unpacked(orjson.loads(line)))
                except (orjson.JSONDecodeError, ValueError, TypeError):
                    continue
        return found

    def release(self, *, done: bool) -> None:
        """``done``: every click of it is in the database, the file may go."""
        if done:
            self.path.unlink(missing_ok=True)
        self._file.close()


def _packed(click: Click) -> list[Any]:
    return [
        value.hex if isinstance(value, UUID)
        else value.hex() if isinstance(value, bytes)
        else to_micros(value) if isinstance(value, datetime)
        else value
        for value in click
    ]  # fmt: skip


def _unpacked(row: Sequence[Any]) -> Click:
    def optional(kind: Any, value: str | None) -> Any:
        return None if value is None else kind(value)

    return Click(
        TouchId(row[0]),
        LinkId(row[1]),
        optional(AgreementId, row[2]),
        BrandId(row[3]),
        BrandId(row[4]),
        from_micros(row[5]),
        TouchKind(row[6]),
        optional(bytes.fromhex, row[7]),
        optional(ContactId, row[8]),
        row[9],
        optional(TouchId, row[10]),
        optional(bytes.fromhex, row[11]),
        optional(bytes.fromhex, row[12]),
        row[13],
        *row[14:],
    )
