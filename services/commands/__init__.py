"""Sub-commands of `lianyu`, one file each.

Every module here has ``register(app: typer.Typer) -> None`` and is found by `services.cli`. Import what is
heavy inside the command: `lianyu --help` imports all of these modules.
"""
