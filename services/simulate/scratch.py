"""A PostgreSQL of the simulation's own, thrown away afterwards: one migrated template, one database per seed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.db.migrate import upgrade
from infra.embedded.postgres import APPLICATION, EmbeddedPostgres

_TEMPLATE = "simulation_template"
# Workers are killed here, the machine is not: what a power cut would lose is another test's question. And a
# vacuum at its own time would be a step that no seed has drawn.
_SETTINGS = {"fsync": "off", "full_page_writes": "off", "autovacuum": "off", "shared_buffers": "256MB"}


class Scratch:
    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """The application role's address of a fresh migrated database, which ends with the block."""
        self._server.create_database(name, template=_TEMPLATE)
        try:
            yield self._server.url(name, role=APPLICATION)
        finally:
            self._server.drop_database(name)


@contextmanager
def scratch_server() -> Iterator[Scratch]:
    directory = Path(tempfile.mkdtemp(prefix="lianyu-simulation-"))
    server = EmbeddedPostgres(directory / "postgres", settings=_SETTINGS)
    try:
        server.start()
        server.create_database(_TEMPLATE)
        upgrade(server.url(_TEMPLATE))
        yield Scratch(server)
    finally:
        server.remove()
        shutil.rmtree(directory, ignore_errors=True)
