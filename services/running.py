"""Commands that work on their own: they use the running stack, or start what they need and stop it after."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.config import Settings
from infra.embedded.errors import EmbeddedServerError
from infra.embedded.process import die_with_parent
from infra.embedded.run_record import RunRecord
from infra.embedded.supervisor import running_record
from services.stack import EVERYTHING, ROOT

_PATIENCE_S = 180.0


@dataclass(frozen=True, slots=True)
class Running:
    """A stack one can use: ``facts`` as `lianyu up --json` prints them, ``settings`` that lead to it."""

    facts: Mapping[str, Any]
    settings: Settings


def data_dir_of(settings: Settings) -> Path:
    """The stack's directory: `.lianyu` of the checkout unless `LIANYU_DATA_DIR` says otherwise."""
    if settings.data_dir.is_absolute() or "LIANYU_DATA_DIR" in os.environ:
        return settings.data_dir.resolve()
    base = ROOT if (ROOT / "pyproject.toml").exists() else Path.cwd()
    return (base / settings.data_dir).resolve()


@contextlib.contextmanager
def running_stack(
    settings: Settings, *, data_dir: Path | None = None, seed: bool = True, port_base: int | None = None
) -> Iterator[Running]:
    """The whole platform: the one that runs already, else one of our own, stopped at the end.

    ``port_base`` keeps a stack beside others from wanting the usual ports at the same moment as they do.
    The environment leads to it inside the block, so that ``Settings()`` does.
    """
    options = [] if seed else ["--no-seed"]
    options += [] if port_base is None else ["--port-base", str(port_base)]
    with _stack(data_dir or data_dir_of(settings), EVERYTHING, options) as record, _environment(record):
        yield Running(facts=shown(record), settings=Settings())


@contextlib.contextmanager
def services_needed(
    settings: Settings, *, database: bool = True, broker: bool = False, paysim: bool = False
) -> Iterator[Settings]:
    """Settings that lead to what is asked for, migrated.

    Embedded servers are started only for what has no URL, when no stack runs, and stopped at the end.
    """
    wanted = {
        "postgres": database and not (settings.database_url or settings.app_database_url),
        "valkey": broker and not settings.broker_url,
        "paysim": paysim and not settings.stripe_api_key.get_secret_value(),
    }
    parts = frozenset(name for name, needed in wanted.items() if needed)
    external_owner_only = database and bool(settings.database_url) and not settings.app_database_url
    if not parts and not external_owner_only:
        yield settings
        return
    # Without a seed: the market is `up`'s affair, and it needs all applications.
    with _stack(data_dir_of(settings), parts, ["--no-seed"]) as record, _environment(record):
        yield Settings()


def shown(record: RunRecord) -> dict[str, Any]:
    """The public part of a record's facts: addresses, keys, pids, directory."""
    return {name: record.facts[name] for name in ("urls", "keys", "pids", "data_dir")}


def wait_for_running(data_dir: Path, parts: frozenset[str]) -> RunRecord | None:
    """The running stack once it is ready, None when none runs. Waits while it starts.

    Raises `EmbeddedServerError` when a command of ours runs servers there that lack ``parts``, for too long.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while (record := running_record(data_dir)) is not None:
        if record.ready and parts <= set(record.facts["parts"]):
            return record
        if time.monotonic() > deadline:
            state = "lacks " + ", ".join(sorted(parts)) if record.ready else "does not become ready"
            raise EmbeddedServerError(
                f"process {record.supervisor.pid} runs servers in {data_dir}, but {state}"
            )
        time.sleep(0.1)
    return None


@contextlib.contextmanager
def _stack(data_dir: Path, parts: frozenset[str], options: list[str]) -> Iterator[RunRecord]:
    record = wait_for_running(data_dir, parts)
    if record is not None:
        yield record
        return
    argv = [sys.executable, "-m", "services.cli", "up", "--json", "--data-dir", str(data_dir), *options]
    if parts != EVERYTHING:
        argv += ["--quiet", "--only", ",".join(sorted(parts)) or "none"]
    process = subprocess.Popen(
        argv,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us; we stop it when we are done
        preexec_fn=die_with_parent(signal.SIGTERM),
    )
    try:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise EmbeddedServerError("the embedded stack did not start; the reason stands above")
        record = running_record(data_dir)
        if record is None:
            raise EmbeddedServerError("the embedded stack ended right after its start")
        yield record
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _environment(record: RunRecord) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(record.facts["environment"])
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
