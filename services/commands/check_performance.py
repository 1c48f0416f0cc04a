"""`lianyu check-performance`: recount what links brought from clicks and commission lines; 0 differences is healthy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from core.actor import SYSTEM
from infra.config import Settings
from infra.db.session import Database, make_engine
from marketplace.insights import counting
from marketplace.insights.counting import Difference
from services.running import services_needed

_AT_ONCE = timedelta(days=7)
"""Days of one transaction: the counter waits for its end."""


def register(app: typer.Typer) -> None:
    app.command("check-performance")(check_performance)


def check_performance(
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day, UTC.")] = None,
    rebuild: Annotated[bool, typer.Option(help="Write the days again from the raw rows.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One object on stdout.")] = False,
) -> None:
    """Recount what links brought from clicks and commission lines.

    Exits 0 when every day agrees with the raw rows (or was written again), 1 otherwise.
    """
    with services_needed(Settings()) as settings:
        days = (since.date() if since else None, until.date() if until else None)
        found = asyncio.run(_check(settings, *days, rebuild=rebuild))
    if as_json:
        rows = [{"link_id": str(d.link_id), "day": d.day.isoformat(), "currency": d.currency} for d in found]
        typer.echo(json.dumps({"differences": len(found), "rebuilt": rebuild, "rows": rows}))
    else:
        _print(found, rebuilt=rebuild)
    raise typer.Exit(1 if found and not rebuild else 0)


async def _check(
    settings: Settings, since: date | None, until: date | None, *, rebuild: bool
) -> list[Difference]:
    db = Database(make_engine(settings.app_database_url, pool_size=1))
    try:
        async with db.unit_of_work(SYSTEM) as session:
            await counting.catch_up(session)
            span = await counting.counted_days(session)
        if span is None:
            return []
        found = []
        for start, end in _weeks(since or span[0], until or span[1]):
            async with db.unit_of_work(SYSTEM) as session:
                found += await counting.differences(session, since=start, until=end)
                if rebuild:
                    await counting.rebuild(session, since=start, until=end)
        return found
    finally:
        await db.close()


def _weeks(first: date, last: date) -> Iterator[tuple[date, date]]:
    while first <= last:
        end = min(first + _AT_ONCE, last + timedelta(days=1))
        yield first, end
        first = end


def _print(found: list[Difference], *, rebuilt: bool) -> None:
    console = Console()
    if not found:
        console.print("Every day of every link agrees with its clicks and its commission lines.")
        return
    console.print(f"{len(found)} rows differ" + (", written again" if rebuilt else ""))
    for each in found[:20]:
        console.print(f"  {each.day} {each.link_id} {each.currency}")
