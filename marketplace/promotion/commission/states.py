"""Where a commission line stands (cps.md §2): PENDING → CONFIRMED → PAYABLE → PAID.

CONFIRMED when settlement released it: its return window is over, no after-sale and no hold is open. PAYABLE once the
statement of the promoter brand (of the individual, where the brand keeps nothing) that holds the release is closed.
PAID when the payout after that statement succeeded. Every handler advances as far as the facts go, so that their
order does not matter. What leaves nothing to pay ends by itself (nothing_to_pay.py). A hold takes a confirmed line back
to PENDING with its money, and keeps one whose money is gone from becoming PAYABLE. REVERSED and INVALID are set
elsewhere; what came back to a line that had ended stands where its money lies (``stand_again``, ``wait_again``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import CommissionLineId, OrderId, OrderLineId
from marketplace.promotion.commission.nothing_to_pay import end_confirmed
from supply.fulfillment.events import FulfillmentOrderDelivered
from supply.settlement import commission_progress as progress
from supply.settlement.commission_progress import ReleasedMoney, StatedMoney
from supply.settlement.events import CommissionReleased, PayoutPaid, StatementsClosed

# The payee whose statement and payout decide: the first that still has a part.
_PAYEE = (
    "(SELECT s.payee FROM commission_shares s WHERE s.commission_line_id = l.id AND s.role <> 'platform'"
    "  AND s.earned_minor > s.reversed_minor + s.denied_minor"
    "  ORDER BY s.role = 'promoter_brand' DESC, s.position LIMIT 1) lead"
)
_LEAD = f" CROSS JOIN LATERAL {_PAYEE}"
# Who denies, holds or refunds locks the lines before it moves their money: locked here, what is pending stays so.
_LOCK = text(
    "SELECT order_id FROM commission_lines WHERE order_line_id = ANY(:lines) ORDER BY id FOR NO KEY UPDATE"
)
_CONFIRM = text(
    "UPDATE commission_lines SET status = CASE status WHEN 'PENDING' THEN 'CONFIRMED' ELSE status END,"
    " confirmed_at = :at, confirmed_txid = :txid"
    # A line that was refunded before this news came keeps its end, and knows what it was when that fails.
    " WHERE order_line_id = ANY(:lines) AND status IN ('PENDING', 'REVERSED')"
)
_UNCONFIRM = text(
    "UPDATE commission_lines SET status = 'PENDING', confirmed_at = NULL, confirmed_txid = NULL"
    " WHERE order_line_id = ANY(:lines) AND status = 'CONFIRMED'"
)
_BACK = text(
    "SELECT l.id, l.currency, l.confirmed_at, l.payable_at, lead.payee FROM commission_lines l"
    f" LEFT JOIN LATERAL {_PAYEE} ON true WHERE l.id = ANY(:ids) ORDER BY l.id FOR NO KEY UPDATE OF l"
)
_STAND = text(
    "UPDATE commission_lines l SET status = n.status, paid_at = NULL,"
    " payable_at = CASE WHEN n.status = 'PAYABLE' THEN CAST(:now AS timestamptz) END,"
    " confirmed_at = CASE n.status WHEN 'CONFIRMED' THEN :now WHEN 'PAYABLE' THEN l.confirmed_at END,"
    " confirmed_txid = CASE n.status WHEN 'CONFIRMED' THEN pg_current_xact_id()::text::bigint"
    "  WHEN 'PAYABLE' THEN l.confirmed_txid END"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[])) AS n (id, status) WHERE l.id = n.id"
)
_WAIT = text(
    "UPDATE commission_lines l SET status = 'PENDING', confirmed_at = NULL, confirmed_txid = NULL, payable_at = NULL,"
    " paid_at = NULL WHERE l.id = ANY(:ids)"
    # A line that was paid, with a statement, never changes.
    " AND (l.status IN ('CONFIRMED', 'REVERSED') OR (l.status = 'PAID' AND l.payable_at IS NULL))"
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
    " WHERE l.id = n.id AND l.status = 'CONFIRMED' AND NOT EXISTS (SELECT FROM commission_holds h"
    "  WHERE h.commission_line_id = l.id AND h.status = 'OPEN')"
)
_PAID = text(
    "UPDATE commission_lines l SET status = 'PAID', paid_at = n.at"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS n (id, at)"
    " WHERE l.id = n.id AND l.status = 'PAYABLE'"
)
_WAITING = (
    "SELECT l.id, l.order_id, l.order_line_id, l.currency, l.payable_at, lead.payee, (SELECT max(h.clears_at)"
    "  FROM commission_holds h WHERE h.commission_line_id = l.id AND h.status = 'OPEN') AS held_until"
    " FROM commission_lines l"
    f" LEFT JOIN LATERAL {_PAYEE} ON true WHERE"
)
_OF_ORDER = text(f"{_WAITING} l.order_id = :order_id AND l.status IN ('PENDING', 'CONFIRMED') ORDER BY l.id")
_THESE = text(
    f"{_WAITING} l.id = ANY(:ids) AND l.status IN ('PENDING', 'CONFIRMED', 'PAYABLE')"
    " ORDER BY l.order_id, l.id"
)
_EXPECT = text(
    "UPDATE commission_lines l SET expected_pay_at = n.at"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:ats AS timestamptz[])) AS n (id, at) WHERE l.id = n.id"
)


async def on_commission_released(session: AsyncSession, event: CommissionReleased, *, clock: Clock) -> None:
    # A hold may have taken the money back to pending since.
    orders = (await session.execute(_LOCK, {"lines": list(event.order_line_ids)})).scalars().unique()
    pending = await progress.pending_lines(session, [OrderId.of(each) for each in orders])
    released = [line for line in event.order_line_ids if line not in pending]
    await session.execute(_CONFIRM, {"lines": released, "at": event.at, "txid": event.txid})
    await end_confirmed(session, released, event.at)
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


async def go_on(session: AsyncSession, order_line_ids: Sequence[OrderLineId]) -> None:
    """What kept these lines from becoming payable is gone."""
    await _advance(session, await _payees_of(session, order_line_ids))


async def unconfirm(session: AsyncSession, order_line_ids: Sequence[OrderLineId]) -> None:
    """Their money went back to pending: so do they."""
    await session.execute(_UNCONFIRM, {"lines": list(order_line_ids)})


async def wait_for_release(session: AsyncSession, order_ids: Sequence[OrderId]) -> None:
    """Of these orders' lines, those that are confirmed and of which something is pending: they are no longer."""
    if pending := await progress.pending_lines(session, order_ids):
        await unconfirm(session, sorted(pending))


