"""`lianyu evaluate …`: the product's own code run over evaluation data."""

from __future__ import annotations

import typer

from services import evaluate_cps


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Run the product's own code over evaluation data.", no_args_is_help=True)
    evaluate_cps.register(group)
    app.add_typer(group, name="evaluate")


__all__ = ["register"]
