"""Reads of suppliers, locations and offers: columns only, what the actor may see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import BrandId, LocationId, MalformedId, OfferId, SupplierId, VariantId
from core.money import Money
from core.pagination import BadPage, Page, PageRequest, page_of
from supply.suppliers.errors import SupplierNotFound
from supply.suppliers.models import AcceptMode, OfferStatus, SupplierKind, SupplierStatus

# The newest cost that is due; an offer without one is not in force yet.
COST_IN_FORCE = (
    "SELECT p.unit_cost_minor, p.price_version FROM offer_price_changes p WHERE p.offer_id = o.id"
    " AND p.effective_at <= :now ORDER BY p.effective_at DESC, p.price_version DESC LIMIT 1"
)
_SUPPLIERS = text(
    "SELECT id, code, name, kind, status, accept_mode, accept_sla_min, ship_sla_hours, feed_stale_after_min,"
    " settlement_days, version FROM suppliers WHERE id = ANY(:ids)"
)
_LOCATIONS = text(
    "SELECT id, supplier_id, code, name, country, region, zone, status, handling_minor, handling_hours,"
    " daily_capacity, accepts_returns, currency, version FROM locations"
    " WHERE supplier_id = :supplier_id ORDER BY id"
)
_LOCATION_NAMES = text("SELECT id, name FROM locations WHERE id = ANY(:ids)")
_OFFER_COLUMNS = (
    "o.id, o.supplier_id, o.location_id, o.variant_id, o.brand_id, o.sku, o.supplier_sku, o.currency, o.moq,"
    " o.order_multiple, o.lead_time_hours, o.priority, o.valid_from, o.valid_to, o.status, o.paused_until,"
    " o.version, c.unit_cost_minor, c.price_version"
)
_OFFERS_PAGE = text(
    f"SELECT {_OFFER_COLUMNS} FROM supplier_offers o LEFT JOIN LATERAL ({COST_IN_FORCE}) c ON true"
    " WHERE o.supplier_id = :supplier_id AND (CAST(:after AS uuid) IS NULL OR o.id > :after)"
    " ORDER BY o.id LIMIT :limit"
)
_OFFERS_OF = text(
    f"SELECT {_OFFER_COLUMNS} FROM supplier_offers o LEFT JOIN LATERAL ({COST_IN_FORCE}) c ON true"
    " WHERE o.variant_id = ANY(:variants) ORDER BY o.variant_id, o.id"
)
_STOCKED = text(
    "SELECT o.id, o.location_id, o.sku, o.supplier_sku, o.variant_id, o.brand_id, o.currency"
    " FROM supplier_offers o WHERE o.supplier_id = :supplier_id AND o.sku = ANY(:skus)"
)
_SKUS = text(
    "SELECT location_id, variant_id, sku FROM supplier_offers"
    " WHERE supplier_id = :supplier_id AND variant_id = ANY(:variants)"
)
_RATES = text(
    "SELECT dest_zone, service, base_minor, per_kg_minor, per_item_minor, currency, transit_p50_h,"
    " transit_p90_h, max_weight_g FROM zone_rates WHERE location_id = :location_id"
    " ORDER BY dest_zone, service"
)


@dataclass(frozen=True, slots=True)
class SupplierView:
    id: SupplierId
    code: str
    name: str
    kind: SupplierKind
    status: SupplierStatus
    accept_mode: AcceptMode
    accept_sla_min: int
    ship_sla_hours: int
    feed_stale_after_min: int | None
    settlement_days: int
    version: int


@dataclass(frozen=True, slots=True)
class LocationView:
    id: LocationId
    supplier_id: SupplierId
    code: str
    name: str
    country: str
    region: str | None
    zone: str
    status: str
    handling: Money
    handling_hours: int
    daily_capacity: int | None
    accepts_returns: bool
    version: int


@dataclass(frozen=True, slots=True)
class OfferView:
    """``unit_cost`` is what is in force now; ``None`` before the first price is due."""

    id: OfferId
    supplier_id: SupplierId
    location_id: LocationId
    variant_id: VariantId
    brand_id: BrandId
    sku: str
    supplier_sku: str | None
    unit_cost: Money | None
    price_version: int | None
    currency: str
    moq: int
    order_multiple: int
    lead_time_hours: int
    priority: int
    valid_from: datetime | None
    valid_to: datetime | None
    status: OfferStatus
    paused_until: datetime | None
    version: int


@dataclass(frozen=True, slots=True)
class StockedSku:
    offer_id: OfferId
    location_id: LocationId
    sku: str
    variant_id: VariantId
    brand_id: BrandId
    currency: str


async def suppliers(session: AsyncSession, ids: Sequence[SupplierId]) -> dict[SupplierId, SupplierView]:
    rows = await session.execute(_SUPPLIERS, {"ids": list(ids)})
    return {
        SupplierId.of(r.id): SupplierView(
            SupplierId.of(r.id), r.code, r.name, SupplierKind(r.kind), SupplierStatus(r.status),
            AcceptMode(r.accept_mode), r.accept_sla_min, r.ship_sla_hours, r.feed_stale_after_min,
            r.settlement_days, r.version,
        )
        for r in rows
    }  # fmt: skip


async def supplier(session: AsyncSession, supplier_id: SupplierId) -> SupplierView:
    """Raises ``SupplierNotFound``."""
    found = (await suppliers(session, [supplier_id])).get(supplier_id)
    if found is None:
        raise SupplierNotFound("no such supplier")
    return found


async def locations(session: AsyncSession, supplier_id: SupplierId) -> list[LocationView]:
    rows = await session.execute(_LOCATIONS, {"supplier_id": supplier_id})
    return [
        LocationView(
            LocationId.of(r.id), SupplierId.of(r.supplier_id), r.code, r.name, r.country, r.region, r.zone,
            r.status, Money(r.handling_minor, r.currency), r.handling_hours, r.daily_capacity,
            r.accepts_returns, r.version,
        )
        for r in rows
    ]  # fmt: skip


async def location_names(session: AsyncSession, ids: Sequence[LocationId]) -> dict[LocationId, str]:
    rows = await session.execute(_LOCATION_NAMES, {"ids": list(ids)})
    return {LocationId.of(r.id): r.name for r in rows}


async def zone_rates(session: AsyncSession, location_id: LocationId) -> list[dict[str, object]]:
    return [dict(r._mapping) for r in await session.execute(_RATES, {"location_id": location_id})]


async def offers_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, now: datetime
) -> Page[OfferView]:
    after = _position(page)
    rows = await session.execute(
        _OFFERS_PAGE,
        {"supplier_id": actor.supplier_id, "after": after, "limit": page.first + 1, "now": now},
    )
    return page_of([_offer(r) for r in rows], page, lambda offer: (str(offer.id),))


async def offers_of(
    session: AsyncSession, variants: Sequence[VariantId], *, now: datetime
) -> dict[VariantId, list[OfferView]]:
    """Every visible offer of these variants: a brand sees those of its own products. One statement."""
    found: dict[VariantId, list[OfferView]] = {}
    for row in await session.execute(_OFFERS_OF, {"variants": list(variants), "now": now}):
        offer = _offer(row)
        found.setdefault(offer.variant_id, []).append(offer)
    return found


async def stocked_skus(
    session: AsyncSession, supplier_id: SupplierId, skus: Sequence[str]
) -> list[StockedSku]:
    """What a supplier's stock or price file may speak of: a SKU of several brands gives several rows."""
    rows = await session.execute(_STOCKED, {"supplier_id": supplier_id, "skus": list(skus)})
    return [
        StockedSku(
            OfferId.of(r.id), LocationId.of(r.location_id), r.sku, VariantId.of(r.variant_id),
            BrandId.of(r.brand_id), r.currency,
        )
        for r in rows
    ]  # fmt: skip


