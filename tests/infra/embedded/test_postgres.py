"""The embedded PostgreSQL: what it offers, and what it survives."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from infra.embedded.errors import DataDirInUse, EmbeddedServerError
from infra.embedded.postgres import APPLICATION, OWNER, SUPERUSER, EmbeddedPostgres
from infra.embedded.postgres_home import RELOCATED, reachable, server_account
from infra.embedded.process import processes_in, wait_until
from tests.fixtures.patience import PATIENCE_S

FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "128MB"}


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Not ``tmp_path``: as root the server's user cannot reach it, which is a case of its own here."""
    directory = Path(tempfile.mkdtemp(prefix="lianyu-pg-"))
    directory.chmod(0o755)
    yield directory / "postgres"
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    running = EmbeddedPostgres(data_dir, settings=FAST)
    running.start()
    yield running
    running.remove()


async def test_owner_and_application_are_no_superusers_and_only_the_owner_owns(
    server: EmbeddedPostgres,
) -> None:
    owner = await asyncpg.connect(server.url())
    await owner.execute("CREATE TABLE thing (id int)")
    attributes = "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    assert tuple(await owner.fetchrow(attributes)) == (False, False, True)
    await owner.execute(f"ALTER ROLE {APPLICATION} CONNECTION LIMIT 50")
    await owner.close()

    application = await asyncpg.connect(server.url(role=APPLICATION))
    assert tuple(await application.fetchrow(attributes)) == (False, False, False)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute("SELECT * FROM thing")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute("CREATE TABLE other (id int)")
    await application.close()


async def test_passwords_are_needed_and_kept_private(server: EmbeddedPostgres) -> None:
    wrong = server.url().replace(server.password(OWNER), "wrong")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(wrong)

    assert len({server.password(role) for role in (SUPERUSER, OWNER, APPLICATION)}) == 3
    assert stat.S_IMODE((server.data_dir / "secret").stat().st_mode) == 0o600
    assert stat.S_IMODE(server.cluster.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.log.stat().st_mode) == 0o600


def test_it_listens_on_loopback_tcp_only_with_our_settings(server: EmbeddedPostgres) -> None:
    show = "SELECT current_setting('{}')"

    assert server.execute(show.format("listen_addresses")) == "127.0.0.1"
    assert server.execute(show.format("unix_socket_directories")) == ""
    assert server.execute(show.format("fsync")) == "off"
    assert server.execute(show.format("timezone")) == "UTC"
    assert server.execute("SELECT 'ä' < 'z', upper('ä')", database="lianyu") == "f|Ä"


def test_fsync_is_on_unless_told_otherwise(data_dir: Path) -> None:
    argv = " ".join(EmbeddedPostgres(data_dir).settings)

    assert "fsync" not in argv
    assert "synchronous_commit" not in argv


def test_data_port_and_passwords_survive_a_restart(server: EmbeddedPostgres) -> None:
    server.execute("CREATE TABLE kept AS SELECT 42 AS n", database="lianyu")
    url = server.url()

    server.stop()
    assert not server.running
    again = EmbeddedPostgres(server.data_dir, settings=FAST)
    again.start()

    assert again.url() == url
    assert again.execute("SELECT n FROM kept", database="lianyu") == "42"
    again.stop()


def test_a_taken_port_gives_way_to_a_free_one(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        server = EmbeddedPostgres(data_dir, port=taken, settings=FAST)
        server.start()
        assert server.port != taken
        assert server.execute("SELECT 1") == "1"
        server.remove()


DURABLE = {name: value for name, value in FAST.items() if name != "synchronous_commit"}


async def test_it_starts_again_after_kill_9_of_the_postmaster_with_committed_rows(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings=DURABLE)
    server.start()
    server.execute("CREATE TABLE kept AS SELECT 42 AS n", database="lianyu")
    busy = await asyncpg.connect(server.url(role=SUPERUSER))
    backend = await busy.fetchval("SELECT pg_backend_pid()")
    assert server.pid is not None
    os.kill(backend, signal.SIGSTOP)  # an orphan that does not notice its postmaster's death

    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.running, timeout_s=PATIENCE_S)
    assert backend in [identity.pid for identity in processes_in(server.cluster, "postgres")]
    server.start()

    assert server.execute("SELECT n FROM kept", database="lianyu") == "42"
    assert backend not in [identity.pid for identity in processes_in(server.cluster, "postgres")]
    busy.terminate()
    server.remove()


