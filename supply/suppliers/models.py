"""Who supplies, from where, at what cost and freight."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Index, String, UniqueConstraint
from sqlmodel import Field

from core.ids import BrandId, LocationId, OfferId, SupplierId, VariantId
from infra.db.base import Row, currency_field, id_field, minor_field, utc_field
from supply.suppliers.ids import ZoneRateId


class SupplierKind(StrEnum):
    DROPSHIP = "dropship"
    OWN_WAREHOUSE = "own_warehouse"
    THIRD_PARTY_LOGISTICS = "3pl"
    AGGREGATOR = "aggregator"


class SupplierStatus(StrEnum):
    ONBOARDING = "onboarding"
    ACTIVE = "active"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    CLOSED = "closed"


class AcceptMode(StrEnum):
    AUTO = "auto"
    """Every submitted order counts as accepted at once."""
    MANUAL = "manual"


class LocationStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


class OfferStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"
    """Until ``paused_until``; without one, until the supplier says so."""
    STALE = "stale"
    """The supplier disowned the price; a new one makes the offer active again."""
    ENDED = "ended"


class BrandRelation(StrEnum):
    EXCLUSIVE = "exclusive"
    AUTHORISED = "authorised"
    FORBIDDEN = "forbidden"


class Supplier(Row, table=True):
    """``id`` is the tenant's. Terms: minutes to acknowledge, hours to ship, days from delivery to pay."""

    __tablename__ = "suppliers"
    __table_args__ = (UniqueConstraint("code"),)

    id: SupplierId = id_field(SupplierId, primary_key=True)
    code: str
    name: str
    kind: SupplierKind = Field(default=SupplierKind.DROPSHIP, sa_type=String)
    status: SupplierStatus = Field(default=SupplierStatus.ACTIVE, sa_type=String)
    accept_mode: AcceptMode = Field(default=AcceptMode.MANUAL, sa_type=String)
    accept_sla_min: int = 1440
    ship_sla_hours: int = 48
    feed_stale_after_min: int | None = None
    """A count older than this is not sold from; ``None`` trusts counts for ever."""
    tz: str = "UTC"
    settlement_days: int = 7
    created_at: datetime = utc_field()
    version: int = 1


class Location(Row, table=True):
    """``zone`` is where it stands, written as a destination is: country, or country-region."""

    __tablename__ = "locations"
    __table_args__ = (UniqueConstraint("supplier_id", "code"),)

    id: LocationId = id_field(LocationId, primary_key=True)
    supplier_id: SupplierId = id_field(SupplierId, foreign_key="suppliers.id")
    code: str
    name: str
    country: str
    region: str | None = None
    zone: str
    status: LocationStatus = Field(default=LocationStatus.ACTIVE, sa_type=String)
    handling_minor: int = minor_field(default=0)
    """Charged once per shipment."""
    handling_hours: int = 24
    daily_capacity: int | None = None
    """Shipments a day; ``None`` is unlimited."""
    accepts_returns: bool = True
    currency: str = currency_field()
    created_at: datetime = utc_field()
    version: int = 1


class BrandSupplierRule(Row, table=True):
    """What a brand decided about a supplier: a hard permission and a soft preference (-100 to 100)."""

    __tablename__ = "brand_supplier_rules"

    brand_id: BrandId = id_field(BrandId, primary_key=True)
    supplier_id: SupplierId = id_field(SupplierId, primary_key=True)
    relation: BrandRelation = Field(default=BrandRelation.AUTHORISED, sa_type=String)
    preference: int = 0
    valid_from: datetime | None = utc_field(default=None, nullable=True)
    valid_to: datetime | None = utc_field(default=None, nullable=True)
    created_at: datetime = utc_field()


class SupplierOffer(Row, table=True):
    """One variant at one location. Its cost is the last due row of ``offer_price_changes``."""

    __tablename__ = "supplier_offers"
    __table_args__ = (
        UniqueConstraint("location_id", "variant_id"),
        Index("ix_supplier_offers_variant_id", "variant_id"),
        Index("ix_supplier_offers_supplier_id_sku", "supplier_id", "sku"),
    )

    id: OfferId = id_field(OfferId, primary_key=True)
    supplier_id: SupplierId = id_field(SupplierId, foreign_key="suppliers.id")
    location_id: LocationId = id_field(LocationId, foreign_key="locations.id")
    variant_id: VariantId = id_field(VariantId)
    brand_id: BrandId = id_field(BrandId)
    sku: str
    supplier_sku: str | None = None
    currency: str = currency_field()
    moq: int = 1
    order_multiple: int = 1
    lead_time_hours: int = 24
    priority: int = 0
    valid_from: datetime | None = utc_field(default=None, nullable=True)
    valid_to: datetime | None = utc_field(default=None, nullable=True)
    price_version: int = 1
    """The newest version recorded, due or not."""
    status: OfferStatus = Field(default=OfferStatus.ACTIVE, sa_type=String)
    paused_until: datetime | None = utc_field(default=None, nullable=True)
    created_at: datetime = utc_field()
    updated_at: datetime = utc_field()
    version: int = 1


class OfferPriceChange(Row, table=True):
    """Append-only; an order freezes the version it was routed at."""

    __tablename__ = "offer_price_changes"

    offer_id: OfferId = id_field(OfferId, primary_key=True, foreign_key="supplier_offers.id")
    price_version: int = Field(primary_key=True)
    supplier_id: SupplierId = id_field(SupplierId)
    brand_id: BrandId = id_field(BrandId)
    unit_cost_minor: int = minor_field()
    currency: str = currency_field()
    effective_at: datetime = utc_field()
    recorded_at: datetime = utc_field()
    recorded_by: str


class ZoneRate(Row, table=True):
    """Freight of one shipment to one zone: base + per started kilogram + per item."""

    __tablename__ = "zone_rates"
    __table_args__ = (UniqueConstraint("location_id", "dest_zone", "service"),)

    id: ZoneRateId = id_field(ZoneRateId, primary_key=True)
    location_id: LocationId = id_field(LocationId, foreign_key="locations.id")
    supplier_id: SupplierId = id_field(SupplierId)
    dest_zone: str
    service: str = "standard"
    base_minor: int = minor_field(default=0)
    per_kg_minor: int = minor_field(default=0)
    per_item_minor: int = minor_field(default=0)
    currency: str = currency_field()
    transit_p50_h: int = 48
    transit_p90_h: int = 96
    max_weight_g: int | None = None
    created_at: datetime = utc_field()
