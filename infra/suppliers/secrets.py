"""Keeps secrets that we must be able to use again: AES-256-GCM under a key derived from the platform's secret."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
_PURPOSE = b"webhook endpoint secret"


class SecretBox:
    def __init__(self, platform_secret: str) -> None:
        self._cipher = AESGCM(hmac.new(platform_secret.encode(), _PURPOSE, hashlib.sha256).digest())

    def seal(self, plain: str, *, owner: str) -> bytes:
        """``owner`` (the endpoint's id) is bound in: a sealed secret opens nowhere else."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain.encode(), owner.encode())

    def open(self, sealed: bytes, *, owner: str) -> str:
        """Raises ``cryptography.exceptions.InvalidTag`` for a secret sealed for another owner or key."""
        return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], owner.encode()).decode()
