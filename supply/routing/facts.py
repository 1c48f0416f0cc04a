"""What the router has to know about an order's variants: offers, stock, freight, trust and load, in one read.

The router knows a sellable thing by its variant id and money by the order's currency; offers in another one
come along so that the trace can say why they were not taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, LocationId, OfferId, SupplierId, VariantId
from supply.routing.eligibility import OfferFact, OrderNeed, ZoneRate

_EVER = datetime(2000, 1, 1, tzinfo=UTC)

# Longest zone first, then the cheapest of its services; capacity counts shipments submitted or planned today.
_OFFERS = """
SELECT {place}o.id, o.supplier_id, o.location_id, o.variant_id, o.currency, o.moq, o.order_multiple,
    o.lead_time_hours + l.handling_hours AS lead_time_hours, o.priority, o.valid_from, o.valid_to,
    c.unit_cost_minor, c.price_version,
    coalesce(greatest(s.on_hand - s.short - s.reserved - s.safety, 0), 0) AS available, s.source_as_of,
    p.feed_stale_after_min, l.handling_minor,
    p.status = 'active' AND l.status = 'active' AS active,
    o.status = 'active' OR (o.status = 'paused' AND o.paused_until <= {now}) AS open, o.status AS offer_status,
    supplier_is_authorised(o.brand_id, o.supplier_id, {now}) AS authorised,
    coalesce((SELECT r.preference FROM brand_supplier_rules r
              WHERE r.brand_id = o.brand_id AND r.supplier_id = o.supplier_id), 0) AS preference,
    CASE WHEN l.daily_capacity IS NOT NULL THEN l.daily_capacity - (
        SELECT count(*) FROM fulfillment_orders f
        WHERE f.location_id = l.id AND f.status NOT IN ('CANCELLED', 'ON_HOLD')
          AND coalesce(f.submitted_at, f.created_at) >= date_trunc('day', {day}, p.tz))
    END AS shipments_left,
    z.base_minor, z.per_kg_minor, z.per_item_minor, z.transit_p50_h, z.transit_p90_h, z.max_weight_g
FROM {asked}supplier_offers o{matching}
JOIN suppliers p ON p.id = o.supplier_id
JOIN locations l ON l.id = o.location_id
LEFT JOIN stock_levels s ON s.location_id = o.location_id AND s.variant_id = o.variant_id
LEFT JOIN LATERAL (
    SELECT p.unit_cost_minor, p.price_version FROM offer_price_changes p
    WHERE p.offer_id = o.id AND p.effective_at <= {now}
    ORDER BY p.effective_at DESC, p.price_version DESC LIMIT 1) c ON true
LEFT JOIN LATERAL (
    SELECT * FROM zone_rates z
    WHERE z.location_id = o.location_id AND zone_serves(z.dest_zone, {zone})
    ORDER BY length(z.dest_zone) DESC, z.base_minor, z.service LIMIT 1) z ON true
WHERE {wanted}o.status <> 'ended'
ORDER BY {sequence}o.id
"""
_FOR_ONE = text(
    _OFFERS.format(
        place="", asked="", matching="", sequence="", now=":now", day="CAST(:now AS timestamptz)", zone=":zone",
        wanted="o.variant_id = ANY(:variants) AND o.brand_id = :brand_id AND ",
    )
)  # fmt: skip
_FOR_MANY = text(
    _OFFERS.format(
        place="w.place, ", sequence="w.place, ", now="w.now", day="w.now", zone="w.zone", wanted="",
        asked="jsonb_to_recordset(CAST(:asked AS jsonb))"
        " AS w(place int, now timestamptz, zone varchar, brand_id uuid, variant_id uuid) JOIN ",
        matching=" ON o.variant_id = w.variant_id AND o.brand_id = w.brand_id",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """``price_versions``: the version each offer's cost is of, to freeze with the order."""

    offers: tuple[OfferFact, ...]
    price_versions: dict[str, int]


async def facts_for(session: AsyncSession, need: OrderNeed) -> Facts:
    """One statement. Needs a SYSTEM session: offers and stock are of many suppliers."""
    rows = await session.execute(
        _FOR_ONE,
        {
            "now": need.at, "zone": need.dest_zone, "brand_id": BrandId.parse(need.brand_id),
            "variants": [VariantId.parse(line.sku) for line in need.lines],
        },
    )  # fmt: skip
    return _facts(rows.all())


async def facts_for_many(session: AsyncSession, needs: Sequence[OrderNeed]) -> list[Facts]:
    """The same for many orders, each as of its own time. One statement."""
    asked = [
        {
            "place": place, "now": need.at, "zone": need.dest_zone, "variant_id": VariantId.parse(sku).hex,
            "brand_id": BrandId.parse(need.brand_id).hex,
        }
        for place, need in enumerate(needs)
        for sku in {line.sku for line in need.lines}
    ]  # fmt: skip
    found: list[list[Row[Any]]] = [[] for _ in needs]
    for row in await session.execute(_FOR_MANY, {"asked": orjson.dumps(asked).decode()}):
        found[row.place].append(row)
    return [_facts(rows) for rows in found]


def _facts(rows: Sequence[Row[Any]]) -> Facts:
    offers = []
    for r in rows:
        stale = r.feed_stale_after_min is not None
        priced = r.unit_cost_minor is not None and r.offer_status != "stale"
        # Without a due price the offer's time has not come: the router calls that an expired price.
        valid_from = (r.valid_from or _EVER) if priced else datetime.max.replace(tzinfo=UTC)
        offers.append(
            OfferFact(
                offer_id=str(OfferId.of(r.id)),
                supplier_id=str(SupplierId.of(r.supplier_id)),
                location_id=str(LocationId.of(r.location_id)),
                sku=str(VariantId.of(r.variant_id)),
                unit_cost_minor=r.unit_cost_minor or 0,
                currency=r.currency,
                available=r.available,
                valid_from=valid_from,
                valid_to=r.valid_to,
                zone_rate=None
                if r.base_minor is None
                else ZoneRate(
                    r.base_minor, r.per_kg_minor, r.per_item_minor, r.transit_p50_h, r.transit_p90_h,
                    r.max_weight_g,
                ),
                moq=r.moq,
                order_multiple=r.order_multiple,
                lead_time_hours=r.lead_time_hours,
                feed_as_of=(r.source_as_of or _EVER) if stale else None,
                feed_max_age_s=r.feed_stale_after_min * 60 if stale else None,
                supplier_active=r.active and (r.open or r.offer_status == "stale"),
                # The router counts units; a location that takes no more shipments today takes none of them.
                capacity_left=0 if r.shipments_left is not None and r.shipments_left <= 0 else None,
                authorised=r.authorised,
                preference=r.preference,
                priority=r.priority,
                handling_minor=r.handling_minor,
            )
        )  # fmt: skip
    return Facts(
        tuple(offers), {str(OfferId.of(r.id)): r.price_version for r in rows if r.price_version is not None}
    )
