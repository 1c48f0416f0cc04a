"""One event loop per worker process, kept between tasks so that connections are kept too."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_runner: asyncio.Runner | None = None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` on this process's loop. Never call it before a prefork: the loop is the child's."""
    global _runner
    if _runner is None:
        _runner = asyncio.Runner()
    return _runner.run(work)


def close() -> None:
    global _runner
    if _runner is not None:
        _runner.close()
        _runner = None
