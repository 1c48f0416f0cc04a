"""`lianyu migrate | clean | shell`: the stack's data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from infra.config import Settings
from infra.embedded.lock import DirectoryLock
from infra.embedded.postgres import EmbeddedPostgres
from services.running import data_dir_of, services_needed
from services.stack import ROOT


def register(app: typer.Typer) -> None:
    app.command()(migrate)
    app.command()(clean)
    app.command()(shell)
    app.command(hidden=True)(check_migrations)


def migrate(revision: Annotated[str, typer.Argument()] = "head") -> None:
    """Bring the database up to ``revision`` (as the owner, `DATABASE_URL`)."""
    argv = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", revision]
    settings = Settings()
    if settings.database_url:
        raise typer.Exit(subprocess.run(argv, cwd=ROOT).returncode)
    with services_needed(settings):
        raise typer.Exit(subprocess.run(argv, cwd=ROOT).returncode)


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False,
) -> None:
    """Delete the embedded stack's data directory: database, broker, payments, logs, keys."""
    directory = data_dir_of(Settings())
    if not directory.exists():
        return
    _refuse_foreign(directory)
    lock = DirectoryLock(directory / "lock")
    if not lock.acquire():
        typer.echo(f"a stack runs in {directory}: stop it first (`lianyu down`)", err=True)
        raise typer.Exit(1)
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Delete everything in {directory}?", abort=True)
    EmbeddedPostgres(directory / "postgres").remove()
    shutil.rmtree(directory)
    typer.echo(f"removed {directory}", err=True)


def _refuse_foreign(directory: Path) -> None:
    """Never delete a directory only because a variable points at it."""
    ours = {
        "lock",
        "postgres",
        "valkey",
        "paysim",
        "log",
        "beat",
        "clock",
        "secrets.json",
        "keys.json",
        "run.json",
    }
    if not (directory / "secrets.json").exists() and any(
        entry.name not in ours for entry in directory.iterdir()
    ):
        typer.echo(f"{directory} does not look like a data directory of Lianyu; delete it yourself", err=True)
        raise typer.Exit(1)


def shell() -> None:
    """A shell whose environment leads to the stack (started when none runs): psql, python, lianyu at hand."""
    with services_needed(Settings(), broker=True):
        scripts = Path(sys.executable).parent
        path = f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        program = os.environ.get("SHELL", "/bin/sh")
        code = subprocess.run([program], env={**os.environ, "PATH": path}).returncode
    raise typer.Exit(code)


def check_migrations() -> None:
    """One head, applies to an empty database, and leaves no difference to the models. A scratch server."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    from infra.db.migrate import check, upgrade

    heads = ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_heads()
    if len(heads) != 1:
        typer.echo(f"{len(heads)} heads, must be one: {', '.join(heads)}", err=True)
        raise typer.Exit(1)
    scratch = Path(tempfile.mkdtemp(prefix="lianyu-migrations-"))
    server = EmbeddedPostgres(scratch / "postgres", settings={"fsync": "off", "shared_buffers": "128MB"})
    try:
        server.start()
        upgrade(server.url())
        check(server.url())
    except CommandError as difference:
        typer.echo(str(difference), err=True)
        raise typer.Exit(1) from difference
    finally:
        server.remove()
        shutil.rmtree(scratch, ignore_errors=True)
