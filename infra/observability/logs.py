"""Structured logs: one event per line, with the request id, without secrets or personal data."""

from __future__ import annotations

import logging
import re
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
_HIDDEN = "[hidden]"
_ROW_VALUES = re.compile(r"(DETAIL:|\[parameters:|Failing row contains)[^\n]*")
_TOKEN = re.compile(r"\b(?:lyb_live|lys|lyo|sk_live|sk_test|whsec)_[A-Za-z0-9_-]{6,}")


def _with_request_id(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if known := request_id():
        entry.setdefault("request_id", known)
    return entry


def _without_secrets(_: Any, __: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A safety net under the rule never to log them: keys that sound like a secret lose their value."""
    for key, value in entry.items():
        entry[key] = _HIDDEN if _sounds_secret(key) else _scrubbed(value)
    return entry


def _sounds_secret(key: object) -> bool:
    return any(word in str(key).lower() for word in _SECRET_WORDS)


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _HIDDEN if _sounds_secret(k) else _scrubbed(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_scrubbed(each) for each in value]
    return without_row_values(value) if isinstance(value, str) else value


def without_row_values(text: str) -> str:
    """PostgreSQL quotes rows in the details of an error, and any message may quote a token."""
    return _TOKEN.sub(_HIDDEN, _ROW_VALUES.sub(rf"\1 {_HIDDEN}", text))


class _Scrubbing(logging.Formatter):
    """The same net under what libraries log by themselves, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return without_row_values(super().format(record))


def configure_logging(*, level: str = "INFO", style: str = "console") -> None:
    """Everything to stderr; ``style`` is ``console`` or ``json``."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_request_id,
        # Plain tracebacks, made before the net: rich ones print local variables, which are slow to show and
        # may be secrets.
        structlog.processors.format_exc_info,
        _without_secrets,
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Scrubbing("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error"):
        # Set up before the application is loaded; a traceback of theirs goes through the net as well.
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("httpx").setLevel(logging.WARNING)
