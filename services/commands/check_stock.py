"""`lianyu check-stock`: recompute every stock level from its ledgers; 0 differences is healthy."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.actor import SYSTEM
from infra.config import Settings
from infra.db.session import Database, make_engine
from services.running import services_needed
from supply.inventory import service as inventory
from supply.inventory.service import Drift


def register(app: typer.Typer) -> None:
    app.command("check-stock")(check_stock)


def check_stock(
    repair: Annotated[bool, typer.Option(help="Set differing levels to what the ledgers say.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Recompute every stock level from its ledgers.

    Exits 0 when every level agrees with its ledgers (or was repaired), 1 otherwise.
    """
    with services_needed(Settings()) as settings:
        found = asyncio.run(_check(settings, repair=repair))
    if as_json:
        typer.echo(
            json.dumps({"differences": len(found), "repaired": repair, "rows": [_row(d) for d in found]})
        )
    else:
        _print(found, repaired=repair)
    raise typer.Exit(1 if found and not repair else 0)


async def _check(settings: Settings, *, repair: bool) -> list[Drift]:
    db = Database(make_engine(settings.app_database_url, pool_size=1))
    try:
        async with db.unit_of_work(SYSTEM) as session:
            found = await inventory.drifts(session)
            if repair:
                await inventory.repair(session, found)
        return found
    finally:
        await db.close()


def _row(drift: Drift) -> dict[str, str | int]:
    return {
        "location_id": str(drift.location_id), "variant_id": str(drift.variant_id), "on_hand": drift.on_hand,
        "ledger_on_hand": drift.shelf, "reserved": drift.reserved, "ledger_reserved": drift.promised,
        "open_reservations": drift.open,
    }  # fmt: skip


def _print(found: list[Drift], *, repaired: bool) -> None:
    console = Console()
    if not found:
        console.print("Every stock level agrees with its ledgers.")
        return
    table = Table(title=f"{len(found)} differences" + (", repaired" if repaired else ""))
    for name in _row(found[0]):
        table.add_column(name)
    for drift in found:
        table.add_row(*(str(value) for value in _row(drift).values()))
    console.print(table)
