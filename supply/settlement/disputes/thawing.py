"""While something moves the shares of a disputed order, the bank's disputes let go of them, and freeze them after.

Otherwise a party whose share lies in 2030 would owe (1100) what is there, and what another one gains by it would be
released or paid out before the verdict.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from supply.settlement.disputes import posting
from supply.settlement.disputes.posting import Part
from supply.settlement.order_book import OrderBook


@asynccontextmanager
async def thawed(
    session: AsyncSession, book: OrderBook, *, now: datetime, but: str = ""
) -> AsyncIterator[list[Part]]:
    """``book``, under its lock, without its open disputes, ``but`` apart; whoever changes it saves it before this ends.

    Gives the parts that will be frozen again, one after the other: what the customer is owed covers each once. The
    order's lock is enough: without it nothing of a dispute's part in the order changes.
    """
    parts = [part for part in await posting.open_parts(session, book.order_id) if part.dispute_id != but]
    if parts:
        await posting.hold(session, parts, {book.order_id: book})
    for part in parts:
        await posting.thaw(session, part, book, now=now, step=f"unfreeze{part.freezes}")
    yield parts
    owed = book.owed_to_customer_minor
    for part in parts:
        covered = min(owed, part.amount_minor)
        await posting.freeze(session, part, book, covered, now=now)
        owed -= covered
