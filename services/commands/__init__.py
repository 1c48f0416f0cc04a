"""Sub-commands of `lianyu`, one file for each or for a few that belong together.

Every module here has ``register(app: typer.Typer) -> None``. `services.cli` imports the one that holds the command it
is asked for, and all of them for `lianyu --help`: what only one command of several needs is imported inside it.
"""

from typing import Final

MODULE_OF: Final = {
    "check-migrations": "database",
    "check-performance": "check_performance",
    "check-stock": "check_stock",
    "clean": "database",
    "clock": "clock",
    "demo": "demo",
    "down": "up",
    "evaluate": "evaluate",
    "failed-messages": "failed_messages",
    "migrate": "database",
    "reconcile": "reconcile",
    "replay": "replay",
    "seed": "up",
    "shell": "database",
    "simulate": "simulate",
    "status": "up",
    "up": "up",
    "verify": "verify",
}
