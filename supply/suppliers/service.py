"""A supplier sets up: profile, locations, offers, costs and freight; a brand says whom it trusts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import BrandId, LocationId, OfferId, SupplierId, VariantId
from core.money import MAX_MINOR, CurrencyMismatch, Money
from supply.suppliers.errors import (
    AmountOutOfRange,
    LocationCodeTaken,
    LocationNotFound,
    OfferNotFound,
    QuantityOutOfRange,
    SupplierNotFound,
    VersionConflict,
)
from supply.suppliers.ids import ZoneRateId
from supply.suppliers.models import AcceptMode, BrandRelation, OfferStatus, SupplierKind, SupplierStatus
from supply.suppliers.zones import checked_zone, zone

MAX_UNITS = 1_000_000
"""Largest quantity accepted from outside: orders, stock and minimums alike."""

_REGISTER = text(
    "INSERT INTO suppliers (id, code, name, kind, status, accept_mode, accept_sla_min, ship_sla_hours,"
    " feed_stale_after_min, tz, settlement_days, created_at, version)"
    " VALUES (:id, :code, :name, :kind, 'active', :accept_mode, :accept_sla_min, :ship_sla_hours,"
    " :feed_stale_after_min, :tz, :settlement_days, :now, 1) ON CONFLICT (id) DO NOTHING"
)
_UPDATE_PROFILE = text(
    "UPDATE suppliers SET status = coalesce(:status, status),"
    " accept_mode = coalesce(:accept_mode, accept_mode),"
    " accept_sla_min = coalesce(:accept_sla_min, accept_sla_min),"
    " ship_sla_hours = coalesce(:ship_sla_hours, ship_sla_hours),"
    " feed_stale_after_min = coalesce(:feed_stale_after_min, feed_stale_after_min),"
    " settlement_days = coalesce(:settlement_days, settlement_days), version = version + 1"
    " WHERE id = :id RETURNING id"
)
_NEW_LOCATION = text(
    "INSERT INTO locations (id, supplier_id, code, name, country, region, zone, status, handling_minor,"
    " handling_hours, daily_capacity, accepts_returns, currency, created_at, version)"
    " VALUES (:id, :supplier_id, :code, :name, :country, :region, :zone, 'active', :handling_minor,"
    " :handling_hours, :daily_capacity, :accepts_returns, :currency, :now, 1)"
)
_LOCATION_STATUS = text(
    "UPDATE locations SET status = :status, version = version + 1"
    " WHERE id = :id AND supplier_id = :supplier_id RETURNING id"
)
_OWN_LOCATIONS = text(
    "SELECT id, currency FROM locations WHERE id = ANY(:ids) AND supplier_id = :supplier_id"
)

# One statement for any number of offers; a cost that did not change makes no new version.
_UPSERT_OFFERS = text("""
WITH wanted AS (
    SELECT w.*, o.id AS known, o.version AS known_version, o.price_version AS known_price,
           p.unit_cost_minor AS known_cost
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(
        n int, id uuid, location_id uuid, variant_id uuid, brand_id uuid, sku varchar, supplier_sku varchar,
        unit_cost_minor bigint, currency varchar, moq int, order_multiple int, lead_time_hours int,
        priority int, valid_from timestamptz, valid_to timestamptz, expected int)
    LEFT JOIN supplier_offers o ON o.location_id = w.location_id AND o.variant_id = w.variant_id
    LEFT JOIN offer_price_changes p ON p.offer_id = o.id AND p.price_version = o.price_version
), saved AS (
    INSERT INTO supplier_offers AS o (id, supplier_id, location_id, variant_id, brand_id, sku, supplier_sku,
        currency, moq, order_multiple, lead_time_hours, priority, valid_from, valid_to, price_version, status,
        created_at, updated_at, version)
    SELECT id, :supplier_id, location_id, variant_id, brand_id, sku, supplier_sku, currency, moq,
        order_multiple, lead_time_hours, priority, valid_from, valid_to, 1, 'active', :now, :now, 1
    FROM wanted WHERE expected IS NULL OR expected = coalesce(known_version, 0)
    ON CONFLICT (location_id, variant_id) DO UPDATE SET
        brand_id = excluded.brand_id, sku = excluded.sku, supplier_sku = excluded.supplier_sku,
        currency = excluded.currency, moq = excluded.moq, order_multiple = excluded.order_multiple,
        lead_time_hours = excluded.lead_time_hours, priority = excluded.priority,
        valid_from = excluded.valid_from, valid_to = excluded.valid_to, status = 'active',
        paused_until = NULL, updated_at = excluded.updated_at, version = o.version + 1,
        price_version = o.price_version + (SELECT (w.known_cost IS DISTINCT FROM w.unit_cost_minor)::int
            FROM wanted w WHERE w.location_id = excluded.location_id AND w.variant_id = excluded.variant_id)
    RETURNING o.id, o.location_id, o.variant_id, o.price_version, o.version
), priced AS (
    INSERT INTO offer_price_changes (offer_id, price_version, supplier_id, brand_id, unit_cost_minor,
        currency, effective_at, recorded_at, recorded_by)
    SELECT s.id, s.price_version, :supplier_id, w.brand_id, w.unit_cost_minor, w.currency, :now, :now, :actor
    FROM saved s JOIN wanted w USING (location_id, variant_id)
    ON CONFLICT DO NOTHING
)
SELECT w.n, s.id, s.price_version, s.version, w.known_version
FROM wanted w LEFT JOIN saved s USING (location_id, variant_id) ORDER BY w.n
""")
_LOCK_OFFERS = text(
    "SELECT o.id, o.location_id, o.variant_id, o.currency, o.price_version, o.brand_id FROM supplier_offers o"
    " WHERE o.id = ANY(:ids) AND o.supplier_id = :supplier_id ORDER BY o.id FOR UPDATE"
)
_CHANGE_PRICES = text("""
WITH wanted AS (
    SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb))
        AS w(offer_id uuid, price_version int, unit_cost_minor bigint, effective_at timestamptz)
), bumped AS (
    UPDATE supplier_offers o SET price_version = w.price_version, version = o.version + 1, updated_at = :now,
        status = CASE WHEN o.status = 'stale' THEN 'active' ELSE o.status END
    FROM (SELECT offer_id, max(price_version) AS price_version FROM wanted GROUP BY 1) w
    WHERE o.id = w.offer_id
)
INSERT INTO offer_price_changes (offer_id, price_version, supplier_id, brand_id, unit_cost_minor, currency,
    effective_at, recorded_at, recorded_by)
