"""The addresses of a stack: settled when its servers have been ready, and nobody else's."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from infra.embedded.ports import free_port
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.supervisor import running_record
from services.stack import LastingPort
from tests.fixtures.patience import PATIENCE_S
from tests.services.test_up import ROOT, environment


class PortOnly(EmbeddedPostgres):
    def prepare(self) -> None:
        self.port = free_port(self.port)


def test_a_server_keeps_its_port_once_it_has_been_ready() -> None:
    server = PortOnly(Path("/nowhere"), port=free_port())
    wish, port = server.port, LastingPort(server)
    port.prepare()
    assert server.port == wish
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", wish))
        thief.listen()
        port.prepare()
        assert server.port != wish
    port.settle()
    settled, server.port = server.port, wish
    port.prepare()
    assert server.port == settled


@pytest.mark.stack
def test_stacks_that_start_at_the_same_moment_do_not_fight_over_ports() -> None:
    with tempfile.TemporaryDirectory(prefix="lianyu-up-") as directory:
        Path(directory).chmod(0o755)
        homes = [Path(directory) / f"data-{n}" for n in range(2)]
        stacks = [
            subprocess.Popen(
                [sys.executable, "-m", "services.cli", "up", "--json", "--only", "postgres,valkey,paysim"],
                cwd=ROOT,
                env=environment(home),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for home in homes
        ]
        try:
            assert all(stack.stdout and stack.stdout.readline() for stack in stacks), "one did not start"
            records = [running_record(home) for home in homes]
            for name in ("DATABASE_URL", "BROKER_URL", "STRIPE_API_BASE"):
                assert len({record.facts["environment"][name] for record in records if record}) == 2, name
        finally:
            for stack in stacks:
                stack.terminate()
            told = [stack.communicate(timeout=PATIENCE_S)[1] for stack in stacks]
        assert not any("taken" in text or "restart" in text for text in told), told
