"""How far the money of a commission has come: due, in a closed statement, paid out. Asked by the commission's lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId
from supply.settlement.statements.closing import GRACE
from supply.settlement.statements.cycles import Cycle, period_at
from supply.settlement.statements.terms import DEFAULT_CYCLE, DEFAULT_ZONE

_CLOSED = text(
    "SELECT n.ord, s.closed_at FROM unnest(CAST(:payees AS text[]), CAST(:currencies AS bpchar[]),"
    " CAST(:ats AS timestamptz[]), CAST(:txids AS text[])) WITH ORDINALITY AS n (payee_id, currency, at, txid, ord)"
    " CROSS JOIN LATERAL (SELECT s.closed_at FROM statements s WHERE s.payee_id = n.payee_id"
    "  AND s.currency = n.currency AND s.period_to > n.at AND s.cutoff > n.txid::xid8 ORDER BY s.number LIMIT 1) s"
)
_PAID = text(
    "SELECT n.ord, p.ended_at FROM unnest(CAST(:payees AS text[]), CAST(:currencies AS bpchar[]),"
    " CAST(:ats AS timestamptz[])) WITH ORDINALITY AS n (payee_id, currency, at, ord)"
    " CROSS JOIN LATERAL (SELECT p.ended_at FROM payouts p WHERE p.payee_id = n.payee_id"
    "  AND p.currency = n.currency AND p.status = 'paid' AND p.created_at >= n.at ORDER BY p.created_at LIMIT 1) p"
)
_DUE = text(
    # The merchant's part is due when the commission is, and there also where nobody earned any.
    "SELECT l.order_line_id, max(p.due_at) AS due_at FROM split_lines l JOIN split_parts p ON p.line_id = l.id"
    " WHERE l.order_id = :order_id AND l.kind <> 'shipping' AND p.part IN ('merchant', 'promoter_brand', 'individual')"
    " GROUP BY l.order_line_id"
)
_STATED = text(
    "SELECT closed_at FROM statements WHERE payee_id = :payee AND currency = :currency AND period_to > :at"
    " ORDER BY number LIMIT 1"
)
_STATED_SINCE = text(
    "SELECT n.ord FROM unnest(CAST(:payees AS text[]), CAST(:currencies AS bpchar[]), CAST(:ats AS timestamptz[]))"
    " WITH ORDINALITY AS n (payee_id, currency, at, ord) WHERE EXISTS (SELECT FROM statements s"
    "  WHERE s.payee_id = n.payee_id AND s.currency = n.currency AND s.closed_at > n.at)"
)
_PENDING = text(
    "SELECT DISTINCT l.order_line_id FROM split_lines l JOIN split_parts p ON p.line_id = l.id"
    " WHERE l.order_id = ANY(:orders) AND p.part IN ('promoter_brand', 'individual', 'platform_commission')"
    " AND p.pending_minor > 0"
)
_OVER = text(
    "SELECT l.order_line_id, coalesce(max(p.due_at) <= :now, false) AND max(l.open_holds) = 0 AS over"
    " FROM split_lines l JOIN split_parts p ON p.line_id = l.id AND p.part = 'merchant'"
    " WHERE l.order_line_id = ANY(:lines) AND l.kind <> 'shipping' GROUP BY l.order_line_id"
)
_CYCLES = text(
    "SELECT payee_id, cycle, time_zone FROM settlement_terms WHERE payee_id = ANY(:payees)"
    " AND currency = :currency"
)


@dataclass(frozen=True, slots=True)
class ReleasedMoney:
    """What became available to a payee, and in which transaction of the ledger."""

    payee_id: str
    currency: str
    at: datetime
    txid: int


@dataclass(frozen=True, slots=True)
class StatedMoney:
    """What is in a payee's statement that was closed at ``at``."""

    payee_id: str
    currency: str
    at: datetime


async def when_stated(session: AsyncSession, money: Sequence[ReleasedMoney]) -> list[datetime | None]:
    """For each, when the statement that holds it was closed; None while it is open."""
    found = await session.execute(
        _CLOSED,
        {
            "payees": [m.payee_id for m in money], "currencies": [m.currency for m in money],
            "ats": [m.at for m in money], "txids": [str(m.txid) for m in money],
        },
    )  # fmt: skip
    return _in_place(len(money), {row.ord: row.closed_at for row in found})


async def stated_since(session: AsyncSession, money: Sequence[StatedMoney]) -> list[bool]:
    """For each, whether a later statement of its payee was closed than the one that holds it."""
    found = await session.execute(
        _STATED_SINCE,
        {
            "payees": [m.payee_id for m in money], "currencies": [m.currency for m in money],
            "ats": [m.at for m in money],
        },
    )  # fmt: skip
    later = set(found.scalars())
    return [place in later for place in range(1, len(money) + 1)]


async def when_paid(session: AsyncSession, money: Sequence[StatedMoney]) -> list[datetime | None]:
    """For each, when the payout after its statement succeeded; None while it has not."""
    found = await session.execute(
        _PAID,
        {
            "payees": [m.payee_id for m in money], "currencies": [m.currency for m in money],
            "ats": [m.at for m in money],
        },
    )  # fmt: skip
    return _in_place(len(money), {row.ord: row.ended_at for row in found})


def _in_place(count: int, found: dict[int, datetime]) -> list[datetime | None]:
    return [found.get(place) for place in range(1, count + 1)]


async def commission_due(session: AsyncSession, order_id: OrderId) -> dict[OrderLineId, datetime]:
    """When the commission of each line of an order leaves its return window, as known now."""
    rows = await session.execute(_DUE, {"order_id": order_id})
    return {OrderLineId.of(row.order_line_id): row.due_at for row in rows}


async def windows_over(
    session: AsyncSession, order_line_ids: Sequence[OrderLineId], now: datetime
) -> dict[OrderLineId, bool]:
    """Whether the return window of each line is over, with no after-sale open. Lines whose money is not in our books
    (on a sharing rail it never is) are out."""
    rows = await session.execute(_OVER, {"lines": list(order_line_ids), "now": now})
    return {OrderLineId.of(row.order_line_id): row.over for row in rows}


async def statement_closed(
    session: AsyncSession, payee_id: str, currency: str, at: datetime
) -> datetime | None:
    """When the payee's statement of the period that ``at`` lies in was closed; None while it is not."""
    found: datetime | None = await session.scalar(
        _STATED, {"payee": payee_id, "currency": currency, "at": at}
    )
    return found


async def pending_lines(session: AsyncSession, order_ids: Sequence[OrderId]) -> set[OrderLineId]:
    """The lines of these orders of which a share of the commission is still, or again, pending."""
    pending = await session.execute(_PENDING, {"orders": list(order_ids)})
    return {OrderLineId.of(each) for each in pending.scalars()}


async def expected_payments(
    session: AsyncSession, currency: str, due: Sequence[tuple[str, datetime]]
) -> list[datetime]:
    """When money that is due to a payee at an instant is paid: after the statement of the cycle that holds it."""
    rows = await session.execute(
        _CYCLES, {"payees": sorted({payee for payee, _ in due}), "currency": currency}
    )
    cycles = {row.payee_id: (Cycle(row.cycle), row.time_zone) for row in rows}
    usual = (DEFAULT_CYCLE, DEFAULT_ZONE)
    return [period_at(*cycles.get(payee, usual), at)[1] + GRACE for payee, at in due]
