"""`lianyu …`: the command line. Its commands live in `services.commands`, one file each."""

from __future__ import annotations

import importlib
import pkgutil

import typer

from services import commands


def build() -> typer.Typer:
    """The application with every module of `services.commands` registered."""
    app = typer.Typer(
        name="lianyu",
        help="Brands sell each other's products on commission; every order routed, every cent settled.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    for module in sorted(found.name for found in pkgutil.iter_modules(commands.__path__)):
        importlib.import_module(f"{commands.__name__}.{module}").register(app)
    return app


def main() -> None:
    build()()


if __name__ == "__main__":
    main()
