"""Who someone is, without keeping who they are: normalise, hash under the brand's key, encrypt.

Keys are derived from the platform's secret for each brand, so that the same phone number is another subject
key at every brand and a leak of one brand's table says nothing about another's. A hash is de-identified, not
anonymous: it is still personal information.
"""

from __future__ import annotations

import hmac
import os
import re
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.ids import BrandId
from marketplace.audiences.errors import MalformedIdentifier
from marketplace.audiences.models import IdentifierKind as IdentifierKind

_NONCE_BYTES = 12
_LONGEST = 254
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_PHONE_MARKS = re.compile(r"[\s().\-\u2010-\u2015]")
_CHINESE_MOBILE = re.compile(r"1[3-9][0-9]{9}")
_EMAIL = re.compile(r"[^\s@]{1,64}@[^\s@.]+(\.[^\s@.]+)+")
_OPAQUE = re.compile(r"[\x21-\x7e]{1,128}")


def normalise(kind: IdentifierKind, value: str) -> str:
    """One spelling for one identifier: phones as E.164 (a bare Chinese mobile gets +86), e-mail lower-case.

    Everything is NFKC first, so that full-width digits are digits. Raises ``MalformedIdentifier``.
    """
    text = unicodedata.normalize("NFKC", value).strip()
    if len(text) > _LONGEST:
        raise MalformedIdentifier(kind, f"longer than {_LONGEST} characters")
    if kind is IdentifierKind.PHONE:
        return _phone(text)
    if kind is IdentifierKind.EMAIL:
        if not _EMAIL.fullmatch(text):
            raise MalformedIdentifier(kind, "it has no form local@domain")
        return text.lower()
    if not _OPAQUE.fullmatch(text):
        raise MalformedIdentifier(kind, "1 to 128 printable ASCII characters without spaces are allowed")
    return text


def _phone(text: str) -> str:
    digits = _PHONE_MARKS.sub("", text)
    if _CHINESE_MOBILE.fullmatch(digits):
        digits = f"+86{digits}"
    elif digits.startswith("00"):
        digits = f"+{digits[2:]}"
    if not _E164.fullmatch(digits):
        raise MalformedIdentifier(IdentifierKind.PHONE, "write it with its country code, e.g. +86…")
    return digits


def _derived(secret: str, purpose: str, brand_id: BrandId | None) -> bytes:
    scope = brand_id.bytes if brand_id is not None else b""
    return hmac.digest(secret.encode(), purpose.encode() + b"\0" + scope, "sha256")


def subject_key(secret: str, brand_id: BrandId, kind: IdentifierKind, normalised: str) -> bytes:
    """The 32 bytes a contact of this brand is found by."""
    return hmac.digest(_derived(secret, "subject", brand_id), f"{kind}\0{normalised}".encode(), "sha256")


def person_key(secret: str, kind: IdentifierKind, normalised: str) -> str:
    """The same person at every brand, for the platform's own checks (self-purchase). Never shown."""
    digest = hmac.digest(_derived(secret, "person", None), f"{kind}\0{normalised}".encode(), "sha256")
    return digest[:16].hex()


class IdentityVault:
    """Hashes and seals identifiers with keys made from the platform's secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def key(self, brand_id: BrandId, kind: IdentifierKind, normalised: str) -> bytes:
        return subject_key(self._secret, brand_id, kind, normalised)

    def person(self, kind: IdentifierKind, normalised: str) -> str:
        return person_key(self._secret, kind, normalised)

    def seal(self, brand_id: BrandId, kind: IdentifierKind, normalised: str) -> bytes:
        """AES-256-GCM: nonce, ciphertext and tag; bound to the brand and the kind."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher(brand_id).encrypt(nonce, normalised.encode(), _bound(brand_id, kind))

    def open(self, brand_id: BrandId, kind: IdentifierKind, sealed: bytes) -> str:
        """Raises ``ValueError`` when it was sealed for another brand or kind, or changed since."""
        try:
            plain = self._cipher(brand_id).decrypt(
                sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(brand_id, kind)
            )
        except InvalidTag as error:
            raise ValueError("this was not sealed for this brand and kind") from error
        return plain.decode()

    def _cipher(self, brand_id: BrandId) -> AESGCM:
        return AESGCM(_derived(self._secret, "identifier", brand_id))


def _bound(brand_id: BrandId, kind: IdentifierKind) -> bytes:
    return brand_id.bytes + kind.encode()
