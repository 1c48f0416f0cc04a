"""The embedded Valkey: a private broker that survives a kill."""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from infra.embedded.errors import DataDirInUse
from infra.embedded.process import wait_until
from infra.embedded.valkey import EmbeddedValkey
from tests.fixtures.patience import PATIENCE_S


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    running = EmbeddedValkey(tmp_path / "valkey")
    running.start()
    yield running
    running.remove()


def connect(server: EmbeddedValkey) -> redis.Redis:
    return redis.Redis.from_url(server.url())


def test_it_wants_its_password_and_keeps_it_private(server: EmbeddedValkey) -> None:
    assert connect(server).ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host="127.0.0.1", port=server.port).ping()
    for name in ("secret", "valkey.conf"):
        assert stat.S_IMODE((server.data_dir / name).stat().st_mode) == 0o600


def test_what_is_on_the_disk_survives_kill_9(server: EmbeddedValkey) -> None:
    url = server.url()
    client = connect(server)
    client.lpush("queue", "task")
    # appendfsync everysec: it comes by itself, a second later or when the disk is less busy.
    assert client.execute_command("WAITAOF", 1, 0, int(1000 * PATIENCE_S)) == [1, 0]
    assert server.pid is not None

    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not server.running, timeout_s=PATIENCE_S)
    server.start()

    assert server.url() == url
    assert connect(server).lrange("queue", 0, -1) == [b"task"]


def test_two_owners_of_one_directory_are_refused(server: EmbeddedValkey) -> None:
    with pytest.raises(DataDirInUse):
        EmbeddedValkey(server.data_dir).start()


def test_it_never_evicts_and_listens_on_loopback(server: EmbeddedValkey) -> None:
    client = connect(server)

    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert client.config_get("bind") == {"bind": "127.0.0.1"}
