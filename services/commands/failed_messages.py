"""`lianyu failed-messages`: what handlers gave up on, and a second chance for it."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.actor import SYSTEM
from core.errors import Invalid
from core.ids import MessageId
from infra import outbox
from infra.config import Settings
from infra.db.session import Database, make_engine
from services.running import services_needed


def register(app: typer.Typer) -> None:
    app.command("failed-messages")(failed_messages)


def failed_messages(
    replay: Annotated[
        bool, typer.Option(help="Publish them again; handlers that did theirs skip them.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--id", help="This message only; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """What handlers gave up on, and a second chance for it.

    Exits 0 when there are none (or all were published again), 1 otherwise.
    """
    chosen = None if not only else [_message_id(given) for given in only]
    with services_needed(Settings()) as settings:
        found, replayed = asyncio.run(_look(settings, chosen, replay=replay))
    if as_json:
        typer.echo(json.dumps({"failed": len(found), "replayed": replayed, "rows": [_row(f) for f in found]}))
    else:
        _print(found, replayed)
    raise typer.Exit(1 if found and not replay else 0)


def _message_id(given: str) -> MessageId:
    try:
        return MessageId.parse(given)
    except Invalid as refused:
        raise typer.BadParameter(str(refused), param_hint="--id") from refused


async def _look(
    settings: Settings, chosen: list[MessageId] | None, *, replay: bool
) -> tuple[list[outbox.Failure], int]:
    db = Database(make_engine(settings.app_database_url, pool_size=1))
    try:
        async with db.unit_of_work(SYSTEM) as session:
            found = await outbox.failures(session)
            if chosen is not None:
                found = [failure for failure in found if failure.message_id in chosen]
            return found, await outbox.replay(session, chosen) if replay else 0
    finally:
        await db.close()


def _row(failure: outbox.Failure) -> dict[str, str | int]:
    return {
        "message": str(failure.message_id), "event": failure.event or "(forgotten)", "handler": failure.handler,
        "error": failure.error, "attempts": failure.attempts, "failed_at": failure.failed_at.isoformat(),
    }  # fmt: skip


def _print(found: list[outbox.Failure], replayed: int) -> None:
    console = Console()
    if not found:
        console.print("No handler gave a message up.")
        return
    table = Table(
        title=f"{len(found)} given up" + (f", {replayed} messages published again" if replayed else "")
    )
    for name in _row(found[0]):
        table.add_column(name, overflow="fold")
    for failure in found:
        table.add_row(*(str(value) for value in _row(failure).values()))
    console.print(table)
