"""Two starters never choose one port, though neither has started its server yet."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from infra.embedded.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
CHOOSER = """
import sys
from infra.embedded.ports import free_port
print(free_port(int(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def chooser(preferred: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHOOSER, str(preferred)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_that_wish_for_the_same_port_get_different_ones_and_the_dead_keep_none() -> None:
    wish = _never_claimed()
    processes = [chooser(wish) for _ in range(4)]
    chosen = [int(process.stdout.readline()) for process in processes if process.stdout]
    assert len(set(chosen)) == 4
    assert wish in chosen

    for process in processes:
        process.kill()
        process.communicate()
    assert free_port(wish) == wish
    assert free_port(wish) == wish  # for a server of ours that starts again


def test_a_port_with_a_listener_is_not_given_away() -> None:
    port = free_port()
    with socket.socket() as server:
        server.bind(("127.0.0.1", port))
        server.listen()
        assert free_port(port) != port


def _never_claimed() -> int:
    """A free port that this process holds no claim to."""
    with chooser(0) as process:
        assert process.stdout
        port = int(process.stdout.readline())
        process.kill()
    return port
