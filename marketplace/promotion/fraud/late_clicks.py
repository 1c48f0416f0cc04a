"""Clicks that came home from the edge's spool after the order they won was credited: what their rows show is looked at
then, by the rules and with the consequences it would have had with the order (on_credit.py).

A signal is recorded once however often it is found, so a sweep that is repeated changes nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId
from infra.db.session import Database
from marketplace.promotion.attribution.decision import decide
from marketplace.promotion.facts import read_inputs
from marketplace.promotion.fraud.on_credit import device_of, sales_of, shown_by_clicks
from marketplace.promotion.fraud.recording import record

ORDERS_AT_ONCE = 100
WAITS = timedelta(days=90)
"""Longer than any return window: a click that is away for so long would find nothing left to hold."""
_HOME = text(
    "SELECT order_id FROM credited_sales s WHERE click_awaited"
    " AND EXISTS (SELECT FROM touches t WHERE t.id = s.touch_id)"
    " ORDER BY paid_at, order_id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED"
)
_INPUTS = text(
    "SELECT order_id, input FROM attribution_decisions WHERE order_id = ANY(:orders) ORDER BY order_id"
)
_SEEN = text(
    "UPDATE credited_sales s SET device = n.device, click_awaited = false"
    " FROM unnest(CAST(:agreements AS uuid[]), CAST(:touches AS uuid[]), CAST(:devices AS bytea[]))"
    " AS n (agreement, touch, device)"
    " WHERE s.order_id = :order AND s.agreement_id = n.agreement AND s.touch_id = n.touch AND s.click_awaited"
)
_GIVE_UP = text("UPDATE credited_sales SET click_awaited = false WHERE click_awaited AND paid_at < :before")


async def sweep_late_clicks(db: Database, *, clock: Clock) -> int:
    """Sweep: look at the clicks that came home since their orders were credited; how many orders."""
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_GIVE_UP, {"before": clock.now() - WAITS})
        home = (await session.execute(_HOME, {"limit": ORDERS_AT_ONCE})).scalars().all()
        if home:
            for row in (await session.execute(_INPUTS, {"orders": list(home)})).all():
                await _look(session, row, clock=clock)
    return len(home)


async def _look(session: AsyncSession, row: Any, *, clock: Clock) -> None:
    order, touches, agreements = read_inputs(row.input)
    by_id = {touch.id: touch for touch in touches}
    sales = await sales_of(session, order, decide(order, touches, agreements), by_id, agreements)
    here = [sale for sale in sales if sale.click is not None]
    values = {
        "order": OrderId.of(row.order_id), "agreements": [sale.parties.agreement_id for sale in here],
        "touches": [sale.click.id for sale in here], "devices": [device_of(sale) for sale in here],
    }  # fmt: skip
    await session.execute(_SEEN, values)
    await record(session, await shown_by_clicks(session, order, here), clock=clock)
