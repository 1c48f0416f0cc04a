"""`lianyu demo`: a virtual fortnight of trade on a stack of its own, and a report that adds up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from infra.embedded.errors import EmbeddedServerError

Seed = Annotated[int, typer.Option(help="Of the market and of what happens in it.")]
Orders = Annotated[int, typer.Option(min=1, help="At least so many paid orders.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write every number there.")]
ChaosOption = Annotated[bool, typer.Option("--chaos", help="kill -9 five processes in the middle of it.")]
Keep = Annotated[Path | None, typer.Option(help="Keep the stack's data there instead of removing it.")]
_WIDTH = 132


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    seed: Seed = 20261122,
    orders: Orders = 320,
    json_file: Json = None,
    chaos: ChaosOption = False,
    keep: Keep = None,
) -> None:
    """Trade for a virtual fortnight through the public APIs and print what came of it.

    Exit code 0 when every order's identity holds and the books are balanced, 1 with a list when not.
    """
    from services.demo.report import render
    from services.demo.run import own_stack, run

    progress = Console(stderr=True, highlight=False)
    # In a file or a pipe there is no screen to fit: names stay on one line.
    report = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    try:
        with own_stack(seed=seed, keep=keep) as running:
            outcome = run(
                running, seed=seed, orders=orders, chaos=chaos, say=lambda line: progress.print(f"  {line}")
            )
    except EmbeddedServerError as failure:
        progress.print(f"[bold red]failed[/]: {failure}")
        raise typer.Exit(1) from failure
    render(outcome.facts, outcome.driven, outcome.failures, report)
    if json_file is not None:
        body = {**outcome.to_json(), "seed": seed}
        json_file.write_text(json.dumps(body, ensure_ascii=False, indent=2, default=str) + "\n")
    if outcome.failures:
        raise typer.Exit(1)
