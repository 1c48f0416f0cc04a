"""Runs the migrations from Python: for the CLI, the embedded stack and the tests."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

ROOT = Path(__file__).resolve().parents[2]


def _config(url: str) -> Config:
    config = Config(ROOT / "alembic.ini")
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the database at ``url`` (the owner's role) to ``revision``. Two at once wait for one another."""
    command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    command.downgrade(_config(url), revision)


def check(url: str) -> None:
    """Raises ``alembic.util.CommandError`` when models and migrations differ."""
    config = _config(url)
    config.attributes["compare"] = True
    command.check(config)
