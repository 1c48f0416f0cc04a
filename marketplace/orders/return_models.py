"""Goods on their way back: announced by the merchant, received and looked at by the supplier."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, Index, String, text
from sqlmodel import Field

from core.ids import BrandId, OrderId, OrderLineId, RefundId, SupplierId, TypedId
from infra.db.base import Row, id_field, one_of, utc_field


class ReturnId(TypedId):
    prefix = "rtn"


class ReturnStatus(StrEnum):
    ANNOUNCED = "announced"
    RECEIVED = "received"
    CLOSED = "closed"
    """The supplier has looked at the goods; what it accepted is refunded."""
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    """Nothing came back in time."""


class Return(Row, table=True):
    """One case with one supplier. While it is open nothing of its lines is released to anybody."""

    __tablename__ = "returns"
    __table_args__ = (
        one_of("status", ReturnStatus),
        Index("ix_returns_order_id", "order_id"),
        Index("ix_returns_merchant_id_id", "merchant_id", "id"),
        Index("ix_returns_supplier_id_id", "supplier_id", "id"),
        Index("ix_returns_open", "expires_at", postgresql_where=text("status = 'announced'")),
    )

    id: ReturnId = id_field(ReturnId, primary_key=True)
    order_id: OrderId = id_field(OrderId, foreign_key="orders.id")
    merchant_id: BrandId = id_field(BrandId)
    supplier_id: SupplierId = id_field(SupplierId)
    status: ReturnStatus = Field(sa_type=String)
    cause: str
    reason: str
    refund_if_refused: bool
    """The merchant refunds at its own cost what the supplier does not take back (R6a)."""
    announced_by: str
    announced_at: datetime = utc_field()
    expires_at: datetime = utc_field()
    received_at: datetime | None = utc_field(default=None, nullable=True)
    closed_at: datetime | None = utc_field(default=None, nullable=True)
    accepted_refund_id: RefundId | None = id_field(RefundId, default=None, nullable=True)
    refused_refund_id: RefundId | None = id_field(RefundId, default=None, nullable=True)


class ReturnLine(Row, table=True):
    """``accepted`` of the ``received`` units the supplier takes back; the others go on to the customer, or stay.

    ``restocked`` of the accepted ones are on its shelf again; the others were damaged."""

    __tablename__ = "return_lines"
    __table_args__ = (
        Index("ix_return_lines_order_line_id", "order_line_id"),
        CheckConstraint(
            "quantity > 0 AND received BETWEEN 0 AND quantity AND accepted BETWEEN 0 AND received",
            name="units",
        ),
        CheckConstraint("restocked BETWEEN 0 AND accepted", name="restocked"),
    )

    return_id: ReturnId = id_field(ReturnId, primary_key=True, foreign_key="returns.id")
    order_line_id: OrderLineId = id_field(OrderLineId, primary_key=True)
    merchant_id: BrandId = id_field(BrandId)
    supplier_id: SupplierId = id_field(SupplierId)
    quantity: int
    received: int
    accepted: int
    restocked: int
