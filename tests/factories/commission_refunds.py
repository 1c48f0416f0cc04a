"""A refund of so much of the basis of commission lines, recorded as the refunds that settlement makes are."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import OrderLineId, RefundId
from marketplace.promotion.commission import reversal
from marketplace.promotion.commission.reversal import TakenShare
from marketplace.promotion.commission.rules import reverse_line
from marketplace.promotion.models import ShareRole
from supply.settlement.refunded_goods import GoodsRefunded

_LINES = text(
    "SELECT l.order_line_id, l.basis_minor, l.commission_minor - l.denied_minor AS commission_minor,"
    " l.refunded_basis_minor, array_agg(s.role ORDER BY s.position) AS roles,"
    " array_agg(s.payee ORDER BY s.position) AS payees,"
    " array_agg(s.earned_minor - s.reversed_minor - s.denied_minor ORDER BY s.position) AS held"
    " FROM commission_lines l JOIN commission_shares s ON s.commission_line_id = l.id"
    " WHERE l.order_line_id = ANY(:lines) GROUP BY l.id ORDER BY l.id"
)


async def refund_basis(
    session: AsyncSession, refund_id: RefundId, basis: Mapping[OrderLineId, int], *, clock: Clock
) -> None:
    """``basis``: minor units by order line, of this refund alone. Lines nobody earned from are left out."""
    taken, goods = [], {}
    for row in (await session.execute(_LINES, {"lines": list(basis)})).all():
        line_id = OrderLineId.of(row.order_line_id)
        refunded = row.refunded_basis_minor + basis[line_id]
        amounts = reverse_line(
            commission_minor=row.commission_minor, basis_minor=row.basis_minor,
            refunded_basis_minor=min(refunded, row.basis_minor), held=row.held,
        )  # fmt: skip
        taken += [
            TakenShare(line_id, ShareRole(role), payee or "", amount)
            for role, payee, amount in zip(row.roles, row.payees, amounts, strict=True)
        ]
        goods[line_id] = GoodsRefunded(refunded, row.basis_minor)
    await reversal.reverse_taken(session, refund_id, taken, goods, clock=clock)
