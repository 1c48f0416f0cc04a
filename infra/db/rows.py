"""Many rows in one statement: a tenth of the work of sending them one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Table, TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession


async def insert_rows(session: AsyncSession, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows that all name the same columns; the others get NULL or their default. Any number, also none."""
    if rows:
        statement = _insert(table.name, tuple(rows[0]))
        await session.execute(statement, {"rows": orjson.dumps(rows, default=_plain).decode()})


@cache
def _insert(table: str, columns: tuple[str, ...]) -> TextClause:
    named = ", ".join(columns)
    return text(
        f"INSERT INTO {table} ({named}) SELECT {named}"
        f" FROM jsonb_populate_recordset(CAST(NULL AS {table}), CAST(:rows AS jsonb))"
    )


def _plain(value: Any) -> str:
    if isinstance(value, UUID):
        return value.hex
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    raise TypeError(f"{type(value).__name__} has no form in JSON")
