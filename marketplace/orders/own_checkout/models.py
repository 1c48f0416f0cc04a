"""What shops with a checkout of their own told us, as they told it; what we made of it is in ``orders``."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field

from core.ids import BrandId, ContactId, OrderId, StorefrontId
from infra.db.base import IdColumn, Row, id_field, one_of, utc_field


class EventKind(StrEnum):
    PAID = "paid"
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    REFUNDED = "refunded"


class ToldOrder(Row, table=True):
    """``content`` says nothing of who bought: that is in ``buyer_keys``, keyed hashes of the buyer's identifiers, and
    in ``content_hash`` with everything else."""

    __tablename__ = "told_orders"
    __table_args__ = (
        UniqueConstraint("order_id"),
        Index("ix_told_orders_buyer_keys", "buyer_keys", postgresql_using="gin"),
    )

    storefront_id: StorefrontId = id_field(StorefrontId, primary_key=True)
    reference: str = Field(primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    order_id: OrderId = Field(sa_column=Column(IdColumn(OrderId), ForeignKey("orders.id"), nullable=False))
    content: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    content_hash: str
    buyer_keys: list[bytes] = Field(sa_column=Column(ARRAY(LargeBinary), nullable=False))
    recorded_at: datetime = utc_field()


class ToldEvent(Row, table=True):
    """One thing that happened to an order, under the shop's own id for it. It may be told before the order is."""

    __tablename__ = "told_events"
    __table_args__ = (
        one_of("kind", EventKind),
        Index("ix_told_events_storefront_id_reference", "storefront_id", "reference"),
    )

    storefront_id: StorefrontId = id_field(StorefrontId, primary_key=True)
    event_id: str = Field(primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    reference: str
    kind: EventKind = Field(sa_type=String)
    at: datetime = utc_field()
    body: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    body_hash: str
    received_at: datetime = utc_field()
    applied_at: datetime | None = utc_field(nullable=True, default=None)


class LeadMatch(Row, table=True):
    """A contact that another brand has of an order's buyer, and that a lead of that brand may have bound.

    The platform's knowledge alone: neither brand learns of it.
    """

    __tablename__ = "lead_matches"

    order_id: OrderId = id_field(OrderId, primary_key=True)
    contact_id: ContactId = id_field(ContactId, primary_key=True)
