"""What PostgreSQL's ``text`` can hold, which is a little less than what JSON can say."""

from __future__ import annotations

import asyncpg
from sqlalchemy.exc import DBAPIError


def storable(text: str) -> bool:
    """False for a NUL or half of a surrogate pair: either would fail inside a statement."""
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def was_unstorable(error: BaseException | None) -> bool:
    """Whether a statement failed on text that it could not hold; the transaction has done nothing then."""
    if not isinstance(error, DBAPIError):
        return False
    cause = getattr(error.orig, "__cause__", None)
    unknown = asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError
    # The driver itself fails on half of a pair, before the server sees it.
    return isinstance(cause, unknown) or isinstance(getattr(cause, "__cause__", None), UnicodeEncodeError)


def shown(text: str, longest: int) -> str:
    """A piece of somebody's text for a message: cut, and without what cannot be seen or stored."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:longest])
