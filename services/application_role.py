"""The application's role on a database of yours, when only `DATABASE_URL` (the owner) is given."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import asyncpg

from infra.embedded.errors import EmbeddedServerError
from infra.embedded.postgres import APPLICATION


def application_url(owner_url: str, password: str) -> str:
    """The same server and database as `lianyu_app`; ``password`` must need no quoting."""
    parts = urlsplit(owner_url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{APPLICATION}:{password}@{address}"))


async def set_application_password(owner_url: str, password: str) -> None:
    """Let `lianyu_app` (made by the first migration) log in with ``password`` (hexadecimal)."""
    if not password.isalnum():
        raise ValueError("the password must be plain letters and digits")
    try:
        connection = await asyncpg.connect(owner_url)
        try:
            await connection.execute(f"ALTER ROLE {APPLICATION} LOGIN PASSWORD '{password}'")
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError) as error:
        raise EmbeddedServerError(
            f"the owner may not set the password of {APPLICATION} ({error}): set APP_DATABASE_URL"
        ) from error
