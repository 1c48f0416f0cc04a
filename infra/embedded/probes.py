"""Readiness: how a supervisor learns that a process can be used."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from infra.embedded.process import accepts_tcp

Probe = Callable[[], bool]

START_MARK = "--- started "
"""The supervisor writes it to the log before each start; what is above it is history."""

# Loopback is never behind the proxy of the environment.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def http_ok(url: str, *, header: tuple[str, str] | None = None) -> Probe:
    """Ready when GET ``url`` answers 2xx within a second, and ``header`` (name, value) is in the answer."""

    def probe() -> bool:
        try:
            with _OPENER.open(url, timeout=1.0) as response:
                expected = header is None or response.headers[header[0]] == header[1]
                return expected and 200 <= int(response.status) < 300
        except (OSError, urllib.error.URLError):
            return False

    return probe


def tcp_open(port: int) -> Probe:
    """Ready when something listens on 127.0.0.1:``port``."""
    return lambda: accepts_tcp(port)


def every(*probes: Probe) -> Probe:
    """Ready when all of them are."""
    return lambda: all(probe() for probe in probes)


def log_says(log: Path, text: str) -> Probe:
    """Ready when ``text`` stands in the log after the last start; for processes that listen nowhere."""

    def probe() -> bool:
        try:
            with log.open("rb") as stream:
                stream.seek(max(0, os.fstat(stream.fileno()).st_size - 262_144))
                seen = stream.read().decode("utf-8", "replace")
        except OSError:
            return False
        return text in seen.rpartition(START_MARK)[2]

    return probe
