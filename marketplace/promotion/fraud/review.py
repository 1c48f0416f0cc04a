"""What people decide about signals and holds: the advertiser that pays, or an operator of the platform.

Dismissed, a signal was wrong and all it did is undone: holds go, clicks and codes count again from now on, the rate for
new customers and what was found invalid come back. Upheld, what is held is INVALID, and the rest stays done. Decisions
of orders that were made meanwhile stand: a touch is judged by what was known when its order was paid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import Actor
from core.clock import Clock
from core.ids import CommissionLineId
from marketplace.promotion.commission.denials import reinstate
from marketplace.promotion.coupons.entries import clear_leaked
from marketplace.promotion.coupons.models import CouponId
from marketplace.promotion.errors import CommissionLineNotFound
from marketplace.promotion.fraud import holds, new_rate
from marketplace.promotion.fraud.errors import (
    AlreadyDecided,
    HoldNotFound,
    LineNotHoldable,
    ReasonMissing,
    SignalNotFound,
)
from marketplace.promotion.fraud.holds import Ended
from marketplace.promotion.fraud.ids import HoldId, SignalId
from marketplace.promotion.fraud.models import HoldStatus, SignalStatus

LONGEST_REASON = 1_000
_SIGNAL = text("SELECT * FROM fraud_signals WHERE id = :id FOR UPDATE")
_HOLD = text("SELECT advertiser_id, status FROM commission_holds WHERE id = :id")
_LINE = text("SELECT advertiser_id FROM commission_lines WHERE id = :id")
_DECIDE = text(
    "UPDATE fraud_signals SET status = :status, decided_at = :now, decided_by = :by, decision = :reason WHERE id = :id"
)
_INCLUDE = text("UPDATE excluded_touches SET lifted_at = :now WHERE signal_id = :id AND lifted_at IS NULL")
_FOUND_INVALID = text(
    "SELECT DISTINCT d.commission_line_id FROM commission_denials d WHERE d.denied_by = :by AND d.restored_at IS NULL"
    " AND d.reference LIKE 'invalid:%' AND d.commission_line_id IN (SELECT l.id FROM commission_lines l"
    "  WHERE l.order_id = :order)"
)


@dataclass(frozen=True, slots=True)
class Reviewed:
    """``restored_minor`` came back to promoters, ``denied_minor`` to the merchant. ``too_late``: upheld lines whose
    commission had gone on before, for a dispute to settle."""

    lines: tuple[CommissionLineId, ...] = ()
    denied_minor: int = 0
    restored_minor: int = 0
    too_late: tuple[CommissionLineId, ...] = ()


async def dismiss_signal(
    session: AsyncSession, actor: Actor, signal_id: SignalId, *, reason: str, clock: Clock
) -> Reviewed:
    """The signal was wrong. SYSTEM session; raises ``SignalNotFound``, ``AlreadyDecided``, ``ReasonMissing``."""
    row = await _signal(session, actor, signal_id, reason, (SignalStatus.OPEN, SignalStatus.CLEARED))
    by = str(actor)
    open_ones = await holds.open_holds_of(session, signal_id)
    ended = await holds.release(session, open_ones, by=by, reason=reason, clock=clock)
    await session.execute(_INCLUDE, {"id": signal_id, "now": clock.now()})
    if row.coupon_id is not None:
        await clear_leaked(session, CouponId.of(row.coupon_id))
    restored = await new_rate.give_back(session, signal_id, reason=reason, by=by, clock=clock)
    if row.order_id is not None:
        found = await session.execute(_FOUND_INVALID, {"by": str(signal_id), "order": row.order_id})
        for line in found.scalars().all():
            restored += await reinstate(
                session, CommissionLineId.of(line), reason=reason, approved_by=by, clock=clock
            )
    await _decide(session, signal_id, SignalStatus.DISMISSED, by, reason, clock)
    return Reviewed(ended.lines, restored_minor=restored)


async def uphold_signal(
    session: AsyncSession, actor: Actor, signal_id: SignalId, *, reason: str, clock: Clock
) -> Reviewed:
    """The signal was right: what it holds is INVALID. SYSTEM session; raises as ``dismiss_signal``."""
    await _signal(session, actor, signal_id, reason, (SignalStatus.OPEN,))
    open_ones = await holds.open_holds_of(session, signal_id)
    ended = await holds.uphold(session, open_ones, by=str(actor), reason=reason, clock=clock)
    await _decide(session, signal_id, SignalStatus.UPHELD, str(actor), reason, clock)
    return _reviewed(ended)


async def release_hold(
    session: AsyncSession, actor: Actor, hold_id: HoldId, *, reason: str, clock: Clock
) -> Reviewed:
    """One line goes on; what its signal did besides stays. SYSTEM session; raises ``HoldNotFound``,
    ``AlreadyDecided``, ``ReasonMissing``."""
    hold = await _hold(session, actor, hold_id, reason)
    return _reviewed(await holds.release(session, [hold], by=str(actor), reason=reason, clock=clock))


async def uphold_hold(
    session: AsyncSession, actor: Actor, hold_id: HoldId, *, reason: str, clock: Clock
) -> Reviewed:
    """One line is INVALID. SYSTEM session; raises as ``release_hold``."""
    hold = await _hold(session, actor, hold_id, reason)
    return _reviewed(await holds.uphold(session, [hold], by=str(actor), reason=reason, clock=clock))


async def hold_by_hand(
    session: AsyncSession, actor: Actor, commission_line_id: CommissionLineId, *, reason: str, clock: Clock
) -> None:
    """Hold a line for thirty days at most: once by the advertiser, once by the platform. SYSTEM session.

    Raises ``CommissionLineNotFound``, ``LineNotHoldable``, ``ReasonMissing``.
    """
    _check(reason)
    _require_reviewer(actor)
    row = (await session.execute(_LINE, {"id": commission_line_id})).one_or_none()
    if row is None or not _reviews(actor, row):
        raise CommissionLineNotFound("no such commission line", field="commissionLineId")
    side = "platform" if actor.sees_everything else "advertiser"
    if not await holds.hold_line(session, commission_line_id, opened_by=side, reason=reason, clock=clock):
        raise LineNotHoldable("only a pending or confirmed line, and once by each side")


def _reviewed(ended: Ended) -> Reviewed:
    return Reviewed(ended.lines, ended.denied_minor, too_late=ended.too_late)


async def _signal(
    session: AsyncSession, actor: Actor, signal_id: SignalId, reason: str, allowed: tuple[SignalStatus, ...]
) -> Row[Any]:
    _check(reason)
    _require_reviewer(actor)
    row = (await session.execute(_SIGNAL, {"id": signal_id})).one_or_none()
    if row is None or not _reviews(actor, row):
        raise SignalNotFound("no such signal", field="id")
    if row.status not in allowed:
        raise AlreadyDecided(row.status)
    return row


async def _hold(session: AsyncSession, actor: Actor, hold_id: HoldId, reason: str) -> Row[Any]:
    _check(reason)
    _require_reviewer(actor)
    row = (await session.execute(_HOLD, {"id": hold_id})).one_or_none()
    if row is None or not _reviews(actor, row):
        raise HoldNotFound("no such hold", field="id")
    hold = await holds.open_hold(session, hold_id)
    if hold is None:
        raise AlreadyDecided(HoldStatus.RELEASED if row.status == HoldStatus.OPEN else row.status)
    return hold


def _require_reviewer(actor: Actor) -> None:
    actor.require("platform:admin" if actor.sees_everything else "promotion:write")


def _reviews(actor: Actor, row: Row[Any]) -> bool:
    return actor.sees_everything or actor.brand_id == row.advertiser_id


def _check(reason: str) -> None:
    if not 0 < len(reason.strip()) <= LONGEST_REASON:
        raise ReasonMissing(f"1 to {LONGEST_REASON} characters", field="reason")


async def _decide(
    session: AsyncSession, signal_id: SignalId, status: SignalStatus, by: str, reason: str, clock: Clock
) -> None:
    values = {"id": signal_id, "status": status.value, "now": clock.now(), "by": by, "reason": reason}
    await session.execute(_DECIDE, values)
