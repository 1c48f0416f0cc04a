"""A commission line that leaves nothing to pay ends when its window does, like any other.

A rate of 0, an exhausted cap, a basis that rounds to nothing, a denial of all of it, refunds that left a unit to the
platform alone: no promoter has a part, so no release, no statement and no payout will ever name the line. It becomes
PAID with no statement (``payable_at`` stays empty) once its return window is over and neither an after-sale nor a hold
is open; should its share come back after that, it waits again (reversal.restore, denials.give_back_part).
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
"""A line whose window has not ended when it was expected to, or with a case open, is looked at again."""

_NOBODYS = (
    " NOT EXISTS (SELECT FROM commission_shares s WHERE s.commission_line_id = l.id AND s.role <> 'platform'"
    "  AND s.earned_minor > s.reversed_minor + s.denied_minor)"
)
# The first two conditions are those of its index; what is left to the platform alone at once is ended by its release.
_RIPE = text(
    "SELECT l.id, l.order_line_id, EXISTS (SELECT FROM commission_holds h WHERE h.commission_line_id = l.id"
    "  AND h.status = 'OPEN') AS held FROM commission_lines l"
    " WHERE l.status IN ('PENDING', 'CONFIRMED', 'PAYABLE')"
    " AND (l.commission_minor = 0 OR l.reversed_minor + l.denied_minor > 0)"
    f" AND l.expected_pay_at <= :now AND{_NOBODYS} ORDER BY l.expected_pay_at, l.id LIMIT :limit"
    " FOR NO KEY UPDATE OF l SKIP LOCKED"
)
_END = text(
    "UPDATE commission_lines SET status = 'PAID', payable_at = NULL, paid_at = :now WHERE id = ANY(:ids)"
)
_POSTPONE = text("UPDATE commission_lines SET expected_pay_at = :at WHERE id = ANY(:ids)")
_END_CONFIRMED = text(
    "UPDATE commission_lines l SET status = 'PAID', payable_at = NULL, paid_at = :now"
    f" WHERE l.order_line_id = ANY(:lines) AND l.status = 'CONFIRMED' AND{_NOBODYS}"
    " AND NOT EXISTS (SELECT FROM commission_holds h WHERE h.commission_line_id = l.id AND h.status = 'OPEN')"
)


async def end_lines(db: Database, *, clock: Clock) -> int:
    """Sweep: end up to ``LINES_AT_ONCE`` lines with nothing to pay whose window is over; how many ended."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_RIPE, {"now": now, "limit": LINES_AT_ONCE})).all()
        if not rows:
            return 0
        over = await progress.windows_over(session, [OrderLineId.of(row.order_line_id) for row in rows], now)
        ended = [row.id for row in rows if not row.held and OrderLineId.of(row.order_line_id) in over]
        await session.execute(_END, {"ids": ended, "now": now})
        waiting = [row.id for row in rows if row.id not in set(ended)]
        await session.execute(_POSTPONE, {"ids": waiting, "at": now + LOOK_AGAIN_AFTER})
    return len(ended)


async def end_confirmed(session: AsyncSession, order_line_ids: Sequence[OrderLineId], now: datetime) -> None:
    """Of lines that were just confirmed, those whose commission is the platform's alone."""
    await session.execute(_END_CONFIRMED, {"lines": list(order_line_ids), "now": now})
