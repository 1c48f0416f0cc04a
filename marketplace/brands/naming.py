"""Names, addresses and codes that people type, checked and put into one form."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from core.money import EXPONENTS, UnknownCurrency
from infra.db.text import storable
from marketplace.brands.errors import InvalidCountry, InvalidEmail, InvalidLocale, InvalidName, InvalidText

LONGEST_NAME = 120
LONGEST_TEXT = 5_000
LONGEST_EMAIL = 254
MOST_LABELS = 50
LOCALES = frozenset({"zh-CN", "zh-TW", "zh-HK", "en"})

_EMAIL = re.compile(r"[^\s@<>\"]+@[^\s@<>\"]+\.[^\s@<>\".]{2,}")
_COUNTRY = re.compile(r"[A-Z]{2}")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn")


def checked_name(text: str, *, field: str = "name") -> str:
    """One line of 1 to 120 characters in NFC. Raises ``InvalidName``."""
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= LONGEST_NAME or any(unicodedata.category(c) in _UNSEEN for c in name):
        raise InvalidName(f"a name is one line of 1 to {LONGEST_NAME} characters", field=field)
    return name


def checked_text(text: str, *, field: str, longest: int = LONGEST_TEXT) -> str:
    """Any text, possibly empty. Raises ``InvalidText``."""
    if len(text) > longest or not storable(text):
        raise InvalidText(f"at most {longest} characters of real text", field=field)
    return text.strip()


def checked_labels(labels: Iterable[str], *, field: str) -> list[str]:
    """Distinct labels in their order. Raises ``InvalidText`` above 50."""
    distinct = list(dict.fromkeys(checked_name(label, field=field) for label in labels))
    if len(distinct) > MOST_LABELS:
        raise InvalidText(f"at most {MOST_LABELS} entries", field=field)
    return distinct


def checked_email(text: str) -> str:
    """Lower case. Raises ``InvalidEmail``: only gross errors are found, the mail itself is the proof."""
    email = text.strip().lower()
    if len(email) > LONGEST_EMAIL or not _EMAIL.fullmatch(email):
        raise InvalidEmail("this is not an e-mail address", field="email")
    return email


def checked_country(code: str) -> str:
    """ISO 3166-1 alpha-2 by form. Raises ``InvalidCountry``."""
    if not _COUNTRY.fullmatch(code):
        raise InvalidCountry("a country is two capital letters (ISO 3166-1)", field="country")
    return code


def checked_currency(code: str) -> str:
    """Raises ``UnknownCurrency``."""
    if code not in EXPONENTS:
        raise UnknownCurrency(code)
    return code


def checked_locale(locale: str) -> str:
    if locale not in LOCALES:
        raise InvalidLocale(f"one of {', '.join(sorted(LOCALES))}", field="locale")
    return locale


def slug_of(name: str) -> str:
    """ASCII words joined by hyphens, at most 48 letters; empty when the name has none (Chinese names)."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return _NOT_SLUG.sub("-", plain).strip("-")[:48].rstrip("-")
