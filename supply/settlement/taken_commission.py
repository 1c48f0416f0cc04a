"""What refunds and lost disputes took of commissions, by order line: for the record both brands read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId, RefundId
from supply.settlement.composition import COMMISSION_PARTS, Part, part_of
from supply.settlement.ids import SplitLineId

_OF_REFUND = text(
    "SELECT order_id, changes -> 'taken' AS taken FROM split_refunds WHERE refund_id = :refund_id"
)
_OF_DISPUTE = text(
    "SELECT order_id, lost -> 'taken' AS taken FROM dispute_orders WHERE dispute_id = :dispute_id"
    " AND lost IS NOT NULL ORDER BY order_id"
)
_LINES = text("SELECT id, order_line_id FROM split_lines WHERE id = ANY(:ids)")


@dataclass(frozen=True, slots=True)
class CommissionTaken:
    """``payee_id`` is empty for the platform's part. Below zero, the payee got that back (at_source.refunding)."""

    order_line_id: OrderLineId
    part: Part
    payee_id: str
    amount_minor: int


def named_for(dispute_id: str, order_id: OrderId) -> RefundId:
    """The id under which what a lost dispute took of an order is kept beside what refunds took."""
    return RefundId.of(uuid5(NAMESPACE_URL, f"dispute:{dispute_id}:{order_id}"))


async def of_refund(
    session: AsyncSession, refund_id: RefundId
) -> tuple[OrderId, list[CommissionTaken]] | None:
    """Of which order, and what; None for a refund that the books do not know."""
    row = (await session.execute(_OF_REFUND, {"refund_id": refund_id})).one_or_none()
    return None if row is None else (OrderId.of(row.order_id), await _commissions(session, row.taken))


async def of_dispute(session: AsyncSession, dispute_id: str) -> dict[OrderId, list[CommissionTaken]]:
    """By order; of what the dispute was lost for, even when it was won later."""
    rows = (await session.execute(_OF_DISPUTE, {"dispute_id": dispute_id})).all()
    return {OrderId.of(row.order_id): await _commissions(session, row.taken) for row in rows}


async def _commissions(session: AsyncSession, taken: Iterable[Sequence[Any]]) -> list[CommissionTaken]:
    wanted = [
        (SplitLineId.parse(line_id), part_of(seat), payee_id, amount)
        for line_id, seat, payee_id, amount in taken
        if part_of(seat) in COMMISSION_PARTS and amount
    ]
    rows = await session.execute(_LINES, {"ids": [line_id for line_id, _, _, _ in wanted]})
    lines = {SplitLineId.of(row.id): OrderLineId.of(row.order_line_id) for row in rows}
    return [CommissionTaken(lines[line_id], *rest) for line_id, *rest in wanted]
