"""One event loop per worker process, kept between tasks so that connections are kept too."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
_runner: asyncio.Runner | None = None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` on this process's loop. Never call it before a prefork: the loop is the child's."""
    global _runner
    if _runner is None:
        _runner = asyncio.Runner()
    # A runner keeps the context of its first task for ever: without this one the request id of that task.
    return _runner.run(work, context=contextvars.copy_context())


def close() -> None:
    global _runner
    if _runner is not None:
        _runner.close()
        _runner = None
