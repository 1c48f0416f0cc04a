"""Facts in the past tense, and how they travel.

An event is a frozen dataclass registered under a stable name; the outbox stores ``(name, body)`` and a
handler gets the same dataclass back. Bodies carry ids and the few facts a handler decides on, never
personal data.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, ClassVar, TypeVar

from core.ids import TypedId
from core.money import Money


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    name: ClassVar[str]


E = TypeVar("E", bound=type[Event])
_REGISTRY: dict[str, type[Event]] = {}


def event(name: str) -> Callable[[E], E]:
    """Register an event class under ``name`` (``module.past_tense``). Names are never reused."""

    def register(cls: E) -> E:
        if name in _REGISTRY and _REGISTRY[name].__qualname__ != cls.__qualname__:
            raise ValueError(f"two events are called {name}")
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return register


def registered() -> Mapping[str, type[Event]]:
    """Every event this release knows, by name."""
    return _REGISTRY


def to_body(value: Event) -> dict[str, Any]:
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}


def from_body(name: str, body: Mapping[str, Any]) -> Event:
    """Raises ``KeyError`` for a name nobody registered (a newer release wrote it)."""
    cls = _REGISTRY[name]
    return typing.cast("Event", _typed(cls, body))


def _plain(value: Any) -> Any:
    if isinstance(value, TypedId):
        return str(value)
    if isinstance(value, Money):
        return {"amount_minor": value.amount_minor, "currency": value.currency}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return value


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _typed(kind: Any, value: Any) -> Any:
    origin = typing.get_origin(kind)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        return _typed(next(a for a in typing.get_args(kind) if a is not type(None)), value)
    if origin is tuple:
        return tuple(_typed(typing.get_args(kind)[0], item) for item in value)
    if isinstance(kind, type):
        if issubclass(kind, TypedId):
            return kind.parse(value)
        if kind is datetime:
            return datetime.fromisoformat(value)
        if issubclass(kind, Enum):
            return kind(value)
        if dataclasses.is_dataclass(kind):
            hints = _hints(kind)
            # A field that a newer release added is ignored; one that it dropped keeps its default.
            return kind(**{k: _typed(hints[k], v) for k, v in value.items() if k in hints})
    return value
