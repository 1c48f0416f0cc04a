"""Standard Webhooks 1.0.0: how a message is signed, and how a receiver checks it.

The signature is HMAC-SHA256 over ``id.timestamp.body``, base64, after ``v1,``; several, for several secrets,
are separated by spaces, so that a receiver can change its secret without missing a message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

from core.errors import Invalid, Unauthenticated

PREFIX = "whsec_"
TOLERANCE_S = 300
_SHORTEST, _LONGEST = 24, 64


class BadWebhookSecret(Invalid):
    code = "BAD_WEBHOOK_SECRET"


class BadWebhookSignature(Unauthenticated):
    """Forged, altered, or older than five minutes (a replay)."""

    code = "BAD_WEBHOOK_SIGNATURE"


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str) -> bytes:
    """Raises ``BadWebhookSecret`` unless it is base64 of 24 to 64 bytes, with or without ``whsec_``."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadWebhookSecret("a webhook secret is whsec_ and base64") from error
    if not _SHORTEST <= len(key) <= _LONGEST:
        raise BadWebhookSecret(f"a webhook secret has {_SHORTEST} to {_LONGEST} bytes")
    return key


def sign(secret: str, *, message_id: str, timestamp: int, body: bytes) -> str:
    content = b".".join((message_id.encode(), str(timestamp).encode(), body))
    digest = hmac.new(key_of(secret), content, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def headers_of(secrets_: Sequence[str], *, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers; one signature per secret, the newest first."""
    timestamp = int(at.timestamp())
    signatures = [sign(each, message_id=message_id, timestamp=timestamp, body=body) for each in secrets_]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }


def verify(secrets_: Sequence[str], headers: Mapping[str, str], body: bytes, *, now: datetime) -> None:
    """For receivers and tests. ``headers`` have lower-case names. Raises ``BadWebhookSignature``."""
    try:
        message_id, stamp = headers["webhook-id"], headers["webhook-timestamp"]
        given, timestamp = headers["webhook-signature"].split(), int(stamp)
    except (KeyError, ValueError) as error:
        raise BadWebhookSignature("a webhook header is missing or malformed") from error
    if abs(now.timestamp() - timestamp) > TOLERANCE_S:
        raise BadWebhookSignature("the timestamp is more than five minutes off")
    expected = [sign(each, message_id=message_id, timestamp=timestamp, body=body) for each in secrets_]
    if not any(hmac.compare_digest(e.encode(), g.encode()) for e in expected for g in given):
        raise BadWebhookSignature("no signature matches")
