"""TCP ports on 127.0.0.1: a free one, and nobody else of ours takes it between the choice and the server's start."""

from __future__ import annotations

import contextlib
import random
import socket

# Below the ranges from which Linux (32768 up) and macOS (49152 up) take the ports of outgoing connections: one of
# those may be gone again by the time the server starts.
_OURS = range(10_000, 30_000)
_ATTEMPTS = 200
# A claim is the UDP port of the same number, held by this process: the kernel gives it to one process only,
# whoever the user is, and frees it when the process ends, however it ends. It survives no exec.
_CLAIMED: dict[int, socket.socket] = {}


def free_port(preferred: int | None = None) -> int:
    """``preferred`` when nobody listens there or has claimed it, else any free one.

    The port stays claimed until this process ends: another process that asks gets another one, even before a
    server listens here. Asked again for a port of ours that is free, we answer it again (a server restarts).
    Raises `OSError` when there is none.
    """
    for port in [*([preferred] if preferred else []), *random.sample(_OURS, _ATTEMPTS)]:
        if _unused(port) and _claim(port):
            return port
    raise OSError("no free TCP port on 127.0.0.1")


def _unused(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # The servers set it too: a port in TIME_WAIT after a restart is free for them.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def _claim(port: int) -> bool:
    if port in _CLAIMED:
        return True
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    _CLAIMED[port] = claim
    return True
