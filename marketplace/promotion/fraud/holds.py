"""Holds of commission lines: laid by a signal or a person, ended by a person or after thirty days by the clock.

A held line is neither confirmed nor payable. Released, it goes on with the next sweep; upheld, it is INVALID.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import AgreementId, BrandId, CommissionLineId, OrderId, OrderLineId, TouchId
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
    "SELECT l.id, l.order_id, l.order_line_id, l.advertiser_id, l.promoter_brand_id, n.opened_by"
    " FROM (SELECT DISTINCT {doubted}) n JOIN commission_lines l ON {which}"
    " WHERE l.status IN ('PENDING', 'CONFIRMED') AND NOT EXISTS (SELECT FROM commission_holds h"
    "  WHERE h.commission_line_id = l.id AND h.opened_by = n.opened_by) ORDER BY l.id, n.opened_by FOR UPDATE OF l"
)
_OF_ORDERS = text(
    _LINES.format(
        doubted="* FROM unnest(CAST(:by AS text[]), CAST(:orders AS uuid[]), CAST(:agreements AS uuid[]))"
        " AS w (opened_by, order_id, agreement_id)",
        which="l.order_id = n.order_id AND l.agreement_id = n.agreement_id",
    )
)
_OF_TOUCHES = text(
    _LINES.format(
        doubted="w.opened_by, s.commission_line_id FROM unnest(CAST(:by AS text[]), CAST(:touches AS uuid[]))"
        " AS w (opened_by, touch_id) JOIN commission_shares s ON s.touch_id = w.touch_id",
        which="l.id = n.commission_line_id",
    )
)
_ONE = text(_LINES.format(doubted="CAST(:by AS text) AS opened_by", which="l.id = :id"))
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
class OrdersDoubted:
    """What these orders earn from one agreement, by a signal."""

    signal_id: SignalId
    reason: str
    agreement_id: AgreementId
    orders: Sequence[OrderId]


@dataclass(frozen=True, slots=True)
class TouchesDoubted:
    """What these touches won, alone or with others, by a signal."""

    signal_id: SignalId
    reason: str
    touches: Sequence[TouchId]


@dataclass(frozen=True, slots=True)
class Ended:
    """``too_late``: lines whose commission had gone on before, so that it could not be found invalid."""

    lines: tuple[CommissionLineId, ...]
    denied_minor: int = 0
    too_late: tuple[CommissionLineId, ...] = ()


async def hold_orders(session: AsyncSession, doubts: Sequence[OrdersDoubted], *, clock: Clock) -> None:
    """As many statements for any number of doubts. SYSTEM session."""
    named = [(each, order_id) for each in doubts for order_id in each.orders]
    wanted = {
        "by": [str(each.signal_id) for each, _ in named], "orders": [order_id for _, order_id in named],
        "agreements": [each.agreement_id for each, _ in named],
    }  # fmt: skip
    await _open(session, (await session.execute(_OF_ORDERS, wanted)).all(), _openers(doubts), clock)


async def hold_earned_from(session: AsyncSession, doubts: Sequence[TouchesDoubted], *, clock: Clock) -> None:
    """As many statements for any number of doubts. SYSTEM session."""
    named = [(str(each.signal_id), touch_id) for each in doubts for touch_id in each.touches]
    wanted = {"by": [by for by, _ in named], "touches": [touch_id for _, touch_id in named]}
    await _open(session, (await session.execute(_OF_TOUCHES, wanted)).all(), _openers(doubts), clock)


async def hold_line(
    session: AsyncSession, commission_line_id: CommissionLineId, *, opened_by: str, reason: str, clock: Clock
) -> list[CommissionLineId]:
    """By a person; empty when it is not there to be held, or was held by the same before. SYSTEM session."""
    rows = (await session.execute(_ONE, {"id": commission_line_id, "by": opened_by})).all()
    return await _open(session, rows, {opened_by: (None, reason)}, clock)


_Openers = Mapping[str, tuple[SignalId | None, str]]
"""The signal, if one did it, and the reason, by who opens the hold."""


def _openers(doubts: Sequence[OrdersDoubted | TouchesDoubted]) -> _Openers:
    return {str(each.signal_id): (each.signal_id, each.reason) for each in doubts}


async def _open(
    session: AsyncSession, lines: Sequence[Row[Any]], openers: _Openers, clock: Clock
) -> list[CommissionLineId]:
    """A hold for each row: a line and who holds it."""
    if not lines:
        return []
    now = clock.now()
    clears_at = now + CLEARS_AFTER
    ids = [HoldId.new() for _ in lines]
    rows = [
        {
            "id": id, "commission_line_id": line.id, "order_id": line.order_id, "order_line_id": line.order_line_id,
            "advertiser_id": line.advertiser_id, "promoter_brand_id": line.promoter_brand_id,
            "signal_id": openers[line.opened_by][0], "opened_by": line.opened_by,
            "reason": openers[line.opened_by][1], "status": HoldStatus.OPEN.value,
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
    by_opener: dict[str, list[Row[Any]]] = {}
    for line in lines:
        by_opener.setdefault(line.opened_by, []).append(line)
    told = [
        CommissionHeld(
            tuple([CommissionLineId.of(line.id) for line in held]), BrandId.of(held[0].advertiser_id),
            BrandId.of(held[0].promoter_brand_id), openers[by][1], clears_at, now,
        )
        for by, held in by_opener.items()
    ]  # fmt: skip
    await outbox.record(session, *told)
    return [CommissionLineId.of(line.id) for line in lines]


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
