"""Reads of disputes: for both brands, and the platform."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import AgreementId, BrandId, CommissionLineId, OrderId, TouchId
from core.money import Money
from core.pagination import Page, PageRequest, page_of
from marketplace.promotion.disputes.errors import DisputeNotFound
from marketplace.promotion.disputes.models import CommissionDisputeId, DisputeStatus, DisputeSubject
from marketplace.promotion.fraud.ids import HoldId

_DISPUTE = (
    "SELECT d.* FROM commission_disputes d"
    " WHERE (:everything OR :brand IN (d.advertiser_id, d.promoter_brand_id))"
)
_PAGE = text(
    f"{_DISPUTE} AND (CAST(:status AS text) IS NULL OR d.status = :status)"
    " AND (CAST(:after AS uuid) IS NULL OR d.id < :after) ORDER BY d.id DESC LIMIT :limit"
)
_ONE = text(f"{_DISPUTE} AND d.id = :id")


@dataclass(frozen=True, slots=True)
class DisputeView:
    """``claimed`` is zero where the claim is that something be undone; ``granted`` is what the end of it moved."""

    id: CommissionDisputeId
    subject: DisputeSubject
    status: DisputeStatus
    order_id: OrderId
    commission_line_id: CommissionLineId | None
    hold_id: HoldId | None
    touch_id: TouchId | None
    agreement_id: AgreementId
    advertiser_id: BrandId
    promoter_brand_id: BrandId
    opener_id: BrandId
    claimed: Money
    granted: Money
    reason: str
    reply: str
    escalation: str
    ruling: str
    opened_at: datetime
    due_at: datetime
    ended_at: datetime | None


async def disputes_page(
    session: AsyncSession, actor: Actor, request: PageRequest, *, status: DisputeStatus | None = None
) -> Page[DisputeView]:
    """Newest first."""
    wanted = {
        **_of(actor), "status": status, "after": UUID(request.key[0]) if request.key else None,
        "limit": request.first + 1,
    }  # fmt: skip
    rows = [_view(row) for row in await session.execute(_PAGE, wanted)]
    return page_of(rows, request, lambda found: (found.id.hex,))


async def dispute(session: AsyncSession, actor: Actor, dispute_id: CommissionDisputeId) -> DisputeView:
    """Raises ``DisputeNotFound`` for one of others."""
    row = (await session.execute(_ONE, {**_of(actor), "id": dispute_id})).one_or_none()
    if row is None:
        raise DisputeNotFound("no such dispute", field="id")
    return _view(row)


def _of(actor: Actor) -> dict[str, Any]:
    everything = actor.sees_everything
    return {"everything": everything, "brand": None if everything else actor.brand_id}


def _view(row: Row[Any]) -> DisputeView:
    def optional(kind: Any, value: Any) -> Any:
        return None if value is None else kind.of(value)

    return DisputeView(
        CommissionDisputeId.of(row.id), DisputeSubject(row.subject), DisputeStatus(row.status),
        OrderId.of(row.order_id), optional(CommissionLineId, row.commission_line_id),
        optional(HoldId, row.hold_id), optional(TouchId, row.touch_id), AgreementId.of(row.agreement_id),
        BrandId.of(row.advertiser_id), BrandId.of(row.promoter_brand_id), BrandId.of(row.opener_id),
        Money(row.claimed_minor, row.currency), Money(row.granted_minor, row.currency), row.reason, row.reply,
        row.escalation, row.ruling, row.opened_at, row.due_at, row.ended_at,
    )  # fmt: skip
