"""Orders of outside storefronts, as those tell of them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Column, ForeignKey, String, UniqueConstraint
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field

from core.ids import BrandId, OrderId
from infra.db.base import IdColumn, Row, currency_field, id_field, minor_field, utc_field


class ExternalOrder(Row, table=True):
    """``status`` and the instants are the source's own words; what we made of them is in ``orders``.

    ``quirks``: what is strange about the order as it was told, kept and never dropped.
    """

    __tablename__ = "external_orders"
    __table_args__ = (UniqueConstraint("order_id"),)

    source: str = Field(primary_key=True)
    reference: str = Field(primary_key=True)
    order_id: OrderId = Field(sa_column=Column(IdColumn(OrderId), ForeignKey("orders.id"), nullable=False))
    brand_id: BrandId = id_field(BrandId)
    """The brand whose storefront it is."""
    status: str
    placed_at: datetime = utc_field()
    approved_at: datetime | None = utc_field(nullable=True, default=None)
    handed_over_at: datetime | None = utc_field(nullable=True, default=None)
    delivered_at: datetime | None = utc_field(nullable=True, default=None)
    promised_at: datetime | None = utc_field(nullable=True, default=None)
    quirks: list[str] = Field(sa_column=Column(ARRAY(String), nullable=False))
    recorded_at: datetime = utc_field()


class ExternalPayment(Row, table=True):
    """One payment row of an order, as the source has it; an order may have several, also of zero."""

    __tablename__ = "external_payments"
    __table_args__ = (CheckConstraint("amount_minor >= 0", name="amount"),)

    source: str = Field(primary_key=True)
    reference: str = Field(primary_key=True)
    sequence: int = Field(primary_key=True)
    brand_id: BrandId = id_field(BrandId)
    kind: str
    instalments: int
    amount_minor: int = minor_field()
    currency: str = currency_field()
