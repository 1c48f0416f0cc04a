"""The signed touch that travels in a destination's address as ``lyt``, and the signed cookie of the edge.

A token is base64url of touch id (16) · link id (16) · instant (8, microseconds) · MAC (16): it proves that
the click happened, through which link and when, even before the click's row can be read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from core.canonical import from_micros, to_micros
from core.ids import LinkId, TouchId
from marketplace.promotion.errors import InvalidTouchToken

PARAMETER = "lyt"
COOKIE = "lys"
_ID, _TIME, _MAC = 16, 8, 16
_BODY = 2 * _ID + _TIME
_LONGEST = 128


@dataclass(frozen=True, slots=True)
class SignedTouch:
    touch_id: TouchId
    link_id: LinkId
    at: datetime


class TouchSigner:
    """Signs and reads tokens and session cookies with keys derived from the platform's secret."""

    def __init__(self, secret: str) -> None:
        self._touch_key = hmac.digest(secret.encode(), b"touch-token", "sha256")
        self._cookie_key = hmac.digest(secret.encode(), b"edge-session", "sha256")
        self._trace_key = hmac.digest(secret.encode(), b"edge-trace", "sha256")

    def token(self, touch_id: TouchId, link_id: LinkId, at: datetime) -> str:
        body = touch_id.bytes + link_id.bytes + to_micros(at).to_bytes(_TIME)
        return _encoded(body + _mac(self._touch_key, body))

    def read(self, token: str) -> SignedTouch:
        """Raises ``InvalidTouchToken`` for anything this platform did not sign."""
        raw = _decoded(token)
        body = raw[:_BODY]
        if not hmac.compare_digest(raw[_BODY:], _mac(self._touch_key, body)):
            raise InvalidTouchToken("this touch token was not signed here", field=PARAMETER)
        return SignedTouch(
            TouchId(bytes=body[:_ID]),
            LinkId(bytes=body[_ID : 2 * _ID]),
            from_micros(int.from_bytes(body[2 * _ID :])),
        )

    def new_session(self) -> tuple[str, bytes]:
        """A fresh browser: its cookie (16 random bytes and their MAC) and the key of its touches."""
        raw = os.urandom(_ID)
        return _encoded(raw + _mac(self._cookie_key, raw)), self.trace(raw)

    def session_of(self, cookie: str) -> bytes:
        """The key touches of this browser are stored under. Raises ``InvalidTouchToken``."""
        raw = _decoded(cookie)
        body = raw[:_ID]
        if not hmac.compare_digest(raw[_ID:], _mac(self._cookie_key, body)):
            raise InvalidTouchToken("this cookie was not set here")
        return self.trace(body)

    def sessions_of(self, cookies: Iterable[str]) -> list[bytes]:
        """Of the cookies that were set here; a storefront may pass on anything, and the rest proves nothing."""
        known = []
        for cookie in cookies:
            try:
                known.append(self.session_of(cookie))
            except InvalidTouchToken:
                continue
        return known

    def trace(self, value: bytes) -> bytes:
        """A keyed hash of something that is compared and never read back: 16 bytes."""
        return _mac(self._trace_key, value)


def _mac(key: bytes, body: bytes) -> bytes:
    """Keyed BLAKE2b (RFC 7693): a MAC by itself, ten times cheaper a call than HMAC through OpenSSL."""
    return hashlib.blake2b(body, key=key, digest_size=_MAC).digest()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decoded(text: str) -> bytes:
    if len(text) > _LONGEST:
        raise InvalidTouchToken("this token is too long to be one", field=PARAMETER)
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidTouchToken("this token is not base64url", field=PARAMETER) from error
    # Two spellings of the same bytes would be two tokens for one touch.
    if _encoded(raw) != text:
        raise InvalidTouchToken("this token is not base64url", field=PARAMETER)
    return raw
