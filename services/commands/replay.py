"""`lianyu replay olist PATH`: recorded orders of a real marketplace through the domain services."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import LianyuError
from core.money import Money

if TYPE_CHECKING:
    from infra.config import Settings
    from services.replay.files import Source
    from services.replay.report import Report

_SETTLEMENT_FILE = "olist-settlement.csv"


def register(app: typer.Typer) -> None:
    replay = typer.Typer(no_args_is_help=True, help="Recorded orders through the domain services.")
    app.add_typer(replay, name="replay")
    # A group with one command would swallow its name.
    replay.callback()(lambda: None)
    replay.command()(olist)


def olist(
    path: Annotated[Path, typer.Argument(help="The directory of the Olist dataset")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report here")] = None,
    settlement_csv: Annotated[
        Path | None, typer.Option(help="Settlement by seller and month; default: beside the JSON")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N orders")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier replay first")] = False,
) -> None:
    """Replay the Olist orders on a virtual clock, in a database of their own, and report what came of them.

    A replay that was interrupted goes on where it was. With DATABASE_URL set, that database is used.
    """
    from rich.console import Console

    from services.replay.files import read_source
    from services.replay.report import write_settlement

    console = Console(stderr=True, highlight=False)
    began = time.monotonic()
    try:
        source = read_source(path, limit=limit)
        report = _replayed(source, console, fresh=fresh, reading_s=time.monotonic() - began)
    except LianyuError as error:
        console.print(f"[red]{error.code}[/red] {error.message}", highlight=False)
        raise typer.Exit(1) from error
    if settlement_csv is None and json_file is not None:
        settlement_csv = json_file.parent / _SETTLEMENT_FILE
    if settlement_csv is not None:
        write_settlement(settlement_csv, report.settlement)
    if json_file is not None:
        json_file.write_text(json.dumps(report.body, indent=2) + "\n", encoding="utf-8")
    Console(highlight=False).print(_readable(report.body))
    if report.body["ledger"]["sum_minor"] or report.body["ledger"]["unbalanced"]:
        raise typer.Exit(1)


def _replayed(source: Source, console: Any, *, fresh: bool, reading_s: float) -> Report:
    import uvloop
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from services.running import services_needed

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with services_needed(_own_settings(fresh=fresh)) as settings, Progress(*columns, console=console) as bar:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)

        # The duration is of reading and replaying, not of starting a database server.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(source, settings, tell, time.monotonic() - reading_s))


async def _run(source: Source, settings: Settings, tell: Any, began: float) -> Report:
    from core.actor import SYSTEM
    from services.replay.report import report_of
    from services.replay.run import Replay
    from services.wiring import make_database

    db = make_database(settings)
    try:
        secret = settings.secret_key.get_secret_value()
        replay = Replay(db, source, secret=secret, tell=tell, began=began, owner_url=settings.database_url)
        await replay.run()
        async with db.reading(SYSTEM) as session:
            return await report_of(session)
    finally:
        await db.close()


def _own_settings(*, fresh: bool) -> Settings:
    """Settings with a data directory of the replay's own, unless a database is given."""
    import shutil

    from infra.config import Settings
    from infra.embedded.postgres import EmbeddedPostgres
    from services.running import data_dir_of

    settings = Settings()
    if settings.database_url or settings.app_database_url:
        if fresh:
            raise typer.BadParameter("--fresh is for the replay's own database, not for DATABASE_URL")
        return settings
    directory = data_dir_of(settings) / "replay"
    if fresh and directory.exists():
        EmbeddedPostgres(directory / "postgres").remove()
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    return settings.model_copy(update={"data_dir": directory})


def _readable(body: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table("what", "count", title="Olist replay", title_justify="left")
    for name, value in body.items():
        if isinstance(value, dict):
            for key, each in value.items():
                table.add_row(f"{name}.{key}", _shown(key, each))
        else:
            table.add_row(name, _shown(name, value))
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _shown(name: str, value: int) -> str:
    from services.replay.files import CURRENCY

    return str(Money(value, CURRENCY)) if name.endswith("_minor") else f"{value:,}"
