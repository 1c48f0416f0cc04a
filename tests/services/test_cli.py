"""`lianyu`: which module holds which command, and what starting one costs."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from services import commands
from services.cli import build

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("sqlalchemy", "strawberry", "stripe", "celery", "marketplace.promotion", "supply.settlement")


def names_of(app: typer.Typer) -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(commands.MODULE_OF))
def test_a_command_is_found_in_its_module(name: str) -> None:
    module = commands.MODULE_OF[name]
    together = {other for other, held in commands.MODULE_OF.items() if held == module}
    assert names_of(build(name)) == together


def test_every_module_is_in_the_table_and_help_shows_them_all() -> None:
    assert set(commands.MODULE_OF.values()) == {
        found.name for found in pkgutil.iter_modules(commands.__path__)
    }
    assert names_of(build()) == names_of(build("no such command")) == set(commands.MODULE_OF)


@pytest.mark.parametrize("name", ["status", "down", "clean", "clock", "up"])
def test_a_small_command_imports_little(name: str) -> None:
    code = f"import sys; from services.cli import build; build({name!r}); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(ran.stdout.split())
