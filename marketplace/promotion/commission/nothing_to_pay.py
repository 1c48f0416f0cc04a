"""A commission line that leaves nothing to pay ends when its window does, like any other.

A rate of 0, an exhausted cap, a basis that rounds to nothing, a denial of all of it, refunds that left a unit to the
platform alone: no promoter has a part, so no release, no statement and no payout will ever name the line. It becomes
PAID with no statement (``payable_at`` stays empty) once its return window is over and neither an after-sale nor a hold
is open; should its share come back after that, it waits again (reversal.restore, denials.give_back_part). A line whose
money is not in our books (a sharing rail's) says nothing of its window and is left as it is.

When a line is looked at next is in ``next_look_at``; empty, when its payment is expected. One that leaves somebody
something is not looked at again until more is taken of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderLineId
from infra.db.session import Database
from supply.settlement import commission_progress as progress

LINES_AT_ONCE = 500
LOOK_AGAIN_AFTER = timedelta(hours=1)
"""A line of nothing whose window has not ended when it was expected to, or with a case open, is looked at again."""

_NOBODYS = (
    " NOT EXISTS (SELECT FROM commission_shares s WHERE s.commission_line_id = l.id AND s.role <> 'platform'"
    "  AND s.earned_minor > s.reversed_minor + s.denied_minor)"
)
# The first two conditions are those of its index; what is left to the platform alone at once is ended by its release.
_DUE = text(
    f"SELECT l.id, l.order_line_id,{_NOBODYS} AS nobodys, EXISTS (SELECT FROM commission_holds h"
    "  WHERE h.commission_line_id = l.id AND h.status = 'OPEN') AS held FROM commission_lines l"
    " WHERE l.status IN ('PENDING', 'CONFIRMED', 'PAYABLE')"
    " AND (l.commission_minor = 0 OR l.reversed_minor + l.denied_minor > 0)"
    " AND coalesce(l.next_look_at, l.expected_pay_at) <= :now"
    " ORDER BY coalesce(l.next_look_at, l.expected_pay_at), l.id LIMIT :limit FOR NO KEY UPDATE OF l SKIP LOCKED"
)
_END = text(
    "UPDATE commission_lines SET status = 'PAID', payable_at = NULL, paid_at = :now WHERE id = ANY(:ids)"
)
_LOOK_AGAIN = text("UPDATE commission_lines SET next_look_at = :at WHERE id = ANY(:ids)")
_LEAVE = text("UPDATE commission_lines SET next_look_at = 'infinity' WHERE id = ANY(:ids)")
_END_CONFIRMED = text(
    "UPDATE commission_lines l SET status = 'PAID', payable_at = NULL, paid_at = :now"
    f" WHERE l.order_line_id = ANY(:lines) AND l.status = 'CONFIRMED' AND{_NOBODYS}"
    " AND NOT EXISTS (SELECT FROM commission_holds h WHERE h.commission_line_id = l.id AND h.status = 'OPEN')"
)


async def end_lines(db: Database, *, clock: Clock) -> int:
    """Sweep: look at up to ``LINES_AT_ONCE`` lines and end those with nothing to pay whose window is over; how many."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_DUE, {"now": now, "limit": LINES_AT_ONCE})).all()
        if not rows:
            return 0
        lines = {row.id: OrderLineId.of(row.order_line_id) for row in rows if row.nobodys}
        over = await progress.windows_over(session, list(lines.values()), now)
        ended = [row.id for row in rows if row.nobodys and not row.held and over.get(lines[row.id])]
        waiting = [id for id, line in lines.items() if line in over and id not in set(ended)]
        left = [row.id for row in rows if lines.get(row.id) not in over]
        await session.execute(_END, {"ids": ended, "now": now})
        await session.execute(_LOOK_AGAIN, {"ids": waiting, "at": now + LOOK_AGAIN_AFTER})
        await session.execute(_LEAVE, {"ids": left})
    return len(ended)


async def end_confirmed(session: AsyncSession, order_line_ids: Sequence[OrderLineId], now: datetime) -> None:
    """Of lines that were just confirmed, those whose commission is the platform's alone."""
    await session.execute(_END_CONFIRMED, {"lines": list(order_line_ids), "now": now})
