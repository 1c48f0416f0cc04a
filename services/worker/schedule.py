"""What is swept, and how often in real seconds. Sweeps ask the clock what is due: a virtual clock drives them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Sweep = Callable[..., Awaitable[int]]

_TABLE: dict[str, tuple[Sweep, float]] = {}

SWEEPS: dict[str, Sweep] = {name: sweep for name, (sweep, _) in _TABLE.items()}
INTERVALS_S: dict[str, float] = {name: every for name, (_, every) in _TABLE.items()}

__all__ = ["INTERVALS_S", "SWEEPS", "Any"]
