"""Periods begin and end at the party's own midnight. Expected instants are from the calendar."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supply.settlement.statements.cycles import Cycle, UnknownTimeZone, period_at


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("cycle", "zone", "at", "expected"),
    [
        (Cycle.MONTHLY, "UTC", utc(2026, 2, 28, 23, 59), (utc(2026, 2, 1), utc(2026, 3, 1))),
        (Cycle.MONTHLY, "Asia/Shanghai", utc(2026, 2, 28, 16), (utc(2026, 2, 28, 16), utc(2026, 3, 31, 16))),
        (Cycle.HALF_MONTHLY, "UTC", utc(2026, 12, 15, 23), (utc(2026, 12, 1), utc(2026, 12, 16))),
        (Cycle.HALF_MONTHLY, "UTC", utc(2026, 12, 16), (utc(2026, 12, 16), utc(2027, 1, 1))),
        # 2026-03-02 is a Monday.
        (Cycle.WEEKLY, "UTC", utc(2026, 3, 8, 23), (utc(2026, 3, 2), utc(2026, 3, 9))),
        # In New York the 8th of March 2026 has 23 hours.
        (Cycle.DAILY, "America/New_York", utc(2026, 3, 8, 12), (utc(2026, 3, 8, 5), utc(2026, 3, 9, 4))),
    ],
)
def test_a_period_is_the_calendars(
    cycle: Cycle, zone: str, at: datetime, expected: tuple[datetime, datetime]
) -> None:
    assert period_at(cycle, zone, at) == expected


@given(
    st.sampled_from(Cycle),
    st.sampled_from(["UTC", "Asia/Shanghai", "America/New_York", "Pacific/Auckland", "America/Sao_Paulo"]),
    st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
)
def test_periods_follow_each_other_without_gap(cycle: Cycle, zone: str, at: datetime) -> None:
    start, end = period_at(cycle, zone, at)
    assert start <= at < end
    assert period_at(cycle, zone, end)[0] == end
    assert period_at(cycle, zone, start) == (start, end)


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(UnknownTimeZone):
        period_at(Cycle.DAILY, "Mars/Olympus", utc(2026, 1, 1))
