"""Reads of disputes. A merchant sees the disputes of its orders, and of each only its own part of the amount."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import OrderId
from core.pagination import Page, PageRequest, page_of
from supply.settlement.disputes.errors import DisputeNotFound
from supply.settlement.disputes.models import EvidenceStatus
from supply.settlement.disputes.stages import Stage
from supply.settlement.ids import EvidenceId

_VIEW = (
    "SELECT d.id, d.stage, d.provider_status, d.reason, d.currency, d.opened_at, d.evidence_due_at,"
    " d.evidence_submissions, d.ended_at, d.charge_id, {amount} AS amount_minor,"
    " coalesce((SELECT array_agg(o.order_id ORDER BY o.order_id) FROM dispute_orders o WHERE o.dispute_id = d.id),"
    " '{{}}') AS orders, coalesce((SELECT sum(s.pending_minor + s.available_minor) FROM dispute_shares s"
    " WHERE s.dispute_id = d.id), 0)::bigint AS frozen_minor FROM disputes d"
)
_PART = "coalesce((SELECT sum(o.amount_minor) FROM dispute_orders o WHERE o.dispute_id = d.id), 0)::bigint"
_WHERE = (
    " WHERE (CAST(:stage AS text) IS NULL OR d.stage = :stage)"
    " AND (CAST(:opened_at AS timestamptz) IS NULL OR (d.opened_at, d.id) < (CAST(:opened_at AS timestamptz),"
    " CAST(:id AS text))) ORDER BY d.opened_at DESC, d.id DESC LIMIT :limit"
)
_PAGE = {
    whole: text(_VIEW.format(amount="d.amount_minor" if whole else _PART) + _WHERE) for whole in (True, False)
}
_ONE = {
    whole: text(_VIEW.format(amount="d.amount_minor" if whole else _PART) + " WHERE d.id = :id")
    for whole in (True, False)
}
_OF_ORDERS = {
    whole: text(
        _VIEW.format(amount="d.amount_minor" if whole else _PART)
        + " WHERE d.id IN (SELECT dispute_id FROM dispute_orders WHERE order_id = ANY(:orders)) ORDER BY d.opened_at"
    )
    for whole in (True, False)
}
_CHARGED_BACK = text(
    "SELECT o.order_id, sum(o.amount_minor)::bigint AS minor FROM dispute_orders o"
    " JOIN disputes d ON d.id = o.dispute_id AND d.stage = 'lost' WHERE o.order_id = ANY(:orders) GROUP BY 1"
)
_EVIDENCE = text("SELECT * FROM dispute_evidence WHERE dispute_id = :id ORDER BY id")


@dataclass(frozen=True, slots=True)
class DisputeView:
    """``amount_minor`` is the reader's orders' part (all of it for the platform), ``frozen_minor`` what lies in
    2030 for it as far as the reader may see. ``orders`` are those the reader may see."""

    id: str
    stage: Stage
    provider_status: str
    reason: str
    currency: str
    amount_minor: int
    frozen_minor: int
    charge_id: str
    orders: Sequence[OrderId]
    opened_at: datetime
    evidence_due_at: datetime | None
    evidence_submissions: int
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class EvidenceView:
    id: EvidenceId
    dispute_id: str
    fields: dict[str, str]
    final: bool
    status: EvidenceStatus
    failure: str | None
    submitted_by: str
    created_at: datetime
    sent_at: datetime | None


async def disputes_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, stage: Stage | None = None
) -> Page[DisputeView]:
    """Newest first."""
    opened_at, id = (datetime.fromisoformat(page.key[0]), page.key[1]) if page.key else (None, None)
    where = {
        "stage": stage.value if stage else None, "opened_at": opened_at, "id": id, "limit": page.first + 1,
    }  # fmt: skip
    found = [_view(row) for row in await session.execute(_PAGE[actor.sees_everything], where)]
    return page_of(found, page, lambda each: (each.opened_at.isoformat(), each.id))


async def dispute(session: AsyncSession, actor: Actor, dispute_id: str) -> DisputeView:
    """Raises ``DisputeNotFound``."""
    row = (await session.execute(_ONE[actor.sees_everything], {"id": dispute_id})).one_or_none()
    if row is None:
        raise DisputeNotFound(dispute_id)
    return _view(row)


async def of_orders(session: AsyncSession, actor: Actor, orders: Sequence[OrderId]) -> list[DisputeView]:
    rows = await session.execute(_OF_ORDERS[actor.sees_everything], {"orders": list(orders)})
    return [_view(row) for row in rows]


async def charged_back(session: AsyncSession, orders: Sequence[OrderId]) -> dict[OrderId, int]:
    """What lost disputes gave back to the customers, minor units by order; orders without one are 0.

    It is no refund: the bank took it, and gives it back when it turns its verdict round.
    """
    rows = await session.execute(_CHARGED_BACK, {"orders": list(orders)})
    found = {OrderId.of(row.order_id): int(row.minor) for row in rows}
    return {order: found.get(order, 0) for order in orders}


async def evidence_of(session: AsyncSession, actor: Actor, dispute_id: str) -> list[EvidenceView]:
    """What was answered, oldest first; a merchant sees its own answers."""
    return [
        EvidenceView(
            EvidenceId.of(row.id), row.dispute_id, row.fields, row.final, EvidenceStatus(row.status),
            row.failure, row.submitted_by, row.created_at, row.sent_at,
        )
        for row in await session.execute(_EVIDENCE, {"id": dispute_id})
    ]  # fmt: skip


def _view(row: Row[Any]) -> DisputeView:
    return DisputeView(
        row.id, Stage(row.stage), row.provider_status, row.reason, row.currency, row.amount_minor,
        row.frozen_minor, row.charge_id, [OrderId.of(each) for each in row.orders], row.opened_at,
        row.evidence_due_at, row.evidence_submissions, row.ended_at,
    )  # fmt: skip
