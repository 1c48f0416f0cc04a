"""One text for one value, so that two parties who hash the same facts get the same hash.

Canonical JSON here: UTF-8, no white space, object keys sorted, integers and strings only for facts (no
floats: their text differs between writers), instants as whole microseconds since 1970 UTC, sets sorted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_micros(at: datetime) -> int:
    """Microseconds since 1970 UTC. Raises ``TypeError`` for a datetime without a zone."""
    return (at - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def plain(value: Any) -> Any:
    """What stands for a value of a class in canonical JSON. Raises ``TypeError`` for a kind without a form."""
    return _form_of(value.__class__)(value)


@cache
def _form_of(kind: Any) -> Callable[[Any], Any]:
    """Found once for each class: texts are made of many values of few classes."""
    if issubclass(kind, datetime):
        return to_micros
    if issubclass(kind, frozenset | set):
        return sorted
    if issubclass(kind, UUID):
        return str
    if dataclasses.is_dataclass(kind):
        names = sorted(each.name for each in dataclasses.fields(kind))
        return lambda value: {name: getattr(value, name) for name in names}
    raise TypeError(f"{kind.__name__} has no canonical form")


_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), default=plain
)


def canonical_json(value: Any) -> str:
    """Raises ``TypeError`` for a kind of value without a canonical form."""
    return _ENCODER.encode(value)


def sha256_hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def content_hash(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits."""
    return sha256_hex(canonical_json(value))
