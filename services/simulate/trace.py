"""What happened, one line per step: the last lines for whoever looks, the hash for whoever compares two runs."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from datetime import datetime

KEPT = 30


class Trace:
    """Lines name things by number (``order 17``), never by id: the same seed gives the same lines.

    ``listen`` hears every line as it is written.
    """

    def __init__(self, listen: Callable[[str], object] = len) -> None:
        self._listen = listen
        self._hash = hashlib.sha256()
        self._last: deque[str] = deque(maxlen=KEPT)
        self.lines = 0

    def note(self, step: int, at: datetime, what: str) -> None:
        line = f"{step:6d} {at:%m-%d %H:%M:%S} {what}"
        self._hash.update(line.encode() + b"\n")
        self._last.append(line)
        self._listen(line)
        self.lines += 1

    @property
    def last(self) -> list[str]:
        return list(self._last)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()
