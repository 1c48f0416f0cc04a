from __future__ import annotations

from core.errors import Conflict, NotFound


class RebuildRunning(Conflict):
    code = "REBUILD_RUNNING"


class NoSuchGeneration(NotFound):
    code = "NO_SUCH_GENERATION"
