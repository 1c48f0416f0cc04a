"""What names, tags, sizes and places of an audience may be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from core.money import EXPONENTS, UnknownCurrency
from marketplace.audiences.errors import BadAudienceField

LONGEST_NAME = 120
LONGEST_TAG = 64
MOST_TAGS = 50
LARGEST_SIZE = 10_000_000
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?")
_REGION = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


def checked_name(value: str, *, field: str = "name") -> str:
    name = unicodedata.normalize("NFKC", value).strip()
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise BadAudienceField(f"1 to {LONGEST_NAME} printable characters", field=field)
    return name


def checked_tags(values: Iterable[str]) -> list[str]:
    """Lower-case, NFKC, each once, in the order given. At most 50 of 64 characters."""
    tags: dict[str, None] = {}
    for value in values:
        tag = unicodedata.normalize("NFKC", value).strip().lower()
        if not tag or len(tag) > LONGEST_TAG or not tag.isprintable():
            raise BadAudienceField(f"a tag has 1 to {LONGEST_TAG} printable characters", field="tags")
        tags[tag] = None
    if len(tags) > MOST_TAGS:
        raise BadAudienceField(f"at most {MOST_TAGS} tags", field="tags")
    return list(tags)


def checked_locale(value: str) -> str:
    if not _LOCALE.fullmatch(value):
        raise BadAudienceField(f"{value[:16]!r} is not a locale such as zh-CN", field="locale")
    return value


def checked_region(value: str, *, field: str = "region") -> str:
    if not _REGION.fullmatch(value):
        raise BadAudienceField(f"{value[:16]!r} is not a country or region such as CN or CN-SH", field=field)
    return value


def checked_size(value: int) -> int:
    if not 0 <= value <= LARGEST_SIZE:
        raise BadAudienceField(f"a size is 0 to {LARGEST_SIZE}", field="declaredSize")
    return value


def checked_currency(value: str | None) -> str | None:
    if value is not None and value not in EXPONENTS:
        raise UnknownCurrency(value)
    return value
