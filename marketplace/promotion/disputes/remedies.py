"""What is owed once a dispute is decided for whoever opened it, posted through settlement to the unit.

A line found invalid wrongly is credited again, a hold is released. A touch that should have earned, and an amount that
was wrong, are made good between the brands: what a pending line earned too much is taken of it, everything else is an
adjustment with its reason in the next statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, CommissionLineId, OrderId, TouchId
from core.money import allocate_minor
from marketplace.promotion.commission.denials import deny_part, reinstate
from marketplace.promotion.disputes.claims import shares_of_touch
from marketplace.promotion.disputes.models import CommissionDisputeId, DisputeSubject
from marketplace.promotion.fraud import holds
from marketplace.promotion.fraud.ids import HoldId
from marketplace.promotion.models import CommissionStatus
from supply.settlement.adjustments import adjust

_SHARES = text(
    "SELECT payee, sum(earned_minor - reversed_minor - denied_minor) AS weight FROM commission_shares"
    " WHERE commission_line_id = :id AND role <> 'platform' GROUP BY payee ORDER BY payee"
)
_STATUS = text("SELECT status FROM commission_lines WHERE id = :id FOR NO KEY UPDATE")


async def grant(session: AsyncSession, dispute: Row[Any], amount_minor: int, *, by: str, clock: Clock) -> int:
    """Minor units that moved. SYSTEM session."""
    reason = f"{CommissionDisputeId.of(dispute.id)}: {dispute.reason}"[:200]
    match DisputeSubject(dispute.subject):
        case DisputeSubject.INVALID:
            return await _reinstate(session, dispute, reason, by, clock)
        case DisputeSubject.HOLD:
            hold = await holds.open_hold(session, HoldId.of(dispute.hold_id))
            if hold is None:  # decided meanwhile; what was found invalid then comes back
                return await _reinstate(session, dispute, reason, by, clock)
            await holds.release(session, [hold], by=by, reason=reason, clock=clock)
            return 0
        case DisputeSubject.TOUCH:
            order, touch = OrderId.of(dispute.order_id), TouchId.of(dispute.touch_id)
            shares = [
                (each.payee, each.amount_minor) for each in await shares_of_touch(session, order, touch)
            ]
            return await _pay(session, dispute, shares, amount_minor, reason, by, clock)
        case DisputeSubject.AMOUNT:
            return await _correct(session, dispute, amount_minor, reason, by, clock)


async def _reinstate(session: AsyncSession, dispute: Row[Any], reason: str, by: str, clock: Clock) -> int:
    line = CommissionLineId.of(dispute.commission_line_id)
    return await reinstate(session, line, reason=reason, approved_by=by, clock=clock)


async def _correct(
    session: AsyncSession, dispute: Row[Any], amount_minor: int, reason: str, by: str, clock: Clock
) -> int:
    line = CommissionLineId.of(dispute.commission_line_id)
    if dispute.opener_id == dispute.advertiser_id:
        status = await session.scalar(_STATUS, {"id": line})
        if status == CommissionStatus.PENDING:
            return await deny_part(
                session, line, amount_minor, reference=f"dispute:{CommissionDisputeId.of(dispute.id)}",
                reason=reason, approved_by=by, clock=clock,
            )  # fmt: skip
    rows = await session.execute(_SHARES, {"id": line})
    shares = [(row.payee, int(row.weight)) for row in rows]
    return await _pay(session, dispute, shares, amount_minor, reason, by, clock)


async def _pay(
    session: AsyncSession,
    dispute: Row[Any],
    shares: Sequence[tuple[str, int]],
    amount_minor: int,
    reason: str,
    by: str,
    clock: Clock,
) -> int:
    """From the advertiser to the payees in proportion to their shares; back, when the advertiser was right."""
    by_payee: dict[str, int] = {}
    for payee, weight in shares:
        by_payee[payee] = by_payee.get(payee, 0) + weight
    if not sum(by_payee.values()):
        by_payee = {str(BrandId.of(dispute.promoter_brand_id)): 1}
    advertiser, brand = str(BrandId.of(dispute.advertiser_id)), BrandId.of(dispute.promoter_brand_id)
    back = dispute.opener_id == dispute.advertiser_id
    parts = allocate_minor(amount_minor, list(by_payee.values()))
    for payee, part in zip(by_payee, parts, strict=True):
        if part:
            debtor, creditor = (payee, advertiser) if back else (advertiser, payee)
            await adjust(
                session, debtor=debtor, creditor=creditor, currency=dispute.currency, amount_minor=part,
                reference=f"{CommissionDisputeId.of(dispute.id)}:{payee}", reason=reason, approved_by=by,
                now=clock.now(), debtor_tenant=brand if back else None, creditor_tenant=None if back else brand,
            )  # fmt: skip
    return amount_minor
