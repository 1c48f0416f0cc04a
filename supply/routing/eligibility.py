"""Who may serve a line at all, and what it would cost: the hard rules and the cost of one (line, offer).

Pure. Money is ``int`` in minor units of the order's currency, weights are grams, instants UTC. An offer in
another currency has no price for this order and is ``PRICE_EXPIRED``. Rules: the supply contract, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from core.money import PPM, half_up_ratio

_DAY = timedelta(days=1)


class RejectCode(StrEnum):
    """Why an offer cannot serve a line: the closed list, in the sequence of the tests."""

    SUPPLIER_PAUSED = "SUPPLIER_PAUSED"
    BRAND_NOT_AUTHORISED = "BRAND_NOT_AUTHORISED"
    PREVIOUSLY_REJECTED = "PREVIOUSLY_REJECTED"
    PRICE_EXPIRED = "PRICE_EXPIRED"
    ZONE_NOT_SERVED = "ZONE_NOT_SERVED"
    STALE_FEED = "STALE_FEED"
    NO_STOCK = "NO_STOCK"
    MOQ = "MOQ"
    CAPACITY = "CAPACITY"
    WEIGHT_LIMIT = "WEIGHT_LIMIT"
    TOO_LATE = "TOO_LATE"


@dataclass(frozen=True, slots=True)
class ZoneRate:
    """What a location asks to ship to the order's zone; ``base_minor`` once a shipment."""

    base_minor: int
    per_kg_minor: int = 0
    per_item_minor: int = 0
    transit_p50_h: int = 0
    transit_p90_h: int = 0
    max_weight_g: int | None = None


@dataclass(frozen=True, slots=True)
class OfferFact:
    """A supplier's offer of one SKU at one location, as it stands when the order is routed.

    ``available`` is what can be promised (ATP). ``feed_as_of`` is ``None`` for stock the supplier keeps with
    us; ``feed_max_age_s`` overrides the policy's. ``preference`` is −100 to 100. ``capacity_left`` is units.
    """

    offer_id: str
    supplier_id: str
    location_id: str
    sku: str
    unit_cost_minor: int
    currency: str
    available: int
    valid_from: datetime
    zone_rate: ZoneRate | None
    moq: int = 1
    order_multiple: int = 1
    lead_time_hours: int = 0
    feed_as_of: datetime | None = None
    feed_max_age_s: int | None = None
    valid_to: datetime | None = None
    supplier_active: bool = True
    capacity_left: int | None = None
    authorised: bool = True
    preference: int = 0
    priority: int = 0
    score_ppm: int = PPM
    handling_minor: int = 0


@dataclass(frozen=True, slots=True)
class LineFact:
    """``weight_g`` is one unit's."""

    line_id: str
    sku: str
    quantity: int
    weight_g: int = 0


@dataclass(frozen=True, slots=True)
class OrderNeed:
    """One order to route. ``latest_at`` is hard; beyond ``wanted_at`` lateness costs. ``excluded`` holds
    (line id, location id) pairs that refused before."""

    lines: tuple[LineFact, ...]
    brand_id: str
    dest_zone: str
    currency: str
    at: datetime
    wanted_at: datetime | None = None
    latest_at: datetime | None = None
    excluded: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class RoutingPolicy:
    """Weights of the objective, immutable per version."""

    version: int = 1
    split_penalty_minor: int = 0
    """Per shipment."""
    late_minor_per_day: int = 0
    """Per line and started day beyond ``wanted_at``."""
    slowest_parcel_minor_per_hour: int = 0
    """Per order and hour of its slowest parcel beyond ``wanted_at`` (or beyond the order itself)."""
    score_weight_minor: int = 0
    """Per line served by a supplier with a score of 0."""
    preference_weight_minor: int = 0
    """Per line and point of preference."""
    unfilled_penalty_minor: int = 10_000_000
    """Per line."""
    max_splits: int | None = None
    """Shipments beyond the first."""
    feed_max_age_s: int = 86_400
    split_lines: bool = True
    """Whether a line that nobody holds whole may be cut."""


@dataclass(frozen=True, slots=True)
class CostBreakdown:
    """What a line costs at one offer. ``base``, ``handling`` and ``split`` are paid once for a shipment."""

    goods_minor: int
    freight_minor: int
    """By weight and quantity."""
    late_minor: int
    score_minor: int
    preference_minor: int
    """Negative where the brand prefers the supplier."""
    base_freight_minor: int
    handling_minor: int
    split_minor: int

    @property
    def line_minor(self) -> int:
        return (
            self.goods_minor + self.freight_minor + self.late_minor + self.score_minor + self.preference_minor
        )

    @property
    def shipment_minor(self) -> int:
        return self.base_freight_minor + self.handling_minor + self.split_minor


