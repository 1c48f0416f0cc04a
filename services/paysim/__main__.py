"""``python -m services.paysim``: one process, one port, one data directory."""

from __future__ import annotations

import fcntl
import logging
import socket
import sys
from dataclasses import replace

import uvicorn

from services.paysim.app import create_app
from services.paysim.config import PaysimConfig, read_config


def main() -> None:
    config = read_config(sys.argv[1:])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # Kept open until the process ends: the lock goes with it, even after kill -9.
    lock = (config.data_dir / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"paysim: {config.data_dir} is in use by another paysim process")
    listener, config = listen(config)
    print(f"paysim listening on {config.base_url}", flush=True)
    server = uvicorn.Config(
        create_app(config),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        lifespan="on",
    )
    uvicorn.Server(server).run(sockets=[listener])


def listen(config: PaysimConfig) -> tuple[socket.socket, PaysimConfig]:
    """A bound socket and the configuration with the port it really has."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        sys.exit(f"paysim: cannot listen on {config.host}:{config.port}: {error.strerror}")
    return listener, replace(config, port=listener.getsockname()[1])


if __name__ == "__main__":
    main()
