"""While something moves the shares of a disputed order, the bank's disputes let go of them, and freeze them after.

Otherwise a party whose share lies in 2030 would owe (1100) what is there, and what another one gains by it would be
released or paid out before the verdict.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from supply.settlement.disputes import posting
from supply.settlement.disputes.applying import parts_of
from supply.settlement.disputes.posting import Part
from supply.settlement.order_book import OrderBook

# Under the order's lock: without it nothing of a dispute's part in the order changes.
_OPEN = text(
    "SELECT d.id FROM disputes d JOIN dispute_orders o ON o.dispute_id = d.id WHERE o.order_id = :order_id"
    " AND d.stage = 'open' ORDER BY d.id"
)


@asynccontextmanager
async def thawed(session: AsyncSession, book: OrderBook, *, now: datetime) -> AsyncIterator[None]:
    """``book``, under its lock, without its open disputes; whoever changes it saves it before this ends."""
    parts = await _open_parts(session, book)
    if parts:
        await posting.hold(session, parts, {book.order_id: book})
    for part in parts:
        await posting.thaw(session, part, book, now=now, step=f"unfreeze{part.freezes}")
    yield
    for part in parts:
        await posting.freeze(session, part, book, now=now)


async def _open_parts(session: AsyncSession, book: OrderBook) -> list[Part]:
    disputes = (await session.execute(_OPEN, {"order_id": book.order_id})).scalars().all()
    return [
        part
        for dispute in disputes
        for part in await parts_of(session, dispute)
        if part.order_id == book.order_id
    ]
