"""Keyset pagination in the words of the Relay connection specification."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from core.errors import Invalid

T = TypeVar("T")
MAX_PAGE = 100


class BadPage(Invalid):
    code = "BAD_PAGE"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """``first`` items after ``after`` (an opaque cursor of the same list). 1 ≤ first ≤ 100."""

    first: int = 20
    after: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.first <= MAX_PAGE:
            raise BadPage(f"first is {self.first}; 1 to {MAX_PAGE} are allowed", field="first")

    @property
    def key(self) -> tuple[str, ...] | None:
        return decode_cursor(self.after) if self.after else None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: Sequence[T]
    cursors: Sequence[str]
    has_next: bool


def encode_cursor(*key: str) -> str:
    return base64.urlsafe_b64encode("\x1f".join(key).encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[str, ...]:
    try:
        return tuple(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split("\x1f"))
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise BadPage("the cursor is not one of this list", field="after") from error


def page_of(rows: Sequence[T], request: PageRequest, key: Callable[[T], tuple[str, ...]]) -> Page[T]:
    """Cut a page out of ``first + 1`` rows read in order; the extra row tells whether there is more."""
    items = rows[: request.first]
    return Page(items, [encode_cursor(*key(item)) for item in items], len(rows) > request.first)
