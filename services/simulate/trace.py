"""What happened, one line per step: the last lines for whoever looks, the hash for whoever compares two runs."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import zip_longest
from typing import Any

KEPT = 30
_ID = re.compile(r"([a-z]{2,3})_[0-9A-Za-z]{20,}\Z")


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


class Names:
    """Ids as a trace says them: the name somebody gave, else the kind and a number by first sight (``re 4``)."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def give(self, id: object, name: str) -> None:
        self._known[str(id)] = name

    def of(self, id: object) -> str:
        text = str(id)
        if text not in self._known:
            found = _ID.match(text)
            kind = found[1] if found else "?"
            self._counts[kind] += 1
            self._known[text] = f"{kind} {self._counts[kind]}"
        return self._known[text]

    def within(self, body: Any) -> str:
        """Everything a message's body names, in its order."""
        return ", ".join(self.of(id) for id in _ids(body))


def _ids(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if _ID.match(value):
            yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _ids(each)
    elif isinstance(value, list):
        for each in value:
            yield from _ids(each)


def first_difference(one: Sequence[str], other: Sequence[str], *, before: int = 8) -> str:
    """Where two traces part, with the steps that led there; empty when they never do."""
    for place, (left, right) in enumerate(zip_longest(one, other, fillvalue="(over)")):
        if left != right:
            common = one[max(0, place - before) : place]
            return "\n".join((*common, f"one:   {left}", f"other: {right}"))
    return ""
