"""Where a commission line stands (cps.md §2): PENDING → CONFIRMED → PAYABLE → PAID.

CONFIRMED when settlement released it: its return window is over and no after-sale is open. PAYABLE once the
statement of the promoter brand (of the individual, where the brand keeps nothing) that holds the release is closed.
PAID when the payout after that statement succeeded. Every handler advances as far as the facts go, so that their
order does not matter. REVERSED and INVALID are final and set elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import CommissionLineId, OrderId, OrderLineId
from infra import outbox
from marketplace.promotion.errors import CommissionLineNotFound, CommissionNotPending
from marketplace.promotion.events import CommissionReversed, ReversedLine
from marketplace.promotion.models import CommissionStatus
from supply.fulfillment.events import FulfillmentOrderDelivered
from supply.settlement import commission_progress as progress
from supply.settlement.commission_progress import ReleasedMoney, StatedMoney
from supply.settlement.denied_commission import deny_commission
from supply.settlement.events import CommissionReleased, PayoutPaid, StatementsClosed

# The payee whose statement and payout decide.
_LEAD = (
    " CROSS JOIN LATERAL (SELECT s.payee FROM commission_shares s WHERE s.commission_line_id = l.id"
    "  AND s.role <> 'platform' AND s.earned_minor > 0 ORDER BY s.role = 'promoter_brand' DESC, s.position LIMIT 1)"
    " lead"
)
_CONFIRM = text(
    "UPDATE commission_lines SET status = 'CONFIRMED', confirmed_at = :at, confirmed_txid = :txid"
    " WHERE order_line_id = ANY(:lines) AND status = 'PENDING'"
)
_OPEN = text(
    "SELECT l.id, l.currency, l.status, l.confirmed_at, l.confirmed_txid, l.payable_at, lead.payee"
    f" FROM commission_lines l{_LEAD} WHERE l.status IN ('CONFIRMED', 'PAYABLE') AND lead.payee = ANY(:payees)"
    " AND l.id IN (SELECT commission_line_id FROM commission_shares WHERE payee = ANY(:payees))"
    " ORDER BY l.id FOR NO KEY UPDATE OF l"
)
_PAYABLE = text(
    "UPDATE commission_lines l SET status = 'PAYABLE', payable_at = n.at"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS n (id, at)"
    " WHERE l.id = n.id AND l.status = 'CONFIRMED'"
)
_PAID = text(
    "UPDATE commission_lines l SET status = 'PAID', paid_at = n.at"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS n (id, at)"
    " WHERE l.id = n.id AND l.status = 'PAYABLE'"
)
_OF_ORDER = text(
    f"SELECT l.id, l.order_line_id, l.currency, lead.payee FROM commission_lines l{_LEAD}"
    " WHERE l.order_id = :order_id AND l.status IN ('PENDING', 'CONFIRMED') ORDER BY l.id"
)
_EXPECT = text(
    "UPDATE commission_lines l SET expected_pay_at = n.at"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS n (id, at) WHERE l.id = n.id"
)


async def on_commission_released(session: AsyncSession, event: CommissionReleased, *, clock: Clock) -> None:
    values = {"lines": list(event.order_line_ids), "at": event.at, "txid": event.txid}
    await session.execute(_CONFIRM, values)
    await _advance(session, await _payees_of(session, event.order_line_ids))


async def on_statements_closed(session: AsyncSession, event: StatementsClosed, *, clock: Clock) -> None:
    await _advance(session, [statement.payee_id for statement in event.statements])


async def on_payout_paid(session: AsyncSession, event: PayoutPaid, *, clock: Clock) -> None:
    await _advance(session, [event.payee_id])


async def on_fulfillment_delivered(
    session: AsyncSession, event: FulfillmentOrderDelivered, *, clock: Clock
) -> None:
    """The return window runs: its end, and with it the day of payment, is known. After settlement's handler."""
    await expect_payment(session, event.order_id)


