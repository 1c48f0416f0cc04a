"""Runs a file of SQL statements inside a migration (asyncpg takes one statement at a time)."""

from __future__ import annotations

import re
from pathlib import Path

from alembic import op

_SQL = Path(__file__).parent / "sql"
_DOLLAR = re.compile(r"\$[a-z_]*\$", re.IGNORECASE)


def run_sql(name: str) -> None:
    for statement in split((_SQL / name).read_text(encoding="utf-8")):
        op.get_bind().exec_driver_sql(statement)


def split(script: str) -> list[str]:
    """Cut at the semicolons that end a line, except inside a dollar-quoted body."""
    statements, current, quote = [], [], ""
    for line in script.splitlines():
        if not quote and line.lstrip().startswith("--"):
            continue
        for mark in _DOLLAR.findall(line):
            if not quote:
                quote = mark
            elif mark == quote:
                quote = ""
        current.append(line)
        if not quote and line.rstrip().endswith(";"):
            statements.append("\n".join(current).strip())
            current = []
    if "".join(current).strip():
        statements.append("\n".join(current).strip())
    return statements
