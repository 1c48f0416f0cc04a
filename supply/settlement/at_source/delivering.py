"""The return window of a sale at source runs from the delivery that the brand tells of."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId
from supply.settlement.delivery import date_line
from supply.settlement.order_book import load, save


async def deliver_at_source(session: AsyncSession, order_id: OrderId, *, at: datetime) -> None:
    """The whole order reached the customer then; told of again, another moment counts instead. What was released
    stays released. Raises ``OrderNotSettled``."""
    book = await load(session, order_id)
    for line in book.lines:
        if line.is_goods:
            line.delivered_quantity = line.quantity
        date_line(book, line, at)
    await save(session, [book])
