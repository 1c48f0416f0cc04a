"""Where it goes and who buys: checked at the edge, kept for delivery, keyed for every comparison."""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from dataclasses import asdict, dataclass
from typing import Any

from marketplace.audiences.identity import person_key
from marketplace.audiences.models import IdentifierKind
from marketplace.orders.errors import InvalidAddress

_LONGEST = 200
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_REGION = re.compile(r"[A-Z0-9]{1,3}\Z")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}\.[^@\s.]{2,}\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """``country`` is ISO 3166-1 alpha-2; ``region`` the part of ISO 3166-2 after the hyphen, or empty."""

    name: str
    line1: str
    city: str
    country: str
    region: str = ""
    line2: str = ""
    postal_code: str = ""
    phone: str = ""

    def __post_init__(self) -> None:
        for part in ("name", "line1", "city"):
            if not getattr(self, part).strip():
                raise InvalidAddress(f"an address needs its {part}", field=f"address.{part}")
        for part, value in asdict(self).items():
            if len(value) > _LONGEST or any(unicodedata.category(c) == "Cc" for c in value):
                raise InvalidAddress(f"at most {_LONGEST} printable characters", field=f"address.{part}")
        if not _COUNTRY.match(self.country):
            raise InvalidAddress("country is two capital letters (ISO 3166-1)", field="address.country")
        if self.region and not _REGION.match(self.region):
            raise InvalidAddress("region is the code after the hyphen of ISO 3166-2", field="address.region")

    @property
    def zone(self) -> str:
        return f"{self.country}-{self.region}" if self.region else self.country

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def checked_email(text: str) -> str:
    email = unicodedata.normalize("NFKC", text).strip().lower()
    if not _EMAIL.match(email):
        raise InvalidAddress("that is not an e-mail address", field="email")
    return email


def buyer_key(secret: str, email: str) -> bytes:
    """The same buyer gives the same 16 bytes at every brand; without the platform's secret they say nothing."""
    return bytes.fromhex(person_key(secret, IdentifierKind.EMAIL, email))


def address_key(secret: str, address: Address) -> bytes:
    parts = (address.line1, address.line2, address.city, address.zone, address.postal_code)
    return _keyed(secret, "address", "\x1f".join(" ".join(p.casefold().split()) for p in parts))


def _keyed(secret: str, purpose: str, value: str) -> bytes:
    text = unicodedata.normalize("NFKC", value)
    return hmac.digest(secret.encode(), f"{purpose}\x1e{text}".encode(), hashlib.sha256)[:16]
