"""Transactions that were in each other's way: PostgreSQL ended one of them, which changed nothing."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

_SQLSTATES = frozenset({"40001", "40P01", "55P03"})  # serialization, deadlock, lock not available
TRY_AGAIN = "too many at once; try again"


def lost_a_race(error: BaseException | None) -> bool:
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", None) in _SQLSTATES
