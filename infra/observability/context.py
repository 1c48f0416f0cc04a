"""The request id that follows one request through API, outbox, worker and logs."""

from __future__ import annotations

from contextvars import ContextVar

_request_id: ContextVar[str] = ContextVar("request_id", default="")


def request_id() -> str:
    """The id of the request being served; empty outside of one."""
    return _request_id.get()


def bind_request_id(value: str) -> None:
    _request_id.set(value)
