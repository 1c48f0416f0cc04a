"""Holds of commission lines: laid by a signal or a person, ended by a person or after thirty days by the clock.

A held line is neither confirmed nor payable. Released, it goes on with the next sweep; upheld, it is INVALID.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import BrandId, CommissionLineId, OrderId, OrderLineId
from infra import outbox
from infra.db.base import table_of
from infra.db.rows import insert_rows
from infra.db.session import Database
from marketplace.promotion.commission import states
from marketplace.promotion.commission.denials import invalidate
from marketplace.promotion.errors import CommissionNotPending
from marketplace.promotion.fraud.events import CommissionHeld, CommissionHoldEnded
from marketplace.promotion.fraud.ids import HoldId, SignalId
from marketplace.promotion.fraud.models import CommissionHold, HoldStatus
from marketplace.promotion.offers import budgets
from supply.settlement.commission_progress import pending_lines
from supply.settlement.holds import LineHold, hold_commissions, lift_holds

CLEARS_AFTER = timedelta(days=30)
CLOCK = "clock"
HOLDABLE = ("PENDING", "CONFIRMED")
_CLEARED_AT_ONCE = 200
_HOLDS = table_of(CommissionHold)
# Two who lay a hold on one line take turns at the line.
_LINES = (
    "SELECT l.id, l.order_id, l.order_line_id, l.advertiser_id, l.promoter_brand_id FROM commission_lines l"
    " WHERE {which} AND l.status IN ('PENDING', 'CONFIRMED') AND NOT EXISTS (SELECT FROM commission_holds h"
    "  WHERE h.commission_line_id = l.id AND h.opened_by = :by) ORDER BY l.id FOR UPDATE OF l"
)
_OF_ORDERS = text(_LINES.format(which="l.order_id = ANY(:orders) AND l.agreement_id = :agreement"))
_OF_TOUCHES = text(
    _LINES.format(
        which="l.id IN (SELECT s.commission_line_id FROM commission_shares s WHERE s.touch_id = ANY(:touches))"
    )
)
_ONE = text(_LINES.format(which="l.id = :id"))
_OPEN = "SELECT * FROM commission_holds WHERE {which} AND status = 'OPEN' ORDER BY commission_line_id, id"
_OPEN_ONE = text(_OPEN.format(which="id = :id") + " FOR UPDATE")
_OPEN_OF_SIGNAL = text(_OPEN.format(which="signal_id = :signal") + " FOR UPDATE")
_DUE = text(_OPEN.format(which="clears_at <= :now") + " LIMIT :limit FOR UPDATE SKIP LOCKED")
_END = text(
    "UPDATE commission_holds SET status = :status, ended_at = :now, ended_by = :by, decision = :decision"
    " WHERE id = ANY(:ids)"
)
_CLEAR_SIGNALS = text(
    "UPDATE fraud_signals s SET status = 'CLEARED', decided_at = :now, decided_by = 'clock' WHERE s.id = ANY(:signals)"
    " AND s.status = 'OPEN' AND NOT EXISTS (SELECT FROM commission_holds h WHERE h.signal_id = s.id"
    "  AND h.status = 'OPEN')"
)


@dataclass(frozen=True, slots=True)
class Ended:
    """``too_late``: lines whose commission had gone on before, so that it could not be found invalid."""

    lines: tuple[CommissionLineId, ...]
    denied_minor: int = 0
    too_late: tuple[CommissionLineId, ...] = ()


async def hold_orders(
    session: AsyncSession,
    orders: Sequence[OrderId],
    *,
    agreement_id: Any,
    signal_id: SignalId,
    reason: str,
    clock: Clock,
) -> list[CommissionLineId]:
    """Hold what these orders earn from one agreement. SYSTEM session."""
    wanted = {"orders": list(orders), "agreement": agreement_id, "by": str(signal_id)}
    rows = (await session.execute(_OF_ORDERS, wanted)).all()
    return await _open(session, rows, str(signal_id), reason, clock, signal_id)


async def hold_earned_from(
    session: AsyncSession, touches: Sequence[Any], *, signal_id: SignalId, reason: str, clock: Clock
) -> list[CommissionLineId]:
    """Hold the lines that these touches won, alone or with others. SYSTEM session."""
    wanted = {"touches": list(touches), "by": str(signal_id)}
    rows = (await session.execute(_OF_TOUCHES, wanted)).all()
    return await _open(session, rows, str(signal_id), reason, clock, signal_id)


async def hold_line(
    session: AsyncSession, commission_line_id: CommissionLineId, *, opened_by: str, reason: str, clock: Clock
) -> list[CommissionLineId]:
    """By a person; empty when it is not there to be held, or was held by the same before. SYSTEM session."""
    rows = (await session.execute(_ONE, {"id": commission_line_id, "by": opened_by})).all()
    return await _open(session, rows, opened_by, reason, clock, None)


async def _open(
    session: AsyncSession,
    lines: Sequence[Row[Any]],
    opened_by: str,
    reason: str,
    clock: Clock,
    signal_id: SignalId | None,
) -> list[CommissionLineId]:
    if not lines:
        return []
    now = clock.now()
    clears_at = now + CLEARS_AFTER
    ids = [HoldId.new() for _ in lines]
    rows = [
        {
            "id": id, "commission_line_id": line.id, "order_id": line.order_id, "order_line_id": line.order_line_id,
            "advertiser_id": line.advertiser_id, "promoter_brand_id": line.promoter_brand_id,
            "signal_id": signal_id, "opened_by": opened_by, "reason": reason, "status": HoldStatus.OPEN.value,
            "opened_at": now, "clears_at": clears_at,
        }
        for id, line in zip(ids, lines, strict=True)
    ]  # fmt: skip
    await insert_rows(session, _HOLDS, rows)
    laid = [
        LineHold(str(id), OrderId.of(line.order_id), OrderLineId.of(line.order_line_id))
        for id, line in zip(ids, lines, strict=True)
    ]
    if back := await hold_commissions(session, laid, now=now):
        # One whose payees have theirs already stays confirmed: only the platform's part came back.
        back &= await pending_lines(session, [line.order_id for line in laid])
        await states.unconfirm(session, sorted(back))
        await budgets.reserve_again(session, sorted(back))
    held = [CommissionLineId.of(line.id) for line in lines]
    parties = BrandId.of(lines[0].advertiser_id), BrandId.of(lines[0].promoter_brand_id)
    await outbox.record(session, CommissionHeld(tuple(held), *parties, reason, clears_at, now))
    return held


async def open_holds_of(session: AsyncSession, signal_id: SignalId) -> Sequence[Row[Any]]:
    return (await session.execute(_OPEN_OF_SIGNAL, {"signal": signal_id})).all()


async def open_hold(session: AsyncSession, hold_id: HoldId) -> Row[Any] | None:
    return (await session.execute(_OPEN_ONE, {"id": hold_id})).one_or_none()


async def release(
    session: AsyncSession, holds: Sequence[Row[Any]], *, by: str, reason: str, clock: Clock
) -> Ended:
    """End these open holds in the promoter's favour. SYSTEM session."""
    await _end(session, holds, HoldStatus.RELEASED, by, reason, clock)
    await states.go_on(session, [OrderLineId.of(hold.order_line_id) for hold in holds])
    return Ended(tuple(CommissionLineId.of(hold.commission_line_id) for hold in holds))


