"""The rate for new customers denied (cps.md §5, DEVICE_REUSE): a line keeps what a returning customer would earn it.

The order is credited again from its stored inputs with a buyer that is not new. What refunds took of the line before
is taken of the lower commission too, so the denial is the difference of what would be held, by R6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import AgreementId, CommissionLineId, OrderId, OrderLineId
from core.money import cumulative_part
from marketplace.promotion.attribution.crediting import Amounts, credit
from marketplace.promotion.commission.denials import deny_part, give_back_part
from marketplace.promotion.facts import read_inputs
from marketplace.promotion.fraud.ids import SignalId
from marketplace.promotion.fraud.signals import Rule

_LINES = text(
    "SELECT l.id, l.order_id, l.order_line_id, l.basis_minor, l.commission_minor, l.refunded_basis_minor, d.input,"
    " d.amounts FROM commission_lines l JOIN attribution_decisions d ON d.id = l.decision_id"
    " WHERE l.order_id = ANY(:orders) AND l.agreement_id = :agreement AND l.status = 'PENDING'"
    " AND NOT EXISTS (SELECT FROM commission_denials n WHERE n.commission_line_id = l.id AND n.reference LIKE 'rate:%'"
    "  AND n.restored_at IS NULL) ORDER BY l.id"
)
_DENIED = text(
    "SELECT DISTINCT commission_line_id FROM commission_denials WHERE reference = ANY(:references)"
    " AND restored_at IS NULL ORDER BY commission_line_id"
)
_HELD_BY = text("SELECT commission_line_id FROM commission_holds WHERE signal_id = :signal")


async def deny(
    session: AsyncSession,
    orders: Sequence[OrderId],
    agreement_id: AgreementId,
    *,
    signal_id: SignalId,
    clock: Clock,
) -> int:
    """Deny what these orders earn more for a new customer; each line once. Minor units. SYSTEM session."""
    rows = (await session.execute(_LINES, {"orders": list(orders), "agreement": agreement_id})).all()
    returning: dict[Any, dict[str, int]] = {}
    denied = 0
    for row in rows:
        if row.order_id not in returning:
            returning[row.order_id] = _as_returning(row.input, row.amounts)
        lower = returning[row.order_id].get(str(OrderLineId.of(row.order_line_id)), row.commission_minor)
        line_id = CommissionLineId.of(row.id)
        denied += await deny_part(
            session, line_id, _difference(row, lower), reference=_reference(signal_id, line_id),
            reason=Rule.DEVICE_REUSE, approved_by=str(signal_id), clock=clock,
        )  # fmt: skip
    return denied


async def give_back(session: AsyncSession, signal_id: SignalId, *, reason: str, by: str, clock: Clock) -> int:
    """The signal was wrong: its lines earn the rate for new customers again. Minor units. SYSTEM session."""
    held = [
        CommissionLineId.of(each)
        for each in (await session.execute(_HELD_BY, {"signal": signal_id})).scalars()
    ]
    references = [_reference(signal_id, line) for line in held]
    back = 0
    for line in (await session.execute(_DENIED, {"references": references})).scalars().all():
        line_id = CommissionLineId.of(line)
        back += await give_back_part(
            session,
            line_id,
            reference=_reference(signal_id, line_id),
            reason=reason,
            approved_by=by,
            clock=clock,
        )
    return back


def _as_returning(inputs: str, amounts: str) -> dict[str, int]:
    """By order line, what the same order earns when its buyer is not new."""
    order, touches, agreements = read_inputs(inputs)
    credited = credit(order._replace(is_new_customer=False), touches, agreements, Amounts.read(amounts))
    return {line.order_line_id: line.commission_minor for line in credited.lines}


def _difference(row: Any, lower_minor: int) -> int:
    def held(commission_minor: int) -> int:
        back = cumulative_part(commission_minor, row.refunded_basis_minor, row.basis_minor)
        return commission_minor - back

    return max(held(row.commission_minor) - held(lower_minor), 0)


def _reference(signal_id: SignalId, line_id: CommissionLineId) -> str:
    return f"rate:{signal_id}:{line_id}"
