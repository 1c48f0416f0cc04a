"""What a brand says of itself to possible partners, checked; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from infra.db.text import storable
from infra.search.text import tsvector
from marketplace.promotion.agreements.terms import (
    DEFAULT_WINDOW_S,
    HIGHEST_RATE_PPM,
    HOUR_S,
    LONGEST_WINDOW_S,
    RETURN_WINDOWS_DAYS,
    category_path,
)
from marketplace.promotion.directory.errors import BadPartnerProfile
from marketplace.promotion.directory.models import AudienceBand, PartnerRole

LONGEST_HEADLINE, LONGEST_TEXT = 120, 2_000
MOST_ENTRIES = 50
_CATEGORY = re.compile(r"[a-z0-9][a-z0-9_\-]*(/[a-z0-9][a-z0-9_\-]*)*")
_LONGEST_CATEGORY = 120
_REGION = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class PartnerProfile:
    """``offers`` and ``seeks`` are free text; rates are what the brand usually agrees on, of either side.

    ``categories`` are what it sells (category paths), ``sought_categories`` what its audience should be shown.
    ``regions`` are countries or parts of one (``CN``, ``CN-SH``).
    """

    headline: str
    roles: tuple[PartnerRole, ...]
    offers: str = ""
    seeks: str = ""
    categories: tuple[str, ...] = ()
    sought_categories: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    audience_band: AudienceBand | None = None
    rate_min_ppm: int | None = None
    rate_max_ppm: int | None = None
    window_s: int = DEFAULT_WINDOW_S
    return_window_days: int = 15

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> PartnerProfile:
        facts: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        facts["roles"] = tuple(PartnerRole(role) for role in stored["roles"])
        band = stored["audience_band"]
        facts["audience_band"] = None if band is None else AudienceBand(band)
        return cls(**facts)


def checked(profile: PartnerProfile) -> PartnerProfile:
    """In one form: texts stripped, lists without repeats. Raises ``BadPartnerProfile`` naming the field."""
    roles = tuple(dict.fromkeys(profile.roles))
    _require(bool(roles), "roles", "at least one side")
    categories = _categories(profile.categories, "categories")
    sought = _categories(profile.sought_categories, "soughtCategories")
    _check_terms(profile)
    if PartnerRole.PROMOTER in roles:
        _require(
            profile.audience_band is not None, "audienceBand", "whoever promotes says how many it reaches"
        )
    if PartnerRole.ADVERTISER in roles:
        _require(bool(categories), "categories", "whoever wants to be promoted says what it sells")
    return PartnerProfile(
        headline=_line(profile.headline, "headline"),
        roles=roles,
        offers=_text(profile.offers, "offers"),
        seeks=_text(profile.seeks, "seeks"),
        categories=categories,
        sought_categories=sought,
        regions=_regions(profile.regions),
        audience_band=profile.audience_band,
        rate_min_ppm=profile.rate_min_ppm,
        rate_max_ppm=profile.rate_max_ppm,
        window_s=profile.window_s,
        return_window_days=profile.return_window_days,
    )


def checked_category(value: str, *, field: str) -> str:
    fits = len(value) <= _LONGEST_CATEGORY and _CATEGORY.fullmatch(value) is not None
    _require(fits, field, "a category path such as beauty/skin")
    return value


def checked_region(value: str, *, field: str) -> str:
    _require(_REGION.fullmatch(value) is not None, field, "a country or a part of one, such as CN or CN-SH")
    return value


def category_paths(profile: PartnerProfile) -> list[str]:
    """Everything sold or sought with all ancestors: ``beauty`` finds whoever names ``beauty/skin``."""
    named = (*profile.categories, *profile.sought_categories)
    return sorted({path for category in named for path in category_path(category)})


def region_paths(profile: PartnerProfile) -> list[str]:
    return sorted({path for region in profile.regions for path in (region, region[:2])})


def tokens(profile: PartnerProfile, name: str) -> str:
    """The words a profile is found by, the name before all."""
    return tsvector(
        {
            "A": [name],
            "B": [profile.headline, *profile.categories, *profile.sought_categories],
            "C": [profile.offers, profile.seeks],
        }
    )


def _check_terms(profile: PartnerProfile) -> None:
    low, high = profile.rate_min_ppm, profile.rate_max_ppm
    _require((low is None) == (high is None), "rateMinPpm", "a lowest and a highest rate, or neither")
    if low is not None and high is not None:
        _require(0 <= low <= high <= HIGHEST_RATE_PPM, "rateMaxPpm", f"0 to {HIGHEST_RATE_PPM}, lowest first")
    _require(HOUR_S <= profile.window_s <= LONGEST_WINDOW_S, "windowS", "1 hour to 90 days")
    allowed = ", ".join(map(str, RETURN_WINDOWS_DAYS))
    _require(profile.return_window_days in RETURN_WINDOWS_DAYS, "returnWindowDays", f"one of {allowed}")


def _categories(values: Iterable[str], field: str) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(checked_category(value, field=field) for value in values))
    _require(len(named) <= MOST_ENTRIES, field, f"at most {MOST_ENTRIES}")
    return named


def _regions(values: Iterable[str]) -> tuple[str, ...]:
    named = tuple(dict.fromkeys(checked_region(value, field="regions") for value in values))
    _require(len(named) <= MOST_ENTRIES, "regions", f"at most {MOST_ENTRIES}")
    return named


def _line(value: str, field: str) -> str:
    line = value.strip()
    fits = 1 <= len(line) <= LONGEST_HEADLINE and line.isprintable() and storable(line)
    _require(fits, field, f"one line of 1 to {LONGEST_HEADLINE} characters")
    return line


def _text(value: str, field: str) -> str:
    fits = len(value) <= LONGEST_TEXT and storable(value)
    _require(fits, field, f"at most {LONGEST_TEXT} characters of real text")
    return value.strip()


def _require(holds: bool, field: str, allowed: str) -> None:
    if not holds:
        raise BadPartnerProfile(f"{field}: {allowed}", field=field)