async def wait_again(session: AsyncSession, ids: Sequence[CommissionLineId]) -> None:
    """Something came back to these lines as pending money: the next release confirms them. What is payable or paid
    in a statement stays there."""
    await session.execute(_WAIT, {"ids": list(ids)})


async def stand_again(session: AsyncSession, ids: Sequence[CommissionLineId], *, now: datetime) -> None:
    """Something came back to these lines, which had ended, to where it had been: they go on from there.

    PENDING until the release; PAYABLE while no later statement than theirs is closed, for the next payout holds it.
    Otherwise CONFIRMED as of now: what was closed and paid out in between held nothing of it.
    """
    rows = (await session.execute(_BACK, {"ids": list(ids)})).all()
    stated = [row for row in rows if row.payable_at is not None]
    held = [StatedMoney(row.payee, row.currency, row.payable_at) for row in stated]
    later = await progress.stated_since(session, held) if held else []
    payable = {row.id for row, passed in zip(stated, later, strict=True) if not passed}
    statuses = [_released(row) if row.id not in payable else "PAYABLE" for row in rows]
    await session.execute(_STAND, {"ids": [row.id for row in rows], "statuses": statuses, "now": now})


def _released(row: Any) -> str:
    return "PENDING" if row.confirmed_at is None else "CONFIRMED"


async def expect_payment(session: AsyncSession, order_id: OrderId) -> None:
    """Set when the payees of an order's lines can expect their money: after the statement that will hold it.

    As long as nothing was delivered it is due as if it never were; a held line at the latest when its holds end by
    themselves. A line with nothing to pay waits for no statement.
    """
    await _expect(session, order_id, (await session.execute(_OF_ORDER, {"order_id": order_id})).all())


async def expect_again(session: AsyncSession, ids: Sequence[CommissionLineId], *, now: datetime) -> None:
    """The same for lines to which something came back now: a statement that was closed before holds nothing of it."""
    rows = (await session.execute(_THESE, {"ids": list(ids)})).all()
    for order_id, of_order in groupby(rows, attrgetter("order_id")):
        await _expect(session, OrderId.of(order_id), list(of_order), not_before=now)


async def _expect(
    session: AsyncSession, order_id: OrderId, rows: Sequence[Any], *, not_before: datetime | None = None
) -> None:
    due = await progress.commission_due(session, order_id)
    rows = [row for row in rows if OrderLineId.of(row.order_line_id) in due]
    if not rows:
        return
    wanted = [(row, _due(row, due[OrderLineId.of(row.order_line_id)], not_before)) for row in rows]
    paid = [(row.payee, at) for row, at in wanted if _needs_a_statement(row)]
    stated = iter(await progress.expected_payments(session, rows[0].currency, paid))
    ats = [next(stated) if _needs_a_statement(row) else at for row, at in wanted]
    await session.execute(_EXPECT, {"ids": [row.id for row in rows], "ats": ats})


def _due(row: Any, window_ends: datetime, not_before: datetime | None) -> datetime:
    stated: datetime | None = row.payable_at
    return stated or max(window_ends, row.held_until or window_ends, not_before or window_ends)


def _needs_a_statement(row: Any) -> bool:
    return row.payee is not None and row.payable_at is None


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