async def skus_of(
    session: AsyncSession, supplier_id: SupplierId, variants: Sequence[VariantId]
) -> dict[tuple[LocationId, VariantId], str]:
    rows = await session.execute(_SKUS, {"supplier_id": supplier_id, "variants": list(variants)})
    return {(LocationId.of(r.location_id), VariantId.of(r.variant_id)): r.sku for r in rows}


def _position(page: PageRequest) -> OfferId | None:
    """Raises ``BadPage`` for a cursor of another list."""
    try:
        return OfferId.parse(page.key[0]) if page.key else None
    except MalformedId as error:
        raise BadPage("the cursor is not one of this list", field="cursor") from error


def _offer(r: Row[Any]) -> OfferView:
    cost = None if r.unit_cost_minor is None else Money(r.unit_cost_minor, r.currency)
    return OfferView(
        OfferId.of(r.id), SupplierId.of(r.supplier_id), LocationId.of(r.location_id),
        VariantId.of(r.variant_id), BrandId.of(r.brand_id), r.sku, r.supplier_sku, cost, r.price_version,
        r.currency, r.moq, r.order_multiple, r.lead_time_hours, r.priority, r.valid_from, r.valid_to,
        OfferStatus(r.status), r.paused_until, r.version,
    )  # fmt: skip
