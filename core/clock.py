"""Time as a dependency: everything that waits asks a clock, so that a fortnight can pass in a second.

``SharedClock`` is a 16-byte memory-mapped file that every process of an embedded stack reads: a frozen
instant, or an offset to real time. One writer moves it; readers see the move at once, without a message.
"""

from __future__ import annotations

import mmap
import os
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

_LAYOUT = struct.Struct("<qq")  # mode, microseconds (of the instant, or of the offset)
_RUNNING, _FROZEN = 0, 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    def now(self) -> datetime:
        """The present, timezone-aware UTC, microseconds."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class FixedClock:
    """A clock for tests of pure rules: stands still until told."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def advance(self, by: timedelta) -> datetime:
        self.at += by
        return self.at


class SharedClock:
    """Reads (and, for the one driver, moves) the clock file of an embedded stack."""

    def __init__(self, path: Path) -> None:
        self._path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if os.fstat(descriptor).st_size < _LAYOUT.size:
                os.ftruncate(descriptor, _LAYOUT.size)
            self._map = mmap.mmap(descriptor, _LAYOUT.size)
        finally:
            os.close(descriptor)

    def now(self) -> datetime:
        mode, micros = _LAYOUT.unpack_from(self._map)
        at = _EPOCH + timedelta(microseconds=micros)
        return at if mode == _FROZEN else datetime.now(UTC) + (at - _EPOCH)

    @property
    def frozen(self) -> bool:
        return bool(_LAYOUT.unpack_from(self._map)[0] == _FROZEN)

    def freeze(self, at: datetime) -> None:
        """Stand still at ``at`` until told otherwise."""
        self._write(_FROZEN, at - _EPOCH)

    def run_from(self, at: datetime) -> None:
        """Run at the speed of real time, being ``at`` now."""
        self._write(_RUNNING, at - datetime.now(UTC))

    def advance(self, by: timedelta) -> datetime:
        """Jump ahead. Raises ``ValueError`` for a jump back: rows already carry later times."""
        if by < timedelta(0):
            raise ValueError("a clock never goes back")
        mode, micros = _LAYOUT.unpack_from(self._map)
        self._write(mode, timedelta(microseconds=micros) + by)
        return self.now()

    def _write(self, mode: int, span: timedelta) -> None:
        _LAYOUT.pack_into(self._map, 0, mode, span // timedelta(microseconds=1))
        self._map.flush()


def clock_from_path(path: Path | None) -> Clock:
    return SharedClock(path) if path else SystemClock()
