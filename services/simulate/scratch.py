"""A PostgreSQL of the simulation's own, thrown away afterwards: one migrated template, one database per seed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from infra.db.migrate import upgrade
from infra.embedded.postgres import APPLICATION, EmbeddedPostgres
from infra.embedded.process import processes_in, wait_until

_TEMPLATE = "simulation_template"
# A vacuum at its own time would be a step that no seed has drawn; memory is what it is on no particular machine.
_SETTINGS = {
    "autovacuum": "off", "shared_buffers": "256MB", "effective_cache_size": "1GB", "max_wal_size": "8GB",
    "wal_level": "minimal", "max_wal_senders": "0", "wal_compression": "off", "update_process_title": "off",
    "max_parallel_workers_per_gather": "0", "log_min_duration_statement": "-1",
}  # fmt: skip
# What dies here is every process, not the machine: what was written is in the system's memory and stays.
_NOT_DURABLE = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "on"}
_STATEMENTS = 1_000
"""Prepared ones that a connection keeps: all there are, or the same ones are planned over and over again."""


class Scratch:
    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    def kill(self) -> None:
        """The postmaster and every backend at once, by SIGKILL; ready again when it returns."""
        for process in processes_in(self._server.cluster, "postgres"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not self._server.running, timeout_s=60)
        self._server.start()

    @contextmanager
    def database(self, name: str, *, settings: Mapping[str, str] | None = None) -> Iterator[str]:
        """The application role's address of a fresh migrated database, which ends with the block."""
        self._server.create_database(name, template=_TEMPLATE)
        for setting, value in (settings or {}).items():
            self._server.execute(f"ALTER DATABASE {name} SET {setting} = '{value}'")
        try:
            yield f"{self._server.url(name, role=APPLICATION)}?prepared_statement_cache_size={_STATEMENTS}"
        finally:
            self._server.drop_database(name)


@contextmanager
def scratch_server() -> Iterator[Scratch]:
    directory = Path(tempfile.mkdtemp(prefix="lianyu-simulation-"))
    server = EmbeddedPostgres(directory / "postgres", settings={**_SETTINGS, **_NOT_DURABLE})
    try:
        server.start()
        server.create_database(_TEMPLATE)
        upgrade(server.url(_TEMPLATE))
        server.execute(f"GRANT pg_maintain TO {APPLICATION}")  # the simulation says when statistics are taken
        yield Scratch(server)
    finally:
        server.remove()
        shutil.rmtree(directory, ignore_errors=True)
