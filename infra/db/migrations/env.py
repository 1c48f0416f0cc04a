"""Alembic's entry: the owner's connection, one transaction per migration, and a lock against two at once."""

from __future__ import annotations

import asyncio
import importlib
import os
from typing import Any

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from infra.db.base import metadata
from infra.db.session import async_url

_ONE_AT_A_TIME = 0x11A9_0001


def _compares() -> bool:
    """Whether this command holds the models against the database; an upgrade needs none of them."""
    command = getattr(getattr(context.config.cmd_opts, "cmd", [None])[0], "__name__", "")
    return bool(context.config.attributes.get("compare")) or command in {"check", "revision"}


if _compares():
    for name in (context.config.get_main_option("models") or "").split():
        importlib.import_module(name)


def _compared(obj: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Partitions belong to their parent table, which is compared."""
    return not (kind == "table" and reflected and compare_to is None and name and "_p20" in name)


def _run(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ONE_AT_A_TIME})
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=_compared,
        compare_type=True,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    try:
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ONE_AT_A_TIME})
        connection.commit()


async def _upgrade() -> None:
    url = context.config.attributes.get("url") or os.environ["DATABASE_URL"]
    engine = create_async_engine(async_url(url), poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_upgrade())
