"""What the books tell of a brand as a partner: disputed orders, and whether commissions came when they were due."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, OrderId

PROMISED_WITHIN = timedelta(days=3)
"""A commission is in time when it was released at most so long after the day it fell due."""

_DISPUTED = text(
    "SELECT DISTINCT o.order_id FROM dispute_orders o JOIN disputes d ON d.id = o.dispute_id"
    " WHERE d.opened_at >= :since AND d.stage IN ('open', 'won', 'lost')"
)
# Whatever was due of an order is released together, line by line; a line that is held keeps its pending part.
_PUNCTUALITY = text("""
WITH due AS (
    SELECT merchant_id, order_id, max(due_at) AS due_at, sum(pending_minor) AS pending_minor
    FROM split_parts
    WHERE part IN ('promoter_brand', 'individual') AND due_at BETWEEN :since AND :until
        AND (pending_minor > 0 OR released_minor > 0)
    GROUP BY merchant_id, order_id
)
SELECT d.merchant_id, count(*) AS due, count(*) FILTER (WHERE d.pending_minor = 0 AND EXISTS (
    SELECT FROM ledger_journals j WHERE j.order_id = d.order_id AND j.kind = 'release'
    AND j.effective_at BETWEEN d.due_at AND d.due_at + :promised)) AS in_time
FROM due d GROUP BY d.merchant_id
""")


async def disputed_orders(session: AsyncSession, since: datetime) -> list[OrderId]:
    """Orders whose payment a buyer's bank took back, or tried to, since then. Needs a SYSTEM session."""
    return [OrderId.of(found) for found in (await session.execute(_DISPUTED, {"since": since})).scalars()]


async def commission_punctuality(
    session: AsyncSession, since: datetime, now: datetime
) -> dict[BrandId, tuple[int, int]]:
    """By merchant: orders whose commission fell due since then and had time to be paid, and how many of them were
    paid in time. Needs a SYSTEM session."""
    values = {"since": since, "until": now - PROMISED_WITHIN, "promised": PROMISED_WITHIN}
    rows = await session.execute(_PUNCTUALITY, values)
    return {BrandId.of(row.merchant_id): (row.due, row.in_time) for row in rows}
