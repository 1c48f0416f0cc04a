"""When a party's statement period ends: pure calendar arithmetic in the party's own time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from core.errors import Invalid


class Cycle(StrEnum):
    DAILY = "daily"
    WEEKLY = "weekly"
    """From Monday."""
    HALF_MONTHLY = "half_monthly"
    """The 1st to the 15th, the 16th to the end."""
    MONTHLY = "monthly"


class UnknownTimeZone(Invalid):
    code = "UNKNOWN_TIME_ZONE"


def zone_of(name: str) -> ZoneInfo:
    """Raises ``UnknownTimeZone``."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise UnknownTimeZone(f"{name[:64]!r} is not a time zone") from error


def period_at(cycle: Cycle, zone: str, at: datetime) -> tuple[datetime, datetime]:
    """The period ``[from, to)`` that holds an instant, in UTC; it begins and ends at local midnight."""
    place = zone_of(zone)
    start, end = _days(cycle, at.astimezone(place).date())
    return _midnight(start, place), _midnight(end, place)


def _days(cycle: Cycle, day: date) -> tuple[date, date]:
    if cycle is Cycle.DAILY:
        return day, day + timedelta(days=1)
    if cycle is Cycle.WEEKLY:
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    if cycle is Cycle.MONTHLY:
        return first, following
    middle = first.replace(day=16)
    return (first, middle) if day < middle else (middle, following)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