SELECT w.offer_id, w.price_version, o.supplier_id, o.brand_id, w.unit_cost_minor, o.currency, w.effective_at,
    :now, :actor
FROM wanted w JOIN supplier_offers o ON o.id = w.offer_id
""")
_PAUSE_OFFERS = text(
    "UPDATE supplier_offers SET status = :status, paused_until = :until, updated_at = :now,"
    " version = version + 1"
    " WHERE location_id = :location_id AND variant_id = ANY(:variants) AND status <> 'ended'"
)
_SET_RATES = text("""
INSERT INTO zone_rates AS z (id, location_id, supplier_id, dest_zone, service, base_minor, per_kg_minor,
    per_item_minor, currency, transit_p50_h, transit_p90_h, max_weight_g, created_at)
SELECT id, :location_id, :supplier_id, dest_zone, service, base_minor, per_kg_minor, per_item_minor, currency,
    transit_p50_h, transit_p90_h, max_weight_g, :now
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(id uuid, dest_zone varchar, service varchar,
    base_minor bigint, per_kg_minor bigint, per_item_minor bigint, currency varchar, transit_p50_h int,
    transit_p90_h int, max_weight_g int)
ON CONFLICT (location_id, dest_zone, service) DO UPDATE SET base_minor = excluded.base_minor,
    per_kg_minor = excluded.per_kg_minor, per_item_minor = excluded.per_item_minor,
    currency = excluded.currency, transit_p50_h = excluded.transit_p50_h,
    transit_p90_h = excluded.transit_p90_h, max_weight_g = excluded.max_weight_g
""")
_DROP_OTHER_RATES = text(
    "DELETE FROM zone_rates WHERE location_id = :location_id"
    " AND (dest_zone, service) NOT IN (SELECT dest_zone, service"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS w(dest_zone varchar, service varchar))"
)
_BRAND_RULE = text(
    "INSERT INTO brand_supplier_rules (brand_id, supplier_id, relation, preference, valid_from, valid_to,"
    " created_at)"
    " VALUES (:brand_id, :supplier_id, :relation, :preference, :valid_from, :valid_to, :now)"
    " ON CONFLICT (brand_id, supplier_id) DO UPDATE SET relation = excluded.relation,"
    " preference = excluded.preference, valid_from = excluded.valid_from, valid_to = excluded.valid_to"
)


@dataclass(frozen=True, slots=True)
class NewLocation:
    """``handling`` is charged once per shipment and fixes the location's currency."""

    code: str
    name: str
    country: str
    handling: Money
    region: str | None = None
    handling_hours: int = 24
    daily_capacity: int | None = None
    accepts_returns: bool = True


