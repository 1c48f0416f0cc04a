"""Destination zones: an ISO 3166-1 country, or country-region (``CN``, ``CN-SH``).

A rate for a zone serves it and every zone inside it; the longest one that serves wins.
"""

from __future__ import annotations

import re

from supply.suppliers.errors import BadZone

_ZONE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,10})*")


def zone(country: str, region: str | None = None) -> str:
    """Raises ``BadZone`` for anything that is not a two-letter country with a short region."""
    return checked_zone(f"{country}-{region}" if region else country)


def checked_zone(text: str) -> str:
    wanted = text.strip().upper()
    if not _ZONE.fullmatch(wanted):
        raise BadZone(f"{text[:32]!r} is not a zone like CN or CN-SH", field="dest_zone")
    return wanted


def serves(rate_zone: str, dest_zone: str) -> bool:
    return rate_zone == dest_zone or dest_zone.startswith(rate_zone + "-")
