"""The secrets themselves: what they look like, and the only form in which they are kept.

A token is a prefix that tells what it opens and 40 random letters (238 bits). With that much randomness a
single SHA-256 is enough: there is no dictionary to try, so no slow hash on every request.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from dataclasses import dataclass

from marketplace.brands.models import TenantKind

_LETTERS = string.ascii_letters + string.digits
_LENGTH = 40
_SHOWN = 4
LONGEST = 80
_PREFIX = {TenantKind.BRAND: "lyb_live_", TenantKind.SUPPLIER: "lys_", TenantKind.PLATFORM: "lyo_"}
_PUBLISHABLE = "pk_"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """``text`` is shown to its owner once. Not in ``repr``, so that no log shows it."""

    text: str
    hash: bytes
    shown_prefix: str


def new_secret(kind: TenantKind) -> Secret:
    prefix = _PREFIX[kind]
    text = prefix + _random()
    return Secret(text, hash_of(text), text[: len(prefix) + _SHOWN])


def new_publishable_key() -> str:
    return _PUBLISHABLE + _random()


def hash_of(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def looks_like_a_token(text: str) -> bool:
    return len(text) <= LONGEST and text.startswith(tuple(_PREFIX.values()))


def looks_publishable(text: str) -> bool:
    return len(text) <= LONGEST and text.startswith(_PUBLISHABLE)


def _random() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
