"""What the seeding has done so far and what it was given for it: tokens, ids, codes. Survives a kill."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

FILE = "market.json"


class Notebook:
    """A small JSON file (0600: it holds tokens), written whole at each note.

    Keys are ``kind:name``, e.g. ``token:huajian`` or ``variant:HJ-000-1``.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._notes: dict[str, Any] = {}
        if path.exists():
            self._notes = json.loads(path.read_text())

    def __contains__(self, key: str) -> bool:
        return key in self._notes

    def __getitem__(self, key: str) -> Any:
        return self._notes[key]

    def get(self, key: str) -> Any:
        return self._notes.get(key)

    def update(self, notes: dict[str, Any]) -> None:
        self._notes.update(notes)
        new = self._path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(self._notes, stream, ensure_ascii=False, indent=0)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(self._path)
