"""The sharing rail's wire: signed JSON requests, refusals with a code, times as RFC 3339.

A request carries ``Authorization: SHARING-HMAC-SHA256 timestamp=…,nonce=…,signature=…``, the signature being
HMAC-SHA256 in hex over ``VERB\\npath?query\\ntimestamp\\nnonce\\nbody\\n``. Notices are signed alike over
``timestamp\\nnonce\\nbody\\n`` in the headers ``sharing-timestamp``, ``sharing-nonce``, ``sharing-signature``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import Any

from services.paysim.wire import JsonDict

SCHEME = "SHARING-HMAC-SHA256"
MAX_AGE_S = 300
NUMBER = re.compile(r"[A-Za-z0-9_\-|*@.:]{1,64}")
MAX_AMOUNT = 99_999_999_999


class SharingRefused(Exception):
    """An answer that is not 200: ``{"code", "message", "detail"?}``. Nothing of the call stays."""

    def __init__(self, status: int, code: str, message: str, **detail: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.detail = status, code, detail

    def body(self) -> JsonDict:
        answer: JsonDict = {"code": self.code, "message": str(self)}
        return {**answer, "detail": self.detail} if self.detail else answer


def signature(secret: str, *parts: str) -> str:
    message = "".join(f"{part}\n" for part in parts)
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


def authenticate(header: str, *, secret: str, verb: str, target: str, body: str, now: int) -> None:
    """Raises 401 for another key, another body, or a stamp more than five minutes away."""
    scheme, _, rest = header.partition(" ")
    fields = dict(part.partition("=")[::2] for part in rest.split(","))
    stamp = fields.get("timestamp", "")
    if scheme != SCHEME or not stamp.isdigit():
        raise SharingRefused(401, "SIGNATURE_MISSING", f"The request is not signed with {SCHEME}.")
    expected = signature(secret, verb, target, stamp, fields.get("nonce", ""), body)
    if not hmac.compare_digest(expected, fields.get("signature", "")):
        raise SharingRefused(401, "SIGNATURE_WRONG", "The signature does not fit key and body.")
    if abs(now - int(stamp)) > MAX_AGE_S:
        raise SharingRefused(401, "TIMESTAMP_TOO_FAR", f"The stamp is more than {MAX_AGE_S} s away.")


def rfc3339(at: int | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def number(given: JsonDict, name: str) -> str:
    """A number of the caller's own, which makes a call happen once."""
    value = given.get(name)
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        raise invalid(name, "1 to 64 letters, digits or _-|*@.:")
    return value


def amount(given: JsonDict, name: str = "amount") -> int:
    value = given.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= MAX_AMOUNT:
        raise invalid(name, f"a whole number of fen from 1 to {MAX_AMOUNT}")
    return value


def words(given: JsonDict, name: str, *, most: int = 128, needed: bool = True) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or len(value) > most or (needed and not value):
        raise invalid(name, f"text of {'1' if needed else '0'} to {most} characters")
    return value


def only(given: JsonDict, *names: str) -> None:
    """Raises 400 for a parameter the call does not know."""
    for name in given:
        if name not in names:
            raise SharingRefused(400, "PARAM_UNKNOWN", f"Unknown parameter: {name}", field=name)


def invalid(field: str, expected: str) -> SharingRefused:
    return SharingRefused(400, "PARAM_INVALID", f"{field}: expected {expected}", field=field)