def reject_code(
    need: OrderNeed, line: LineFact, offer: OfferFact, policy: RoutingPolicy
) -> RejectCode | None:
    """The first hard rule the offer breaks for the whole line; ``None`` when it may serve it."""
    code = reject_at_any_quantity(need, line, offer, policy)
    if code is not None:
        return code
    if offer.available < line.quantity:
        return RejectCode.NO_STOCK
    if line.quantity < offer.moq or line.quantity % offer.order_multiple:
        return RejectCode.MOQ
    if offer.capacity_left is not None and offer.capacity_left < line.quantity:
        return RejectCode.CAPACITY
    rate = offer.zone_rate
    if (
        rate is not None
        and rate.max_weight_g is not None
        and line.weight_g * line.quantity > rate.max_weight_g
    ):
        return RejectCode.WEIGHT_LIMIT
    if need.latest_at is not None and arrival(need, offer) > need.latest_at:
        return RejectCode.TOO_LATE
    return None


def reject_at_any_quantity(
    need: OrderNeed, line: LineFact, offer: OfferFact, policy: RoutingPolicy
) -> RejectCode | None:
    """The rules that no smaller quantity would mend."""
    if not offer.supplier_active:
        return RejectCode.SUPPLIER_PAUSED
    if not offer.authorised:
        return RejectCode.BRAND_NOT_AUTHORISED
    if (line.line_id, offer.location_id) in need.excluded:
        return RejectCode.PREVIOUSLY_REJECTED
    if (
        offer.currency != need.currency
        or need.at < offer.valid_from
        or (offer.valid_to is not None and need.at >= offer.valid_to)
    ):
        return RejectCode.PRICE_EXPIRED
    if offer.zone_rate is None:
        return RejectCode.ZONE_NOT_SERVED
    max_age_s = policy.feed_max_age_s if offer.feed_max_age_s is None else offer.feed_max_age_s
    if offer.feed_as_of is not None and need.at - offer.feed_as_of > timedelta(seconds=max_age_s):
        return RejectCode.STALE_FEED
    return RejectCode.NO_STOCK if offer.available <= 0 else None


def divisible_stock(need: OrderNeed, line: LineFact, offer: OfferFact, policy: RoutingPolicy) -> int:
    """The most units of the line this offer could take as a part of it; 0 when it may take none."""
    if reject_at_any_quantity(need, line, offer, policy) is not None:
        return 0
    units = min(offer.available, line.quantity)
    if offer.capacity_left is not None:
        units = min(units, offer.capacity_left)
    rate = offer.zone_rate
    if rate is not None and rate.max_weight_g is not None and line.weight_g:
        units = min(units, rate.max_weight_g // line.weight_g)
    units -= units % offer.order_multiple
    late = need.latest_at is not None and arrival(need, offer) > need.latest_at
    return 0 if late or units < offer.moq else units


def arrival(need: OrderNeed, offer: OfferFact) -> datetime:
    """When nine of ten parcels have come: lead time and the zone's slow transit, from the order on."""
    return need.at + timedelta(hours=hours_to_arrive(offer))


def hours_to_arrive(offer: OfferFact) -> int:
    return offer.lead_time_hours + (offer.zone_rate.transit_p90_h if offer.zone_rate else 0)


def cost_of(need: OrderNeed, line: LineFact, offer: OfferFact, policy: RoutingPolicy) -> CostBreakdown:
    """What the line costs there. Raises ``ValueError`` for an offer that does not serve the zone.

    Weight freight is per line, grams × rate / 1000 rounded up to the minor unit: carriers round up, and
    rounding the whole shipment would make the cost of a line depend on its neighbours.
    """
    rate = offer.zone_rate
    if rate is None:
        raise ValueError(f"{offer.offer_id} does not serve {need.dest_zone}")
    by_weight = -(-line.weight_g * line.quantity * rate.per_kg_minor // 1_000)
    late_days = 0
    if policy.late_minor_per_day and need.wanted_at is not None:
        late_days = max(-((need.wanted_at - arrival(need, offer)) // _DAY), 0)
    return CostBreakdown(
        goods_minor=offer.unit_cost_minor * line.quantity,
        freight_minor=by_weight + rate.per_item_minor * line.quantity,
        late_minor=late_days * policy.late_minor_per_day,
        score_minor=half_up_ratio(policy.score_weight_minor * (PPM - offer.score_ppm), PPM),
        preference_minor=-policy.preference_weight_minor * offer.preference,
        base_freight_minor=rate.base_minor,
        handling_minor=offer.handling_minor,
        split_minor=policy.split_penalty_minor,
    )
