"""Tables of the ways to reach people besides a plain link: mini-programs, print, a brand's own server."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, LargeBinary, String, UniqueConstraint, text
from sqlmodel import Field

from core.ids import BrandId, ContactId, LinkId, StorefrontId, TouchId
from infra.db.base import Row, id_field, one_of, utc_field
from marketplace.promotion.ids import QrAssetId, QrBatchId


class QrBatchKind(StrEnum):
    PARCEL_CARD = "PARCEL_CARD"
    POSTER = "POSTER"
    SHELF = "SHELF"
    PACKAGE = "PACKAGE"
    STAFF_CARD = "STAFF_CARD"


class LeadKind(StrEnum):
    CONTACT_ADDED = "CONTACT_ADDED"
    GROUP_JOINED = "GROUP_JOINED"


class DeepLink(Row, table=True):
    """Templates that open a storefront's mini-program (deep_links.py)."""

    __tablename__ = "deep_links"

    storefront_id: StorefrontId = id_field(StorefrontId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    app_id: str
    url: str
    path: str
    query: str
    updated_at: datetime = utc_field()


class QrBatch(Row, table=True):
    """One printing. A parcel card names the SKU and the warehouse whose parcels it goes into."""

    __tablename__ = "qr_batches"
    __table_args__ = (
        one_of("kind", QrBatchKind, name="known_kind"),
        CheckConstraint("kind <> 'PARCEL_CARD' OR (sku <> '' AND warehouse <> '')", name="card_of_a_parcel"),
        Index("ix_qr_batches_brand_id_id", "brand_id", "id"),
    )

    id: QrBatchId = id_field(QrBatchId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    name: str
    kind: QrBatchKind = Field(sa_type=String)
    sku: str
    warehouse: str
    created_at: datetime = utc_field()


class QrAsset(Row, table=True):
    """One arm of a batch. Its link is nobody else's, so a scan tells batch and arm by itself."""

    __tablename__ = "qr_assets"
    __table_args__ = (
        UniqueConstraint("batch_id", "arm", name="uq_qr_assets_batch_id_arm"),
        UniqueConstraint("link_id", name="uq_qr_assets_link_id"),
        CheckConstraint("quantity BETWEEN 1 AND 10000000", name="sane_quantity"),
    )

    id: QrAssetId = id_field(QrAssetId, primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    batch_id: QrBatchId = id_field(QrBatchId, foreign_key="qr_batches.id")
    link_id: LinkId = id_field(LinkId, foreign_key="tracked_links.id")
    arm: str
    caption_zh: str
    caption_en: str
    quantity: int


class TouchEvent(Row, table=True):
    """What a brand's server told, once per event id of that brand. ``lead`` binds until ``binds_until``."""

    __tablename__ = "touch_events"
    __table_args__ = (
        one_of("lead", LeadKind, name="known_lead"),
        CheckConstraint("lead IS NULL OR contact_id IS NOT NULL", name="lead_of_somebody"),
        Index("ix_touch_events_link_id", "link_id", postgresql_where=text("lead IS NOT NULL")),
        Index("ix_touch_events_contact_id", "contact_id", "at", postgresql_where=text("lead IS NOT NULL")),
    )

    brand_id: BrandId = id_field(BrandId, primary_key=True)
    event_id: str = Field(primary_key=True)
    body_hash: bytes = Field(sa_type=LargeBinary)
    touch_id: TouchId = id_field(TouchId)
    link_id: LinkId = id_field(LinkId)
    at: datetime = utc_field()
    lead: LeadKind | None = Field(default=None, sa_type=String)
    contact_id: ContactId | None = id_field(ContactId, default=None, nullable=True)
    binds_until: datetime | None = utc_field(default=None, nullable=True)
    received_at: datetime = utc_field()
