"""What may be shown of a brand's figures: rates from counts, nothing small enough to name a partner."""

from __future__ import annotations

from dataclasses import replace

import pytest

from marketplace.promotion.directory.models import AudienceBand
from marketplace.promotion.directory.track_record import Counts, TrackRecord, audience_band, shown

ENOUGH = Counts(
    clicks=2_000, orders=50, refunded_orders=4, disputed_orders=1, commissions_due=40, commissions_in_time=38,
    partners=3, members=12_000,
)  # fmt: skip


def test_rates_are_parts_of_the_counts_rounded_to_a_tenth_of_a_percent() -> None:
    assert shown(ENOUGH) == TrackRecord(
        conversion_ppm=25_000,  # 50 / 2,000
        refund_ppm=80_000,  # 4 / 50
        dispute_ppm=20_000,  # 1 / 50
        punctual_ppm=950_000,  # 38 / 40
        orders_from=30,
        partners_from=3,
        audience_counted=AudienceBand.FROM_10K,
    )
    assert shown(replace(ENOUGH, clicks=1_234)).conversion_ppm == 41_000  # 40.519 per mille
    assert shown(replace(ENOUGH, clicks=400, orders=50)).conversion_ppm == 125_000


@pytest.mark.parametrize("few", [{"partners": 2}, {"orders": 29}, {"partners": 0, "orders": 0}])
def test_below_the_least_volume_nothing_but_the_audience_is_shown(few: dict[str, int]) -> None:
    assert shown(replace(ENOUGH, **few)) == TrackRecord(audience_counted=AudienceBand.FROM_10K)


def test_each_rate_needs_its_own_volume() -> None:
    assert shown(replace(ENOUGH, clicks=299)).conversion_ppm is None
    assert shown(replace(ENOUGH, commissions_due=29, commissions_in_time=29)).punctual_ppm is None
    assert shown(replace(ENOUGH, clicks=299)).refund_ppm == 80_000


@pytest.mark.parametrize(
    ("orders", "band"), [(30, 30), (99, 30), (100, 100), (1_000, 1_000), (99_999, 10_000), (10**6, 100_000)]
)
def test_counts_are_told_in_bands(orders: int, band: int) -> None:
    assert shown(replace(ENOUGH, orders=orders)).orders_from == band


def test_orders_of_clicks_before_the_window_never_make_more_than_all() -> None:
    assert shown(replace(ENOUGH, clicks=300, orders=400)).conversion_ppm == 1_000_000


@pytest.mark.parametrize(
    ("people", "band"),
    [(0, "UNDER_1K"), (999, "UNDER_1K"), (1_000, "FROM_1K"), (99_999, "FROM_10K"), (10**7, "FROM_1M")],
)
def test_an_audience_falls_into_a_power_of_ten(people: int, band: str) -> None:
    assert audience_band(people) == band


def test_a_record_reads_back_as_it_was_written() -> None:
    assert TrackRecord.from_json(shown(ENOUGH).to_json()) == shown(ENOUGH)
