"""What a supervisor leaves on disk: others find it by that, and the next one cleans up after it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped, unused-ignore]

from infra.embedded.process import ProcessIdentity, end_identities


@dataclass(slots=True)
class RunRecord:
    """`run.json` (0600: ``facts`` may hold keys). ``facts`` is whatever the stack tells those who find it."""

    supervisor: ProcessIdentity
    ready: bool = False
    children: dict[str, ProcessIdentity] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(asdict(self), stream, indent=2)
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> RunRecord | None:
        """None when there is none, or one we cannot read: then there is nothing we may touch."""
        try:
            raw = json.loads(path.read_text())
            return cls(
                supervisor=ProcessIdentity(**raw["supervisor"]),
                ready=bool(raw["ready"]),
                children={name: ProcessIdentity(**it) for name, it in raw["children"].items()},
                facts=raw["facts"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def end_leftovers(record: RunRecord, *, timeout_s: float = 5.0) -> list[str]:
    """End the processes of a supervisor that was killed; their names.

    A process is ours when pid and start time are those recorded, or when it belongs to the session of a
    recorded leader that is gone or a zombie (the session's id cannot be given away while it has members).
    """
    found: dict[str, list[ProcessIdentity]] = {}
    for name, leader in record.children.items():
        if not leader.given_away():
            found[name] = _session(leader)
    alive = {name: members for name, members in found.items() if members}
    everything = [identity for members in alive.values() for identity in members]
    end_identities(everything, polite=signal.SIGTERM, timeout_s=timeout_s)
    return sorted(alive)


def _session(leader: ProcessIdentity) -> list[ProcessIdentity]:
    members = []
    for pid in psutil.pids():
        try:
            if os.getsid(pid) != leader.pid:
                continue
        except (ProcessLookupError, PermissionError):
            continue
        identity = ProcessIdentity.of(pid)
        if identity is not None and identity.alive():
            members.append(identity)
    return members
