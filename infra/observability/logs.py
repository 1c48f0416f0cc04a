"""Structured logs: one event per line, with the request id, without secrets or personal data."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from infra.observability.context import request_id

_SECRET_WORDS = (
    "token",
    "secret",
    "password",
    "authorization",
    "cookie",
    "api_key",
    "email",
    "phone",
    "address",
)


def _with_request_id(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if known := request_id():
        entry.setdefault("request_id", known)
    return entry


def _without_secrets(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A safety net under the rule never to log them: keys that sound like a secret lose their value."""
    for key in entry:
        if any(word in key.lower() for word in _SECRET_WORDS):
            entry[key] = "[hidden]"
    return entry


def configure_logging(*, level: str = "INFO", style: str = "console") -> None:
    """Everything to stderr; ``style`` is ``console`` or ``json``."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_request_id,
        _without_secrets,
    ]
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if style == "json"
        # Plain tracebacks: rich ones print local variables, which are slow to show and may be secrets.
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(
        level=level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
