"""What PostgreSQL's ``text`` can hold, which is a little less than what JSON can say."""

from __future__ import annotations


def storable(text: str) -> bool:
    """False for a NUL or half of a surrogate pair: either would fail inside a statement."""
    try:
        return b"\x00" not in text.encode()
    except UnicodeEncodeError:
        return False


def shown(text: str, longest: int) -> str:
    """A piece of somebody's text for a message: cut, and without what cannot be seen or stored."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:longest])
