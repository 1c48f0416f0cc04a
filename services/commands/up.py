"""`lianyu up | down | status | seed`: the stack as a whole."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from infra.config import Settings
from infra.embedded.errors import DataDirInUse, EmbeddedServerError, ServerFailedToStart
from infra.embedded.process import wait_until
from infra.embedded.supervisor import Happening, Stopped, Supervisor, Tell, running_record
from services.running import data_dir_of, shown, wait_for_running
from services.stack import EVERYTHING, USUAL_PORT, Ports, Stack, describe

DataDir = Annotated[Path | None, typer.Option(help="Where the stack keeps everything; default .lianyu")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; all else on stderr")]

_DEMO_MARKET = "services.demo.seed"
_FIRST_QUERY = "{ products(first: 3) { edges { node { title } } } }"


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(down)
    app.command()(status)
    app.command(hidden=True)(seed)


def up(
    as_json: AsJson = False,
    data_dir: DataDir = None,
    port_base: Annotated[int, typer.Option(help="API here, edge +1, fulfilment +2, paysim +3")] = USUAL_PORT,
    with_seed: Annotated[bool, typer.Option("--seed/--no-seed", help="Fill an empty market once")] = True,
    only: Annotated[str, typer.Option(help="Comma-separated parts instead of all", hidden=True)] = "",
    quiet: Annotated[bool, typer.Option(help="Say nothing but failures")] = False,
) -> None:
    """Start everything and stay in the foreground; Ctrl-C stops it. A second `up` says what runs."""
    settings = Settings()
    directory = data_dir.resolve() if data_dir else data_dir_of(settings)
    parts = frozenset(only.split(",")) - {"none"} if only else EVERYTHING
    if unknown := parts - EVERYTHING:
        raise typer.BadParameter(f"no such part: {', '.join(sorted(unknown))}")
    console = Console(stderr=True, highlight=False)
    present = announce_json if as_json else _announcer(console, quiet)
    try:
        while not _run(
            settings,
            directory,
            parts=parts,
            port_base=port_base,
            with_seed=with_seed and not only,
            console=console,
            quiet=quiet,
            present=present,
        ):
            record = wait_for_running(directory, parts)
            if record is not None:
                if not as_json:
                    console.print(f"Lianyu runs already, as process {record.supervisor.pid}.")
                present(shown(record))
                return
    except Stopped:
        console.print("Stopped before it was ready.")
        raise typer.Exit(130) from None
    except ServerFailedToStart as failure:
        console.print(f"[bold red]{failure.name}[/] {escape(failure.reason)}.", soft_wrap=True)
        console.print(failure.tail or "(its log is empty)", markup=False, soft_wrap=True)
        console.print(f"Its log: {failure.log}", markup=False, soft_wrap=True)
        raise typer.Exit(1) from failure
    except (EmbeddedServerError, PermissionError) as failure:
        console.print(f"[bold red]failed[/]: {escape(str(failure))}", soft_wrap=True)
        raise typer.Exit(1) from failure


def _run(
    settings: Settings,
    directory: Path,
    *,
    parts: frozenset[str],
    port_base: int,
    with_seed: bool,
    console: Console,
    quiet: bool,
    present: Callable[[dict[str, Any]], None],
) -> bool:
    """Start, announce, watch until told to stop. False when another process owns the directory."""
    started = time.monotonic()
    try:
        with Supervisor(directory, tell=_narrator(console, quiet)) as supervisor:
            stack = Stack(settings, directory, ports=Ports.choose(port_base), parts=parts)
            try:
                supervisor.start(stack.servers())
                supervisor.start(stack.migrations())
                stack.admit_application()
                supervisor.start(stack.applications())
                if with_seed:
                    _seed_market(supervisor, stack, console)
                facts = describe(stack, keys=_keys(stack), pids=supervisor.pids)
                supervisor.announce({**facts, "environment": stack.environment(), "parts": sorted(parts)})
                if not quiet:
                    console.print(f"Ready after {time.monotonic() - started:.1f} s.")
                present(facts)
                supervisor.watch()
            finally:
                supervisor.stop()
                stack.close()
    except DataDirInUse:
        return False
    return True


def _seed_market(supervisor: Supervisor, stack: Stack, console: Console) -> None:
    if not _has_demo_market():
        console.print("  no demo market in this installation: starting empty")
        return
    supervisor.start(stack.demo_market())


def _has_demo_market() -> bool:
    try:
        return importlib.util.find_spec(_DEMO_MARKET) is not None
    except ModuleNotFoundError:
        return False


def _keys(stack: Stack) -> dict[str, str]:
    try:
        return {str(name): str(key) for name, key in json.loads(stack.keys_file.read_text()).items()}
    except FileNotFoundError:
        return {}


def down(data_dir: DataDir = None) -> None:
    """Stop the running stack."""
    directory = data_dir.resolve() if data_dir else data_dir_of(Settings())
    record = running_record(directory)
    if record is None:
        typer.echo(f"nothing runs in {directory}", err=True)
        return
    os.kill(record.supervisor.pid, signal.SIGTERM)
    if not wait_until(lambda: not record.supervisor.alive(), timeout_s=60, interval_s=0.1):
        typer.echo(f"process {record.supervisor.pid} still stops", err=True)
        raise typer.Exit(1)
    typer.echo("stopped", err=True)


def status(as_json: AsJson = False, data_dir: DataDir = None) -> None:
    """What runs: addresses, keys and process ids. Exit code 3 when nothing does."""
    directory = data_dir.resolve() if data_dir else data_dir_of(Settings())
    record = running_record(directory)
    if record is None or not record.ready:
        typer.echo(f"{'starting' if record else 'nothing runs'} in {directory}", err=True)
        raise typer.Exit(3)
    if as_json:
        announce_json(shown(record))
        return
    _announcer(Console(highlight=False), quiet=False)(shown(record))


def seed(keys_file: Annotated[Path, typer.Option()]) -> None:
    """Fill an empty market once and write its keys (0600)."""
    keys: dict[str, str] = importlib.import_module(_DEMO_MARKET).ensure_seeded(Settings())
    temporary = keys_file.with_suffix(".new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(keys))
    temporary.replace(keys_file)


def announce_json(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def _announcer(console: Console, quiet: bool) -> Callable[[dict[str, Any]], None]:
    def announce(facts: dict[str, Any]) -> None:
        if quiet:
            return
        for kind in ("urls", "keys"):
            console.print(f"[bold]{kind}[/]")
            for name, value in facts[kind].items():
                console.print(f"  {name:<12} {value}", markup=False, soft_wrap=True)
        console.print(f"[bold]data[/]         {facts['data_dir']}", soft_wrap=True)
        if storefront := facts["keys"].get("storefront"):
            body = json.dumps({"query": _FIRST_QUERY})
            console.print("[bold]try[/]")
            console.print(
                f"  curl -s {facts['urls']['storefront']} -H 'content-type: application/json'"
                f" -H 'x-storefront-key: {storefront}' -d {shlex.quote(body)}",
                markup=False,
                soft_wrap=True,
            )

    return announce


def _narrator(console: Console, quiet: bool) -> Tell:
    """Progress, one line per event, on stderr."""
    since: dict[str, float] = {}

    def tell(happening: Happening, name: str, detail: str) -> None:
        if happening is Happening.STARTING:
            since[name] = time.monotonic()
        elif happening is Happening.READY and not quiet:
            console.print(f"  [green]✓[/] {name} [dim]{time.monotonic() - since.get(name, 0.0):.1f} s[/]")
        elif happening is Happening.DIED:
            console.print(f"  [red]✗[/] {name} {escape(detail)}; starting it again", soft_wrap=True)
        elif happening is Happening.LEFTOVER or (happening is Happening.STOPPED and detail):
            console.print(f"  [yellow]![/] {name}: {escape(detail)}", soft_wrap=True)
        elif happening is Happening.STOPPED and not quiet:
            console.print(f"  [dim]· {name} stopped[/]")

    return tell