async def uphold(
    session: AsyncSession, holds: Sequence[Row[Any]], *, by: str, reason: str, clock: Clock
) -> Ended:
    """The lines were not earned: INVALID, and the merchant gets its money back. SYSTEM session."""
    await _end(session, holds, HoldStatus.UPHELD, by, reason, clock)
    denied, invalid, late = 0, [], []
    for hold in holds:
        line = CommissionLineId.of(hold.commission_line_id)
        try:
            denied += await invalidate(session, line, reason=hold.reason, approved_by=by, clock=clock)
            invalid.append(line)
        except CommissionNotPending:
            late.append(line)
    return Ended(tuple(invalid), denied, tuple(late))


async def clear_holds(db: Database, *, clock: Clock) -> int:
    """Sweep: release what nobody decided in thirty days; how many holds."""
    async with db.unit_of_work(SYSTEM) as session:
        holds = (await session.execute(_DUE, {"now": clock.now(), "limit": _CLEARED_AT_ONCE})).all()
        if holds:
            await release(session, holds, by=CLOCK, reason="nobody decided in thirty days", clock=clock)
            signals = [hold.signal_id for hold in holds if hold.signal_id is not None]
            await session.execute(_CLEAR_SIGNALS, {"signals": signals, "now": clock.now()})
    return len(holds)


async def _end(
    session: AsyncSession, holds: Sequence[Row[Any]], status: HoldStatus, by: str, reason: str, clock: Clock
) -> None:
    now = clock.now()
    values = {
        "ids": [hold.id for hold in holds], "status": status.value, "now": now, "by": by, "decision": reason,
    }  # fmt: skip
    await session.execute(_END, values)
    await lift_holds(session, [str(HoldId.of(hold.id)) for hold in holds])
    ended = [
        CommissionHoldEnded(
            HoldId.of(hold.id), CommissionLineId.of(hold.commission_line_id), BrandId.of(hold.advertiser_id),
            BrandId.of(hold.promoter_brand_id), status is HoldStatus.UPHELD, by, reason, now,
        )
        for hold in holds
    ]  # fmt: skip
    await outbox.record(session, *ended)
