"""O1 on the sharing rail, as the executing and the refunding tests use it."""

from __future__ import annotations

from tests.factories.shared_order import o1, rail

__all__ = ["o1", "rail"]
