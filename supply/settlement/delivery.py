"""When what was earned is due: each payee and line by its own terms (money.md §2, cps.md §2).

Merchant, promoter brand, individual and platform: the return window after delivery. Supplier: its settlement
days after delivery. A line counts as delivered when no unit of it is outstanding.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId, SupplierId
from supply.settlement.composition import Part
from supply.settlement.errors import OrderLineNotSettled
from supply.settlement.order_book import BookLine, OrderBook, load, load_many, save


async def record_delivery(
    session: AsyncSession,
    order_id: OrderId,
    supplier_id: SupplierId,
    quantities: Sequence[tuple[OrderLineId, int]],
    *,
    at: datetime,
) -> None:
    """Units of a supplier reached the customer; sets due dates on the lines this completes.

    An order without a split (nothing was paid through us) is left alone.
    """
    books = await load_many(session, [order_id])
    if not books:
        return
    book = books[0]
    for order_line_id, quantity in quantities:
        left = quantity
        for line in book.goods_of(order_line_id):
            if line.supplier_id == supplier_id and left:
                taken = min(left, line.quantity - line.delivered_quantity)
                line.delivered_quantity += taken
                left -= taken
    settle_delivery(book, at)
    await save(session, [book])


def settle_delivery(book: OrderBook, at: datetime) -> None:
    """Mark lines with nothing outstanding as delivered, with their shipping, and date their parts."""
    for line in book.lines:
        if (
            line.is_goods
            and line.delivered_at is None
            and line.delivered_quantity
            and not line.outstanding_quantity
        ):
            _delivered(book, line, at)
    for line in book.lines:
        if line.is_goods or line.delivered_at is not None:
            continue
        goods = [each for each in book.goods_of(line.order_line_id) if each.supplier_id == line.supplier_id]
        goods = goods or book.goods_of(line.order_line_id)
        times = [each.delivered_at for each in goods if each.delivered_at is not None]
        if times and len(times) == len(goods):
            _delivered(book, line, max(times))


def _delivered(book: OrderBook, line: BookLine, at: datetime) -> None:
    line.delivered_at = at
    for part, cell in line.cells.items():
        if part is Part.TAX:
            continue
        days = line.settlement_days if part is Part.SUPPLIER else book.return_window_days
        cell.due_at = at + timedelta(days=days)


async def hold_release(session: AsyncSession, order_id: OrderId, order_line_id: OrderLineId) -> None:
    """Freeze a line while an after-sales case is open: nothing of it is released. Holds are counted."""
    await _change_holds(session, order_id, order_line_id, 1)


async def lift_hold(session: AsyncSession, order_id: OrderId, order_line_id: OrderLineId) -> None:
    """Close one case of the line. Without an open one nothing happens."""
    await _change_holds(session, order_id, order_line_id, -1)


async def _change_holds(
    session: AsyncSession, order_id: OrderId, order_line_id: OrderLineId, change: int
) -> None:
    book = await load(session, order_id)
    lines = [line for line in book.lines if line.order_line_id == order_line_id]
    if not lines:
        raise OrderLineNotSettled(order_line_id)
    for line in lines:
        line.open_holds = max(line.open_holds + change, 0)
    await save(session, [book])
