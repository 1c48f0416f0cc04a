"""The statements of our own requests as pgbench scripts: what the database alone can do with the same work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

Statement = tuple[str, Sequence[Any]]


@contextmanager
def statements_of(engine: AsyncEngine) -> Iterator[list[Statement]]:
    """The statements, with their parameters, that go through the engine inside the block."""
    seen: list[Statement] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        seen.append((statement, tuple(parameters)))

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)


def scripts(directory: Path, name: str, requests: Sequence[Sequence[Statement]]) -> list[str]:
    """Arguments for pgbench: one script per recorded reading transaction, drawn at random, all prepared."""
    arguments: list[str] = []
    for number, statements in enumerate(requests):
        lines = ["BEGIN;"]
        for at, (statement, parameters) in enumerate(statements):
            text = " ".join(statement.split())
            # From the last, so that $1 is not found in $12.
            for index in range(len(parameters), 0, -1):
                literal = _literal(parameters[index - 1])
                variable = f"r{number}s{at}p{index}"
                if literal:
                    arguments += ["-D", f"{variable}={literal}"]
                # pgbench knows no empty and no absent values.
                empty = "NULL" if literal is None else "''"
                text = text.replace(f"${index}", f":{variable}" if literal else empty)
            lines.append(f"{text};")
        path = directory / f"{name}-{number}.sql"
        path.write_text("\n".join([*lines, "ROLLBACK;"]))
        arguments += ["-f", str(path)]
    return arguments


def _literal(value: Any) -> str | None:
    """A parameter in PostgreSQL's text form."""
    match value:
        case None:
            return None
        case bool():
            return "t" if value else "f"
        case UUID():
            return value.hex  # our ids show themselves otherwise
        case datetime():
            return value.isoformat()
        case bytes():
            return f"\\x{value.hex()}"
        case list() | tuple():
            return "{" + ",".join(_quoted(_literal(each)) for each in value) + "}"
        case _:
            return str(value)


def _quoted(literal: str | None) -> str:
    if literal is None:
        return "NULL"
    return '"' + literal.replace("\\", "\\\\").replace('"', '\\"') + '"'
