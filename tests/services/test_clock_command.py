"""`lianyu clock`: what it reads, and that it never goes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from core.clock import SharedClock
from services.cli import build
from services.commands.clock import duration, instant


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("2h30m", 9_000), ("3d", 259_200), ("1d1h1m1s", 90_061), ("0s", 0)]
)
def test_durations_are_days_hours_minutes_and_seconds(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "3", "-3d", "3 d", "1s1d", "soon"])
def test_anything_else_is_no_duration(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)


def test_an_instant_without_an_offset_is_utc() -> None:
    assert instant("2026-11-22T09:00:00") == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert instant("2026-11-22T17:00:00+08:00") == datetime(2026, 11, 22, 9, tzinfo=UTC)


def test_the_clock_freezes_advances_and_refuses_to_go_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIANYU_CLOCK_FILE", str(tmp_path / "clock"))
    run = CliRunner().invoke
    lianyu = build()

    assert run(lianyu, ["clock", "freeze", "2099-01-01T00:00:00Z"]).exit_code == 0
    advanced = run(lianyu, ["clock", "advance", "1d12h"])
    back = run(lianyu, ["clock", "freeze", "2098-01-01T00:00:00Z"])

    assert advanced.stdout == "2099-01-02T12:00:00.000000Z frozen\n"
    assert back.exit_code == 2
    assert SharedClock(tmp_path / "clock").now() == datetime(2099, 1, 2, 12, tzinfo=UTC)
