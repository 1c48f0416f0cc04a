"""`lianyu clock …`: the stack's virtual clock. What waits asks it, so a fortnight can pass at once."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from core.clock import SharedClock
from infra.config import Settings
from services.running import data_dir_of

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?\Z")


def duration(text: str) -> timedelta:
    """`3d`, `2h30m`, `90s`, …: days, hours, minutes, seconds in this order, at least one of them."""
    match = _DURATION.match(text)
    if not text or match is None:
        raise typer.BadParameter(f"{text!r} is no duration; write it like 3d, 2h30m or 90s")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def instant(text: str) -> datetime:
    """ISO 8601; without an offset it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no date and time; write it like 2026-11-22T09:00:00Z"
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def register(app: typer.Typer) -> None:
    clock = typer.Typer(no_args_is_help=True, help="Show and move the stack's virtual clock.")
    app.add_typer(clock, name="clock")

    @clock.command()
    def show() -> None:
        """The present, as the stack sees it."""
        _print(_clock())

    @clock.command()
    def advance(by: Annotated[str, typer.Argument(help="like 3d, 2h30m, 90s")]) -> None:
        """Jump ahead."""
        step, shared = duration(by), _clock()
        shared.advance(step)
        _print(shared)

    @clock.command()
    def freeze(
        at: Annotated[str | None, typer.Argument(help="like 2026-11-22T09:00:00Z; absent: now")] = None,
    ) -> None:
        """Stand still."""
        shared = _clock()
        shared.freeze(_not_back(shared, instant(at)) if at else shared.now())
        _print(shared)

    @clock.command()
    def run(
        at: Annotated[
            str | None, typer.Argument(help="from this instant; absent: from the present one")
        ] = None,
    ) -> None:
        """Run at the speed of real time."""
        shared = _clock()
        shared.run_from(_not_back(shared, instant(at)) if at else shared.now())
        _print(shared)


def _not_back(shared: SharedClock, at: datetime) -> datetime:
    if at < shared.now():
        raise typer.BadParameter(f"it is {shared.now():%Y-%m-%dT%H:%M:%SZ} already; a clock never goes back")
    return at


def _clock() -> SharedClock:
    settings = Settings()
    path = settings.clock_file or Path(data_dir_of(settings)) / "clock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return SharedClock(path)


def _print(shared: SharedClock) -> None:
    state = "frozen" if shared.frozen else "running"
    typer.echo(f"{shared.now():%Y-%m-%dT%H:%M:%S.%fZ} {state}")
