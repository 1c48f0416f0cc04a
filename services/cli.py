"""`lianyu …`: the command line. Its commands live in `services.commands`."""

from __future__ import annotations

import importlib
import sys

import typer

from services import commands


def build(asked: str = "") -> typer.Typer:
    """The application: with the module that holds the command ``asked``, or with all of them.

    Importing what every command needs takes seconds, and most need little of it.
    """
    app = typer.Typer(
        name="lianyu",
        help="Brands sell each other's products on commission; every order routed, every cent settled.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
    )
    app.callback()(lambda: None)  # a group with one command would swallow its name
    modules = {commands.MODULE_OF[asked]} if asked in commands.MODULE_OF else set(commands.MODULE_OF.values())
    for module in sorted(modules):
        importlib.import_module(f"{commands.__name__}.{module}").register(app)
    return app


def main() -> None:
    build(sys.argv[1] if len(sys.argv) > 1 else "")()


if __name__ == "__main__":
    main()
