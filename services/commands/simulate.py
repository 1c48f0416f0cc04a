"""`lianyu simulate money`: thousands of orders with everything going wrong, all of it decided by one seed."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.simulate.run import Result


def register(app: typer.Typer) -> None:
    simulate = typer.Typer(no_args_is_help=True, help="Deterministic simulations: one seed, one story.")
    app.add_typer(simulate, name="simulate")
    # A group with one command would swallow its name.
    simulate.callback()(lambda: None)
    simulate.command()(money)


def money(
    seed: Annotated[int, typer.Option(help="The first seed")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds")] = 1,
    orders: Annotated[int, typer.Option(min=1, help="Orders placed per seed")] = 2_000,
    jobs: Annotated[int, typer.Option(min=1, help="Seeds in so many processes")] = 1,
    twice: Annotated[bool, typer.Option(help="Every seed a second time; the traces are compared")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results here")] = None,
    trace_file: Annotated[Path | None, typer.Option("--trace", help="Write every step here")] = None,
) -> None:
    """Baskets, payments, refunds, returns, disputes, payouts and statements with a provider that fails, webhooks in
    any order, workers that are killed and a database that is. Checks the invariants of the books on the way and at
    the end.

    Prints the seed, the step and the last thirty steps of what breaks, and exits 1. The same seed gives the same
    steps. Uses a PostgreSQL of its own (one a process), which is deleted afterwards.
    """
    from rich.console import Console

    from infra.observability.logs import configure_logging
    from services.simulate.seeds import Asked, in_processes, in_turn

    if trace_file is not None and jobs > 1:
        raise typer.BadParameter("a trace is of one process", param_hint="--trace")
    configure_logging(level="CRITICAL", style="console")  # what is simulated is meant to go wrong
    out, console = Console(highlight=False), Console(stderr=True, highlight=False)
    results: list[Result] = []
    asked = [Asked(number, orders, twice) for number in range(seed, seed + seeds)]
    with trace_file.open("w", encoding="utf-8") if trace_file else nullcontext() as trace:
        lives = in_processes(asked, jobs) if jobs > 1 else in_turn(asked, _writer(trace))
        for result in lives:
            results.append(result)
            out.print(_line(result), soft_wrap=True)
            tell_failure(console, result)
            if json_file is not None:
                json_file.write_text(
                    json.dumps([asdict(r) for r in results], indent=2) + "\n", encoding="utf-8"
                )
    green = sum(result.green for result in results)
    out.print(f"{green} of {len(results)} seeds green, {sum(r.orders for r in results):,} orders")
    if green < len(results):
        raise typer.Exit(1)


def _writer(trace: Any) -> Callable[[str], object]:
    return len if trace is None else lambda line: trace.write(f"{line}\n")


def _line(result: Result) -> str:
    verdict = "green" if result.green else "BROKEN"
    return (
        f"seed {result.seed}: {verdict}, {result.orders:,} orders, {result.steps:,} steps,"
        f" {sum(result.kills.values()):,} kills, {result.power_cuts} power cuts, {result.seconds:.1f} s,"
        f" trace {result.trace[:16]}"
    )


def tell_failure(console: Any, result: Result) -> None:
    """What is broken, the way to it, and how to go it again; nothing when nothing is."""
    if result.green:
        return
    console.print(f"seed {result.seed} breaks at step {result.steps}:", markup=False)
    for each in (*result.broken, "the last steps:", *result.last):
        console.print(f"  {each}", markup=False, soft_wrap=True)
    console.print(f"again: lianyu simulate money --seed {result.seed} --orders {result.asked}", markup=False)