@dataclass(frozen=True, slots=True)
class OfferTerms:
    """``expected_version`` (If-Match): the version the caller saw, 0 for "there is none yet"."""

    location_id: LocationId
    variant_id: VariantId
    brand_id: BrandId
    sku: str
    unit_cost: Money
    supplier_sku: str | None = None
    moq: int = 1
    order_multiple: int = 1
    lead_time_hours: int = 24
    priority: int = 0
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True)
class SavedOffer:
    offer_id: OfferId
    price_version: int
    version: int


@dataclass(frozen=True, slots=True)
class PriceChange:
    offer_id: OfferId
    unit_cost: Money
    effective_at: datetime


@dataclass(frozen=True, slots=True)
class RateToZone:
    """Freight of a shipment = base + per started kg + per item; hours of transit at 50 % and 90 %."""

    dest_zone: str
    base: Money
    per_kg_minor: int = 0
    per_item_minor: int = 0
    transit_p50_h: int = 48
    transit_p90_h: int = 96
    max_weight_g: int | None = None
    service: str = "standard"


async def register(
    session: AsyncSession,
    *,
    supplier_id: SupplierId,
    name: str,
    clock: Clock,
    code: str | None = None,
    kind: SupplierKind = SupplierKind.DROPSHIP,
    accept_mode: AcceptMode = AcceptMode.MANUAL,
    accept_sla_min: int = 1440,
    ship_sla_hours: int = 48,
    feed_stale_after_min: int | None = None,
    tz: str = "UTC",
    settlement_days: int = 7,
) -> None:
    """Give a supplier tenant its supplier record; a second call changes nothing."""
    await session.execute(
        _REGISTER,
        {
            "id": supplier_id, "code": code or str(supplier_id), "name": name, "kind": kind.value,
            "accept_mode": accept_mode.value, "accept_sla_min": accept_sla_min,
            "ship_sla_hours": ship_sla_hours, "feed_stale_after_min": feed_stale_after_min, "tz": tz,
            "settlement_days": settlement_days, "now": clock.now(),
        },
    )  # fmt: skip


async def update_profile(
    session: AsyncSession,
    actor: Actor,
    supplier_id: SupplierId,
    *,
    status: SupplierStatus | None = None,
    accept_mode: AcceptMode | None = None,
    accept_sla_min: int | None = None,
    ship_sla_hours: int | None = None,
    feed_stale_after_min: int | None = None,
    settlement_days: int | None = None,
) -> None:
    """Change what is given. Raises ``SupplierNotFound``."""
    supplier_id = _own(actor, supplier_id)
    changed = await session.execute(
        _UPDATE_PROFILE,
        {
            "id": supplier_id, "status": status and status.value,
            "accept_mode": accept_mode and accept_mode.value, "accept_sla_min": accept_sla_min,
            "ship_sla_hours": ship_sla_hours, "feed_stale_after_min": feed_stale_after_min,
            "settlement_days": settlement_days,
        },
    )  # fmt: skip
    if changed.first() is None:
        raise SupplierNotFound("no such supplier")


async def create_location(
    session: AsyncSession, actor: Actor, new: NewLocation, *, clock: Clock
) -> LocationId:
    """Raises ``LocationCodeTaken``, ``BadZone``, ``AmountOutOfRange``."""
    location_id = LocationId.new()
    _check_amount(new.handling.amount_minor, "handling_minor")
    where = zone(new.country, new.region)
    try:
        async with session.begin_nested():
            await session.execute(
                _NEW_LOCATION,
                {
                    "id": location_id, "supplier_id": actor.supplier_id, "code": new.code, "name": new.name,
                    "country": where[:2], "region": where[3:] or None, "zone": where,
                    "handling_minor": new.handling.amount_minor, "handling_hours": new.handling_hours,
                    "daily_capacity": new.daily_capacity, "accepts_returns": new.accepts_returns,
                    "currency": new.handling.currency, "now": clock.now(),
                },
            )  # fmt: skip
    except IntegrityError as error:
        if "uq_locations" not in str(error.orig):
            raise
        raise LocationCodeTaken(f"there is a location {new.code!r} already", field="code") from error
    return location_id


