"""A brand's track record: rates from counts, shown only where they tell nothing of a single partner; pure.

Nothing here can be typed in. Counts cover ``WINDOW_DAYS``. A figure is shown only when at least ``LEAST_PARTNERS``
(k) partners and ``LEAST_ORDERS`` orders stand behind it, so that no reader can take one partner's business out of
it; conversion needs ``LEAST_CLICKS`` clicks too. Rates are rounded to 0.1 %, counts become bands.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from core.money import PPM
from marketplace.promotion.directory.models import AudienceBand

WINDOW_DAYS = 90
LEAST_PARTNERS = 3
LEAST_ORDERS = 30
LEAST_CLICKS = 300
LEAST_DUE = 30
_STEP_PPM = 1_000
_ORDER_BANDS = (30, 100, 1_000, 10_000, 100_000)
_PARTNER_BANDS = (3, 10, 30, 100)
_AUDIENCE = (1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one brand in one role. ``commissions_due`` fell due in the window, ``commissions_in_time`` of them were
    paid by the promised day; ``partners`` are those with at least one order."""

    clicks: int = 0
    orders: int = 0
    refunded_orders: int = 0
    disputed_orders: int = 0
    commissions_due: int = 0
    commissions_in_time: int = 0
    partners: int = 0
    members: int = 0


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """What others see: parts per million, ``None`` below the least volume; bands by their lower end."""

    conversion_ppm: int | None = None
    refund_ppm: int | None = None
    dispute_ppm: int | None = None
    punctual_ppm: int | None = None
    orders_from: int | None = None
    partners_from: int | None = None
    audience_counted: AudienceBand | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> TrackRecord:
        band = stored.get("audience_counted")
        return cls(**{**stored, "audience_counted": None if band is None else AudienceBand(band)})


def shown(counts: Counts) -> TrackRecord:
    """The part of a record that may be shown."""
    # How many people a brand reaches is its own number, in a band: no partner stands behind it.
    audience = audience_band(counts.members) if counts.members else None
    if counts.partners < LEAST_PARTNERS or counts.orders < LEAST_ORDERS:
        return TrackRecord(audience_counted=audience)
    enough_due = counts.commissions_due >= LEAST_DUE
    return TrackRecord(
        conversion_ppm=_rate(counts.orders, counts.clicks) if counts.clicks >= LEAST_CLICKS else None,
        refund_ppm=_rate(counts.refunded_orders, counts.orders),
        dispute_ppm=_rate(counts.disputed_orders, counts.orders),
        punctual_ppm=_rate(counts.commissions_in_time, counts.commissions_due) if enough_due else None,
        orders_from=_band(_ORDER_BANDS, counts.orders),
        partners_from=_band(_PARTNER_BANDS, counts.partners),
        audience_counted=audience,
    )


def audience_band(people: int) -> AudienceBand:
    return list(AudienceBand)[bisect_right(_AUDIENCE, people)]


def _rate(part: int, whole: int) -> int:
    """Rounded to the step, half up, and never above the whole: a click of before the window may convert in it."""
    exact = min(part, whole) * PPM
    return (2 * exact + _STEP_PPM * whole) // (2 * _STEP_PPM * whole) * _STEP_PPM


def _band(ends: tuple[int, ...], value: int) -> int:
    return ends[bisect_right(ends, value) - 1]