def test_a_pid_file_of_before_the_machine_restarted_does_not_stop_it(server: EmbeddedPostgres) -> None:
    server.stop()
    account = server_account()
    # The pid in it lives, but is another program's by now.
    bystander = subprocess.Popen(
        ["/bin/sleep", "600"],
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
    )
    lines = [
        str(bystander.pid),
        str(server.cluster),
        "1000000000",
        str(server.port),
        "",
        "127.0.0.1",
        "",
        "ready",
    ]
    (server.cluster / "postmaster.pid").write_text("\n".join(lines) + "\n")

    server.start()

    assert server.execute("SELECT 1") == "1"
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_an_interrupted_initdb_starts_over(data_dir: Path) -> None:
    (data_dir / "cluster.new").mkdir(parents=True)
    (data_dir / "cluster.new" / "PG_VERSION").write_text("18\n")
    (data_dir / "password.new").write_text("half")
    data_dir.chmod(0o755)
    server = EmbeddedPostgres(data_dir, settings=FAST)

    server.start()

    assert server.execute("SELECT 1") == "1"
    server.remove()


def test_two_owners_of_one_directory_are_refused(server: EmbeddedPostgres) -> None:
    with pytest.raises(DataDirInUse):
        EmbeddedPostgres(server.data_dir, settings=FAST).start()
    assert server.execute("SELECT 1") == "1"


def test_data_of_another_major_version_is_refused_with_the_way_out(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.cluster / "PG_VERSION").write_text("17\n")

    with pytest.raises(EmbeddedServerError, match="written by PostgreSQL 17, installed is 18"):
        server.start()
    server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_data_of_another_user_is_refused_with_the_way_out(server: EmbeddedPostgres) -> None:
    server.stop()
    os.chown(server.cluster, 54321, 54321)

    with pytest.raises(EmbeddedServerError, match="belongs to user id 54321"):
        server.start()
    server.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_killed_starter_takes_its_server_with_it(data_dir: Path) -> None:
    root = Path(__file__).parents[3]
    source = (
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from pathlib import Path; from infra.embedded.postgres import EmbeddedPostgres\n"
        f"server = EmbeddedPostgres(Path({str(data_dir)!r}), settings={FAST!r}); server.start()\n"
        "print(server.cluster, flush=True); input()\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdin is not None
    assert starter.stdout is not None
    cluster = Path(starter.stdout.readline().strip())
    assert processes_in(cluster, "postgres")

    starter.kill()
    starter.communicate()

    assert wait_until(lambda: not processes_in(cluster, "postgres"), timeout_s=PATIENCE_S)
    EmbeddedPostgres(data_dir).remove()


def test_pgbench_runs_against_it(server: EmbeddedPostgres) -> None:
    result = subprocess.run(
        [server.binary("pgbench"), "-i", "-q", "-s", "1", server.url()],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert result.returncode == 0, result.stderr


def test_databases_are_copied_from_a_template_and_dropped(server: EmbeddedPostgres) -> None:
    server.create_database("model")
    server.execute("CREATE TABLE seeded AS SELECT 7 AS n", database="model")

    server.create_database("copy", template="model")
    server.create_database("copy", template="model")

    assert server.execute("SELECT n FROM seeded", database="copy") == "7"
    server.drop_database("copy")
    assert server.execute("SELECT count(*) FROM pg_database WHERE datname = 'copy'") == "0"
    with pytest.raises(ValueError, match="plain lower-case"):
        server.create_database('x"; DROP DATABASE model; --')


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories the server's user cannot reach")
def test_as_root_an_unreachable_directory_keeps_its_permissions_and_gets_its_data_elsewhere(
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    account = server_account()
    assert account is not None
    assert not reachable(closed / "postgres", account, "-e")
    server = EmbeddedPostgres(closed / "postgres", settings=FAST)

    server.start()
    server.execute("CREATE TABLE kept AS SELECT 42 AS n", database="lianyu")
    server.stop()
    server.start()

    assert server.execute("SELECT n FROM kept", database="lianyu") == "42"
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert server.cluster.is_relative_to(RELOCATED)
    relocated = server.cluster.parent
    server.remove()
    assert not relocated.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories the server's user cannot reach")
def test_a_copied_data_directory_does_not_share_the_originals_cluster(tmp_path: Path) -> None:
    original = tmp_path / "original"
    server = EmbeddedPostgres(original, settings=FAST)
    server.start()
    shutil.copytree(original, tmp_path / "copy", symlinks=True)

    copy = EmbeddedPostgres(tmp_path / "copy", settings=FAST)
    copy.start()

    assert copy.cluster != server.cluster
    copy.remove()
    assert server.execute("SELECT 1") == "1"
    server.remove()
