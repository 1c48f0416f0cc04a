"""What a product, a variant and a price may look like. Every entrance, the import too, goes through here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from core.money import MAX_MINOR, CurrencyMismatch, Money
from infra.db.text import storable
from marketplace.catalog.errors import (
    InvalidAttributes,
    InvalidCategory,
    InvalidGtin,
    InvalidHandle,
    InvalidMedia,
    InvalidPrice,
    InvalidProductText,
    InvalidSku,
    InvalidTag,
    InvalidWeight,
)

LONGEST_TITLE = 255
LONGEST_DESCRIPTION = 20_000
LONGEST_SKU = 64
LONGEST_URL = 2_000
MOST_TAGS = 50
MOST_MEDIA = 30
MOST_ATTRIBUTES = 50
MOST_OPTIONS = 5
HEAVIEST_G = 1_000_000
DEEPEST_CATEGORY = 6

_HANDLE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?")
_SEGMENT = re.compile(r"[\w][\w &+.-]{0,49}")
_NOT_HANDLE = re.compile(r"[^a-z0-9]+")
_GTIN = re.compile(r"[0-9]{8}|[0-9]{12,14}")
_UNSEEN = ("Cc", "Cs", "Co", "Cn")


def title(text: str, *, field: str) -> str:
    return _text(text, LONGEST_TITLE, field=field, lines=False)


def description(text: str, *, field: str) -> str:
    return _text(text, LONGEST_DESCRIPTION, field=field, lines=True)


def _text(text: str, longest: int, *, field: str, lines: bool) -> str:
    """NFC, trimmed, possibly empty. Raises ``InvalidProductText``."""
    clean = unicodedata.normalize("NFC", text).strip()
    allowed = "\n\r\t" if lines else ""
    if len(clean) > longest or any(unicodedata.category(c) in _UNSEEN and c not in allowed for c in clean):
        raise InvalidProductText(f"at most {longest} characters, no control characters", field=field)
    return clean


def handle(text: str) -> str:
    if not _HANDLE.fullmatch(text):
        raise InvalidHandle("a handle is 1 to 100 of a-z, 0-9 and inner hyphens", field="handle")
    return text


def handle_from(*names: str, otherwise: str) -> str:
    """A handle out of the first name that has Latin letters or digits, or else of ``otherwise``."""
    for name in (*names, otherwise):
        plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        if slug := _NOT_HANDLE.sub("-", plain).strip("-")[:80].rstrip("-"):
            return slug
    raise InvalidHandle("no handle can be made of this", field="handle")


def sku(text: str) -> str:
    clean = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(clean) <= LONGEST_SKU or any(c.isspace() or not c.isprintable() for c in clean):
        raise InvalidSku(f"a SKU is 1 to {LONGEST_SKU} visible characters without spaces", field="sku")
    return clean


def gtin(text: str) -> str:
    """GTIN-8, -12, -13 or -14 with a right check digit (GS1 General Specifications, 7.9)."""
    if not _GTIN.fullmatch(text) or sum(int(d) * (3, 1)[i % 2] for i, d in enumerate(text[-2::-1])) % 10 != (
        -int(text[-1]) % 10
    ):
        raise InvalidGtin("not a GTIN, or its check digit is wrong", field="gtin")
    return text


def category(text: str) -> str:
    """A path like ``beauty/skin/cream``; '' for none. Lower case."""
    path = unicodedata.normalize("NFKC", text).strip().strip("/").lower()
    segments = [segment.strip() for segment in path.split("/")] if path else []
    if len(segments) > DEEPEST_CATEGORY or not all(map(_SEGMENT.fullmatch, segments)):
        raise InvalidCategory(f"a path of at most {DEEPEST_CATEGORY} words joined by /", field="category")
    return "/".join(segments)


def tags(values: Iterable[str]) -> list[str]:
    """Distinct, NFKC, lower case, in their order."""
    clean = list(dict.fromkeys(unicodedata.normalize("NFKC", value).strip().lower() for value in values))
    if len(clean) > MOST_TAGS or any(not 1 <= len(tag) <= 50 or not tag.isprintable() for tag in clean):
        raise InvalidTag(f"at most {MOST_TAGS} tags of 1 to 50 characters", field="tags")
    return clean


def media(items: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Addresses of pictures and films, never their bytes: ``{url, alt, kind: image|video}``."""
    if len(items) > MOST_MEDIA:
        raise InvalidMedia(f"at most {MOST_MEDIA} media", field="media")
    return [_medium(item) for item in items]


def _medium(item: Mapping[str, Any]) -> dict[str, str]:
    url, alt, kind = str(item.get("url", "")), str(item.get("alt") or ""), str(item.get("kind") or "image")
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        fine = False
    if not fine or len(url) > LONGEST_URL or not url.isprintable() or " " in url:
        raise InvalidMedia("a media URL is http or https", field="media")
    if kind not in ("image", "video") or len(alt) > LONGEST_TITLE or not storable(alt):
        raise InvalidMedia("kind is image or video, alt at most 255 characters", field="media")
    return {"url": url, "alt": alt, "kind": kind}


def attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Short names to short texts, numbers, flags, or lists of texts."""
    clean = {str(key).strip(): value for key, value in values.items()}
    if len(clean) > MOST_ATTRIBUTES or not all(_is_attribute(k, v) for k, v in clean.items()):
        raise InvalidAttributes(
            f"at most {MOST_ATTRIBUTES}; texts, whole numbers, flags or lists of texts", field="attributes"
        )
    return clean


def _is_attribute(key: str, value: Any) -> bool:
    if not 1 <= len(key) <= 50 or not storable(key):
        return False
    if isinstance(value, bool):
        return True
    if isinstance(value, int):
        return abs(value) < 2**53
    if isinstance(value, str):
        return len(value) <= 500 and storable(value)
    return (
        isinstance(value, list)
        and len(value) <= 50
        and all(isinstance(v, str) and len(v) <= 200 and storable(v) for v in value)
    )


def options(values: Mapping[str, Any]) -> dict[str, str]:
    """What sets a variant apart: ``{"colour": "red", "size": "M"}``."""
    clean = {str(k).strip(): str(v).strip() for k, v in values.items()}
    if len(clean) > MOST_OPTIONS or not all(
        1 <= len(k) <= 50 and 1 <= len(v) <= 100 and (k + v).isprintable() for k, v in clean.items()
    ):
        raise InvalidAttributes(
            f"at most {MOST_OPTIONS} options, each a short name and value", field="options"
        )
    return clean


def weight_g(value: int) -> int:
    if not 0 <= value <= HEAVIEST_G:
        raise InvalidWeight(f"0 to {HEAVIEST_G} grams", field="weightG")
    return value


def price(amount: Money, compare_at: Money | None) -> None:
    """Raises ``InvalidPrice`` or ``CurrencyMismatch``."""
    if not 0 < amount.amount_minor <= MAX_MINOR:
        raise InvalidPrice("a price is more than nothing", field="price")
    if compare_at is None:
        return
    if compare_at.currency != amount.currency:
        raise CurrencyMismatch(amount.currency, compare_at.currency)
    if not amount.amount_minor < compare_at.amount_minor <= MAX_MINOR:
        raise InvalidPrice("the price to compare with is above the price", field="compareAt")
