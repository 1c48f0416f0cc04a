"""What is earned of an order, line by line, as its advertiser may see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import AgreementId, BrandId, CommissionLineId, OrderId, OrderLineId
from marketplace.promotion.models import CommissionStatus

_OF_ORDER = text(
    "SELECT id, order_line_id, agreement_id, agreement_version, promoter_brand_id, rate_ppm, basis_minor,"
    " commission_minor, reversed_minor, denied_minor, status, expected_pay_at FROM commission_lines"
    " WHERE order_id = :order AND advertiser_id = :advertiser ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class LineStanding:
    """Minor units; ``commission_minor`` as it was earned, the platform's part of it included."""

    commission_line_id: CommissionLineId
    order_line_id: OrderLineId
    agreement_id: AgreementId
    agreement_version: int
    promoter_brand_id: BrandId
    rate_ppm: int
    basis_minor: int
    commission_minor: int
    reversed_minor: int
    denied_minor: int
    status: CommissionStatus
    expected_pay_at: datetime | None


async def commission_of_order(
    session: AsyncSession, advertiser_id: BrandId, order_id: OrderId
) -> list[LineStanding]:
    rows = await session.execute(_OF_ORDER, {"order": order_id, "advertiser": advertiser_id})
    return [
        LineStanding(
            CommissionLineId.of(row.id), OrderLineId.of(row.order_line_id), AgreementId.of(row.agreement_id),
            row.agreement_version, BrandId.of(row.promoter_brand_id), row.rate_ppm, row.basis_minor,
            row.commission_minor, row.reversed_minor, row.denied_minor, CommissionStatus(row.status),
            row.expected_pay_at,
        )
        for row in rows
    ]  # fmt: skip