async def set_location_status(
    session: AsyncSession, actor: Actor, location_id: LocationId, *, active: bool
) -> None:
    where = {"id": location_id, "supplier_id": actor.supplier_id, "status": "active" if active else "paused"}
    if (await session.execute(_LOCATION_STATUS, where)).first() is None:
        raise LocationNotFound("no such location")


async def put_offers(
    session: AsyncSession, actor: Actor, offers: Sequence[OfferTerms], *, clock: Clock
) -> list[SavedOffer]:
    """Create or change offers (at most one per location and variant), in the given order.

    A changed cost becomes the next price version, in force at once. Raises ``LocationNotFound``,
    ``CurrencyMismatch`` (the location's currency), ``QuantityOutOfRange``, ``AmountOutOfRange``,
    ``VersionConflict``.
    """
    if not offers:
        return []
    currencies = await _own_currencies(session, actor, {offer.location_id for offer in offers})
    for offer in offers:
        _check_offer(offer, currencies)
    now = clock.now()
    rows = [_offer_row(n, offer) for n, offer in enumerate(offers)]
    saved = await session.execute(
        _UPSERT_OFFERS,
        {
            "rows": orjson.dumps(rows).decode(), "supplier_id": actor.supplier_id, "now": now,
            "actor": str(actor),
        },
    )  # fmt: skip
    result = []
    for row, offer in zip(saved, offers, strict=True):
        if row.id is None:
            raise VersionConflict(offer.expected_version or 0, row.known_version or 0)
        result.append(SavedOffer(OfferId.of(row.id), row.price_version, row.version))
    return result


async def change_prices(
    session: AsyncSession, actor: Actor, changes: Sequence[PriceChange], *, clock: Clock
) -> dict[OfferId, int]:
    """Record costs that are, or will be, in force from ``effective_at``. Returns each offer's newest version.

    Raises ``OfferNotFound``, ``CurrencyMismatch``, ``AmountOutOfRange``.
    """
    ids = sorted({change.offer_id for change in changes})
    known = {
        OfferId.of(row.id): row
        for row in await session.execute(_LOCK_OFFERS, {"ids": ids, "supplier_id": actor.supplier_id})
    }
    versions = {offer_id: row.price_version for offer_id, row in known.items()}
    rows = []
    for change in changes:
        if change.offer_id not in known:
            raise OfferNotFound(f"no offer {change.offer_id}")
        if change.unit_cost.currency != known[change.offer_id].currency:
            raise CurrencyMismatch(known[change.offer_id].currency, change.unit_cost.currency)
        _check_amount(change.unit_cost.amount_minor, "unit_cost_minor")
        versions[change.offer_id] += 1
        rows.append(
            {
                "offer_id": change.offer_id.hex,
                "price_version": versions[change.offer_id],
                "unit_cost_minor": change.unit_cost.amount_minor,
                "effective_at": change.effective_at.isoformat(),
            }
        )
    await session.execute(
        _CHANGE_PRICES, {"rows": orjson.dumps(rows).decode(), "now": clock.now(), "actor": str(actor)}
    )
    return versions


async def pause_offers(
    session: AsyncSession,
    location_id: LocationId,
    variants: Sequence[VariantId],
    *,
    until: datetime | None,
    now: datetime,
    status: OfferStatus = OfferStatus.PAUSED,
) -> None:
    """Stop routing to these offers: ``PAUSED`` (until a time, or told otherwise), ``STALE`` or ``ENDED``."""
    await session.execute(
        _PAUSE_OFFERS,
        {
            "location_id": location_id, "variants": list(variants), "until": until, "now": now,
            "status": status.value,
        },
    )  # fmt: skip


