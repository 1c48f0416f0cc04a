"""Public reads of sharing rails. Row-level security shows a merchant its orders, a payee what is told for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.ids import BrandId, OrderId, RefundId
from core.pagination import Page, PageRequest, page_of
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.rails.models import InstructionStatus, RailRefundStatus, RequestStatus
from supply.settlement.split_plan import PayeeKind

_ORDER = text("SELECT * FROM rail_orders WHERE order_id = :order_id")
_REQUESTS = text("SELECT * FROM rail_requests WHERE order_id = :order_id ORDER BY number")
_INSTRUCTIONS = text(
    "SELECT * FROM rail_instructions WHERE request_id = ANY(:ids) ORDER BY request_id, payee_id"
)
_OF_PAYEE = text(
    "SELECT * FROM rail_instructions i WHERE (CAST(:payee_id AS text) IS NULL OR i.payee_id = :payee_id)"
    " AND (CAST(:after AS uuid) IS NULL OR (i.request_id, i.payee_id) < (CAST(:after AS uuid), :after_payee))"
    " ORDER BY i.request_id DESC, i.payee_id DESC LIMIT :limit"
)
_REFUSED = text(
    "SELECT * FROM rail_requests WHERE status = 'refused' AND (CAST(:after AS uuid) IS NULL"
    " OR id > CAST(:after AS uuid)) ORDER BY id LIMIT :limit"
)
_REFUNDS = text("SELECT * FROM rail_refunds WHERE order_id = ANY(:orders) ORDER BY refund_id")
_TOLD = text(
    "SELECT i.*, r.rail, o.payment_id, o.merchant_account FROM rail_instructions i"
    " JOIN rail_requests r ON r.id = i.request_id JOIN rail_orders o ON o.order_id = i.order_id"
    " WHERE r.rail = :rail AND i.ended_at >= :since AND i.ended_at < :until ORDER BY i.request_id, i.payee_id"
)


@dataclass(frozen=True, slots=True)
class InstructionView:
    request_id: RailRequestId
    order_id: OrderId
    payee_id: str
    kind: PayeeKind
    currency: str
    amount_minor: int
    status: InstructionStatus
    failure: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class RequestView:
    id: RailRequestId
    order_id: OrderId
    number: int
    finish: bool
    status: RequestStatus
    send_at: datetime
    send_before: datetime | None
    failure: str | None
    instructions: tuple[InstructionView, ...]


@dataclass(frozen=True, slots=True)
class RailOrderView:
    order_id: OrderId
    merchant_id: BrandId
    rail: str
    payment_id: str
    currency: str
    paid_minor: int
    fee_minor: int
    merchant_minor: int
    paid_at: datetime
    closed_at: datetime | None
    requests: tuple[RequestView, ...]


@dataclass(frozen=True, slots=True)
class RailRefundView:
    """``borne`` is who bears it, by payee, where the refund was composed."""

    refund_id: RefundId
    amount_minor: int
    returned_minor: int
    fee_back_minor: int
    status: RailRefundStatus
    failure: str | None
    reserved_at: datetime
    ended_at: datetime | None
    borne: dict[str, int]


@dataclass(frozen=True, slots=True)
class ToldMovement:
    """One receiver of one request, in the terms of the rail's daily bill: kind SHARE, ``number`` and account."""

    payment_id: str
    merchant_account: str
    number: str
    account: str
    amount_minor: int
    paid: bool
    ended_at: datetime


async def rail_order(session: AsyncSession, actor: Actor, order_id: OrderId) -> RailOrderView | None:
    row = (await session.execute(_ORDER, {"order_id": order_id})).first()
    if row is None:
        return None
    requests = (await session.execute(_REQUESTS, {"order_id": order_id})).all()
    return RailOrderView(
        OrderId.of(row.order_id), BrandId.of(row.merchant_id), row.rail, row.payment_id, row.currency,
        row.paid_minor, row.fee_minor, row.merchant_minor, row.paid_at, row.closed_at,
        tuple(await _with_instructions(session, requests)),
    )  # fmt: skip


async def rail_refunds(session: AsyncSession, actor: Actor, order_id: OrderId) -> list[RailRefundView]:
    return (await rail_refunds_of(session, [order_id]))[order_id]


async def rail_refunds_of(
    session: AsyncSession, order_ids: Sequence[OrderId]
) -> dict[OrderId, list[RailRefundView]]:
    """Oldest first; none for orders that the reader may not see. One statement."""
    found: dict[OrderId, list[RailRefundView]] = {each: [] for each in order_ids}
    for row in await session.execute(_REFUNDS, {"orders": list(order_ids)}):
        view = RailRefundView(
            RefundId.of(row.refund_id), row.amount_minor, row.returned_minor, row.fee_back_minor,
            RailRefundStatus(row.status), row.failure, row.reserved_at, row.ended_at,
            dict((row.changes or {}).get("borne", {})),
        )  # fmt: skip
        found[OrderId.of(row.order_id)].append(view)
    return found


async def instructions_page(
    session: AsyncSession, actor: Actor, page: PageRequest, *, payee_id: str | None = None
) -> Page[InstructionView]:
    """Newest first."""
    after = page.key or (None, None)
    values = {
        "payee_id": payee_id, "after": after[0], "after_payee": after[1], "limit": page.first + 1,
    }  # fmt: skip
    views = [_instruction(row) for row in await session.execute(_OF_PAYEE, values)]
    return page_of(views, page, lambda view: (view.request_id.hex, view.payee_id))


async def refused_requests_page(session: AsyncSession, actor: Actor, page: PageRequest) -> Page[RequestView]:
    """What waits for an operator, oldest first."""
    after = page.key[0] if page.key else None
    rows = (await session.execute(_REFUSED, {"after": after, "limit": page.first + 1})).all()
    return page_of(await _with_instructions(session, rows), page, lambda view: (view.id.hex,))


async def told_movements(
    session: AsyncSession, *, rail: str, since: datetime, until: datetime
) -> list[ToldMovement]:
    """What the rail told us of between the two, to be held against its bill by number and account."""
    rows = await session.execute(_TOLD, {"rail": rail, "since": since, "until": until})
    return [
        ToldMovement(
            row.payment_id, row.merchant_account, str(RailRequestId.of(row.request_id)), row.account_id,
            row.amount_minor, row.status == InstructionStatus.PAID, row.ended_at,
        )
        for row in rows
    ]  # fmt: skip


async def _with_instructions(session: AsyncSession, requests: Sequence[Any]) -> list[RequestView]:
    told: dict[Any, list[InstructionView]] = {}
    for row in await session.execute(_INSTRUCTIONS, {"ids": [request.id for request in requests]}):
        told.setdefault(row.request_id, []).append(_instruction(row))
    return [
        RequestView(
            RailRequestId.of(row.id), OrderId.of(row.order_id), row.number, row.finish,
            RequestStatus(row.status), row.send_at, row.send_before, row.failure,
            tuple(told.get(row.id, ())),
        )
        for row in requests
    ]  # fmt: skip


def _instruction(row: Any) -> InstructionView:
    return InstructionView(
        RailRequestId.of(row.request_id), OrderId.of(row.order_id), row.payee_id, PayeeKind(row.kind),
        row.currency, row.amount_minor, InstructionStatus(row.status), row.failure, row.ended_at,
    )  # fmt: skip
