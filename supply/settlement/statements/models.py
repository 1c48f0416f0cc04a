"""How often a party is settled, and under which name."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, String
from sqlmodel import Field

from core.ids import TenantId
from infra.db.base import Row, currency_field, id_field, one_of, utc_field
from supply.settlement.statements.cycles import Cycle


class SettlementTerms(Row, table=True):
    """One party and currency. Its row is the lock of closing: two closers of a party take turns.

    ``open_from`` is where the open statement begins, ``due_at`` the end of its cycle. ``reserve_ppm`` of what
    was released in the last ``reserve_days`` is not paid out.
    """

    __tablename__ = "settlement_terms"
    __table_args__ = (
        Index("ix_settlement_terms_due_at", "due_at"),
        Index("ix_settlement_terms_tenant_id", "tenant_id"),
        one_of("cycle", Cycle),
        CheckConstraint("reserve_ppm BETWEEN 0 AND 1000000 AND reserve_days >= 0", name="reserve"),
        CheckConstraint("open_from < due_at", name="period"),
    )

    payee_id: str = Field(primary_key=True)
    currency: str = currency_field(primary_key=True)
    tenant_id: TenantId | None = id_field(TenantId, default=None, nullable=True)
    cycle: Cycle = Field(sa_type=String)
    time_zone: str
    reserve_ppm: int
    reserve_days: int
    legal_name: str
    tax_id: str
    open_from: datetime = utc_field()
    due_at: datetime = utc_field()