async def expect_payment(session: AsyncSession, order_id: OrderId) -> None:
    """Set when the payees of an order's lines can expect their money."""
    due = await progress.commission_due(session, order_id)
    rows = [
        row
        for row in await session.execute(_OF_ORDER, {"order_id": order_id})
        if OrderLineId.of(row.order_line_id) in due
    ]
    if not rows:
        return
    wanted = [(row.payee, due[OrderLineId.of(row.order_line_id)]) for row in rows]
    ats = await progress.expected_payments(session, rows[0].currency, wanted)
    await session.execute(_EXPECT, {"ids": [row.id for row in rows], "ats": ats})


_ONE = text(
    "SELECT id, order_id, order_line_id, status, counters, commission_minor - reversed_minor AS left_minor,"
    " basis_minor - refunded_basis_minor AS basis_left_minor FROM commission_lines WHERE id = :id FOR UPDATE"
)
_INVALID = text(
    "WITH shares AS (UPDATE commission_shares SET reversed_minor = earned_minor WHERE commission_line_id = :id)"
    " UPDATE commission_lines SET status = 'INVALID', invalid_reason = :reason, reversed_minor = commission_minor"
    " WHERE id = :id"
)


async def invalidate(
    session: AsyncSession,
    commission_line_id: CommissionLineId,
    *,
    reason: str,
    approved_by: str,
    clock: Clock,
) -> int:
    """A pending line was not earned: the merchant gets its commission back. Minor units; again: 0.

    Raises ``CommissionNotPending`` for a line that is confirmed or further. Needs a SYSTEM session.
    """
    row = (await session.execute(_ONE, {"id": commission_line_id})).one_or_none()
    if row is None:
        raise CommissionLineNotFound("no such commission line", field="commissionLineId")
    if row.status == CommissionStatus.INVALID:
        return 0
    if row.status != CommissionStatus.PENDING:
        raise CommissionNotPending(f"the line is {row.status}")
    denied = await deny_commission(
        session, OrderId.of(row.order_id), OrderLineId.of(row.order_line_id),
        reason=reason, approved_by=approved_by, now=clock.now(),
    )  # fmt: skip
    await session.execute(_INVALID, {"id": commission_line_id, "reason": reason})
    if row.counters:
        freed = ReversedLine(commission_line_id, row.left_minor, row.basis_left_minor)
        await outbox.record(session, CommissionReversed((freed,)))
    return denied


_PAYEES = text(
    f"SELECT DISTINCT lead.payee FROM commission_lines l{_LEAD} WHERE l.order_line_id = ANY(:lines)"
)


async def _payees_of(session: AsyncSession, order_line_ids: Sequence[OrderLineId]) -> list[str]:
    return list((await session.execute(_PAYEES, {"lines": list(order_line_ids)})).scalars())


async def _advance(session: AsyncSession, payees: Sequence[str]) -> None:
    rows = (await session.execute(_OPEN, {"payees": sorted(set(payees))})).all() if payees else []
    if not rows:
        return
    stated_at: dict[Any, datetime] = {row.id: row.payable_at for row in rows if row.payable_at is not None}
    confirmed = [row for row in rows if row.status == "CONFIRMED"]
    money = [ReleasedMoney(r.payee, r.currency, r.confirmed_at, r.confirmed_txid) for r in confirmed]
    stated = {
        row.id: at
        for row, at in zip(confirmed, await progress.when_stated(session, money), strict=True)
        if at is not None
    }
    await _move(session, _PAYABLE, stated)
    stated_at |= stated
    payable = [row for row in rows if row.id in stated_at]
    waiting = [StatedMoney(row.payee, row.currency, stated_at[row.id]) for row in payable]
    paid = {
        row.id: at
        for row, at in zip(payable, await progress.when_paid(session, waiting), strict=True)
        if at is not None
    }
    await _move(session, _PAID, paid)


async def _move(session: AsyncSession, statement: Any, moved: dict[Any, datetime]) -> None:
    if moved:
        await session.execute(statement, {"ids": list(moved), "ats": list(moved.values())})