async def set_zone_rates(
    session: AsyncSession, actor: Actor, location_id: LocationId, rates: Sequence[RateToZone], *, clock: Clock
) -> None:
    """The complete price list of a location: zones that are not in it are no longer served.

    Raises ``LocationNotFound``, ``BadZone``, ``CurrencyMismatch``, ``AmountOutOfRange``.
    """
    currencies = await _own_currencies(session, actor, {location_id})
    rows: dict[tuple[str, str], dict[str, object]] = {}
    for rate in rates:
        if rate.base.currency != currencies[location_id]:
            raise CurrencyMismatch(currencies[location_id], rate.base.currency)
        for name in ("per_kg_minor", "per_item_minor"):
            _check_amount(getattr(rate, name), name)
        _check_amount(rate.base.amount_minor, "base_minor")
        zone_name = checked_zone(rate.dest_zone)
        rows[zone_name, rate.service] = {
            "id": ZoneRateId.new().hex, "dest_zone": zone_name, "service": rate.service,
            "base_minor": rate.base.amount_minor, "per_kg_minor": rate.per_kg_minor,
            "per_item_minor": rate.per_item_minor, "currency": rate.base.currency,
            "transit_p50_h": rate.transit_p50_h, "transit_p90_h": rate.transit_p90_h,
            "max_weight_g": rate.max_weight_g,
        }  # fmt: skip
    document = orjson.dumps(list(rows.values())).decode()
    await session.execute(_DROP_OTHER_RATES, {"location_id": location_id, "rows": document})
    await session.execute(
        _SET_RATES,
        {
            "location_id": location_id, "supplier_id": actor.supplier_id, "rows": document,
            "now": clock.now(),
        },
    )  # fmt: skip


async def set_brand_rule(
    session: AsyncSession,
    actor: Actor,
    *,
    supplier_id: SupplierId,
    relation: BrandRelation,
    clock: Clock,
    preference: int = 0,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    brand_id: BrandId | None = None,
) -> None:
    """A brand decides whether a supplier may fulfil its products. ``brand_id`` only for the platform."""
    if not -100 <= preference <= 100:
        raise QuantityOutOfRange("a preference lies between -100 and 100", field="preference")
    await session.execute(
        _BRAND_RULE,
        {
            "brand_id": brand_id if brand_id and actor.sees_everything else actor.brand_id,
            "supplier_id": supplier_id, "relation": relation.value, "preference": preference,
            "valid_from": valid_from, "valid_to": valid_to, "now": clock.now(),
        },
    )  # fmt: skip


def _own(actor: Actor, supplier_id: SupplierId) -> SupplierId:
    if not actor.sees_everything and actor.tenant_id != supplier_id:
        raise SupplierNotFound("no such supplier")
    return supplier_id


async def _own_currencies(
    session: AsyncSession, actor: Actor, locations: set[LocationId]
) -> dict[LocationId, str]:
    rows = await session.execute(_OWN_LOCATIONS, {"ids": sorted(locations), "supplier_id": actor.supplier_id})
    known = {LocationId.of(row.id): row.currency for row in rows}
    for location_id in sorted(locations):
        if location_id not in known:
            raise LocationNotFound(f"no location {location_id}", field="location_id")
    return known


def _check_offer(offer: OfferTerms, currencies: dict[LocationId, str]) -> None:
    if offer.unit_cost.currency != currencies[offer.location_id]:
        raise CurrencyMismatch(currencies[offer.location_id], offer.unit_cost.currency)
    _check_amount(offer.unit_cost.amount_minor, "unit_cost_minor")
    for name in ("moq", "order_multiple"):
        if not 1 <= getattr(offer, name) <= MAX_UNITS:
            raise QuantityOutOfRange(f"{name} lies between 1 and {MAX_UNITS}", field=name)


def _check_amount(amount_minor: int, name: str) -> None:
    if not 0 <= amount_minor <= MAX_MINOR:
        raise AmountOutOfRange(f"{name} lies between 0 and {MAX_MINOR}", field=name)


def _offer_row(n: int, offer: OfferTerms) -> dict[str, object]:
    return {
        "n": n, "id": OfferId.new().hex, "location_id": offer.location_id.hex,
        "variant_id": offer.variant_id.hex, "brand_id": offer.brand_id.hex, "sku": offer.sku,
        "supplier_sku": offer.supplier_sku, "unit_cost_minor": offer.unit_cost.amount_minor,
        "currency": offer.unit_cost.currency, "moq": offer.moq, "order_multiple": offer.order_multiple,
        "lead_time_hours": offer.lead_time_hours, "priority": offer.priority,
        "valid_from": offer.valid_from, "valid_to": offer.valid_to, "expected": offer.expected_version,
    }  # fmt: skip
