"""One embedded PostgreSQL for the run, one migrated database per worker, real commits, a clean slate after.

The controlling process starts the server and migrates a template; each worker copies it. ``session`` rolls
back; ``db`` commits for real and empties the tables it touched.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.migrate import upgrade
from infra.db.session import Database, make_engine
from infra.embedded.postgres import APPLICATION, OWNER, SUPERUSER, EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey

_SERVER = "LIANYU_TEST_SERVER"
_TEMPLATE = "template_lianyu"
_FAST = {
    "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "256MB",
    "max_connections": "400",  # forty a worker, and those that tests open besides
}  # fmt: skip
_server: EmbeddedPostgres | None = None

_EMPTY = """
DO $$
DECLARE target regclass; filled boolean;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR target IN SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND c.relname <> ALL ('{reference}'::text[])
    LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', target) INTO filled;
        CONTINUE WHEN NOT filled;
        -- A new file for the table and each index costs more than the few rows of most tests.
        EXECUTE format(CASE WHEN pg_relation_size(target) BETWEEN 1 AND 131072 THEN 'DELETE FROM %s'
                       ELSE 'TRUNCATE %s CASCADE' END, target);
    END LOOP;
END $$
"""
_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""

# A slow machine fails no test: neither an example that took long nor data that took long to draw.
settings.register_profile(
    "lianyu", parent=settings.default, deadline=None, suppress_health_check=(HealthCheck.too_slow,)
)
settings.load_profile("lianyu")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    global _server
    directory = Path(tempfile.mkdtemp(prefix="lianyu-test-"))
    directory.chmod(0o755)
    _server = EmbeddedPostgres(directory / "postgres", settings=_FAST)
    _server.start()
    _server.create_database(_TEMPLATE)
    upgrade(_server.url(_TEMPLATE))
    urls = {role: _server.url("{database}", role=role) for role in (SUPERUSER, OWNER, APPLICATION)}
    os.environ[_SERVER] = json.dumps({"urls": urls, "reference": _filled_tables(_server)})


def _filled_tables(server: EmbeddedPostgres) -> str:
    """The tables that migrations filled: reference data that no test may lose."""
    tables = server.execute(_TABLES, database=_TEMPLATE).split()
    each = " UNION ALL ".join(f"(SELECT '{t}' FROM \"{t}\" LIMIT 1)" for t in tables)
    return ",".join(server.execute(each, database=_TEMPLATE).split())


def pytest_unconfigure(config: pytest.Config) -> None:
    if _server is not None:
        _server.remove()
        shutil.rmtree(_server.data_dir.parent, ignore_errors=True)


class TestDatabase:
    """The worker's own database: its addresses by role."""

    __test__ = False

    def __init__(self, name: str) -> None:
        known = json.loads(os.environ[_SERVER])
        self.name = name
        self._urls: dict[str, str] = known["urls"]
        self.reference: str = known["reference"]
        self._cleaner: asyncpg.Connection | None = None

    def url(self, role: str = APPLICATION, *, database: str | None = None) -> str:
        return self._urls[role].replace("{database}", database or self.name)

    async def recreate(self) -> None:
        admin = await asyncpg.connect(self.url(SUPERUSER, database="postgres"))
        await admin.execute(f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)")
        # Workers start together and a template can be copied by one session at a time.
        await admin.execute("SELECT pg_advisory_lock(1)")
        await admin.execute(f"CREATE DATABASE {self.name} OWNER {OWNER} TEMPLATE {_TEMPLATE}")
        await admin.close()

    async def empty(self) -> None:
        if self._cleaner is None:  # kept: a new one would read the whole catalogue again
            self._cleaner = await asyncpg.connect(self.url(SUPERUSER))
        await self._cleaner.execute(_EMPTY.replace("{reference}", "{" + self.reference + "}"))

    async def close(self) -> None:
        if self._cleaner is not None:
            await self._cleaner.close()


@pytest.fixture(scope="session")
def database_name(worker_id: str) -> str:
    return f"test_{worker_id.replace('-', '_')}"


@pytest.fixture(scope="session")
async def postgres(database_name: str) -> AsyncIterator[TestDatabase]:
    database = TestDatabase(database_name)
    await database.recreate()
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def _shared_db(postgres: TestDatabase) -> AsyncIterator[Database]:
    # Some tests cut connections: what they leave behind is nobody else's to find. Some race with more than there are
    # connections: on a slow machine the last of them waits long.
    db = Database(make_engine(postgres.url(), pool_size=20, pre_ping=True, patience_s=120))
    yield db
    await db.close()


@pytest.fixture
async def db(_shared_db: Database, postgres: TestDatabase) -> AsyncIterator[Database]:
    """The application's role with real commits, for whatever opens its own units of work."""
    yield _shared_db
    await postgres.empty()


@pytest.fixture
async def session(_shared_db: Database) -> AsyncIterator[AsyncSession]:
    """A SYSTEM session that is rolled back: for rules that need rows but no second transaction."""
    async with _shared_db.reading(SYSTEM) as session:
        session.autoflush = True
        yield session
        await session.rollback()


@pytest.fixture
def owner_url(postgres: TestDatabase) -> str:
    return postgres.url(OWNER)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The address of an empty broker of the test's own."""
    server = EmbeddedValkey(tmp_path / "valkey")
    server.start()
    yield server.url()
    server.remove()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 3, 2, 2, 0, tzinfo=UTC))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The evaluation data beside the checkout (or at LIANYU_SHARED); its tests skip without it."""
    path = Path(os.environ.get("LIANYU_SHARED", Path(__file__).parents[2] / "shared"))
    if not path.is_dir():
        pytest.skip("the shared evaluation data is not here (set LIANYU_SHARED)")
    sys.path.insert(0, str(path / "contracts" / "stripe"))
    return path
