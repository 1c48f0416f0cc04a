"""When what was earned is due: each payee and line by its own terms (money.md §2, cps.md §2).

Merchant, promoter brand, individual and platform: the return window after delivery. Supplier: its settlement
days after delivery. A line counts as delivered when no unit of it is outstanding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId, SupplierId
from supply.settlement.composition import Part
from supply.settlement.errors import OrderLineNotSettled
from supply.settlement.order_book import BookLine, OrderBook, load, load_many, save


async def record_delivery(
    session: AsyncSession,
    order_id: OrderId,
    supplier_id: SupplierId | None,
    quantities: Sequence[tuple[OrderLineId, int]],
    *,
    at: datetime,
) -> None:
    """Units of a supplier reached the customer; sets due dates on the lines this completes.

    An order without a split (nothing was paid through us) is left alone.
    """
    await record_deliveries(session, [Delivered(order_id, supplier_id, tuple(quantities), at)])


@dataclass(frozen=True, slots=True)
class Delivered:
    """Units of one supplier that reached the customer of one order; of what nobody of ours delivers, of none."""

    order_id: OrderId
    supplier_id: SupplierId | None
    quantities: Sequence[tuple[OrderLineId, int]]
    at: datetime


async def record_deliveries(session: AsyncSession, deliveries: Sequence[Delivered]) -> None:
    """``record_delivery`` for many orders, in the given sequence. Six statements for any number."""
    books = {book.order_id: book for book in await load_many(session, [d.order_id for d in deliveries])}
    if not books:
        return
    for delivery in deliveries:
        book = books.get(delivery.order_id)
        if book is not None:
            _take_delivery(book, delivery)
            settle_delivery(book, delivery.at)
    await save(session, books.values())


def _take_delivery(book: OrderBook, delivery: Delivered) -> None:
    for order_line_id, quantity in delivery.quantities:
        left = quantity
        for line in book.goods_of(order_line_id):
            if line.supplier_id == delivery.supplier_id and left:
                taken = min(left, line.quantity - line.delivered_quantity)
                line.delivered_quantity += taken
                left -= taken


def settle_delivery(book: OrderBook, at: datetime) -> None:
    """Mark lines with nothing outstanding as delivered, with their shipping, and date their parts."""
    for line in book.lines:
        if (
            line.is_goods
            and line.delivered_at is None
            and line.delivered_quantity
            and not line.outstanding_quantity
        ):
            date_line(book, line, at)
    for line in book.lines:
        if line.is_goods or line.delivered_at is not None:
            continue
        goods = [each for each in book.goods_of(line.order_line_id) if each.supplier_id == line.supplier_id]
        goods = goods or book.goods_of(line.order_line_id)
        times = [each.delivered_at for each in goods if each.delivered_at is not None]
        if times and len(times) == len(goods):
            date_line(book, line, max(times))


def date_line(book: OrderBook, line: BookLine, at: datetime) -> None:
    """The line was delivered then: its parts are due their time later."""
    line.delivered_at = at
    for cell in line.cells.values():
        if cell.part is Part.TAX:
            continue
        days = line.settlement_days if cell.part is Part.SUPPLIER else book.return_window_days
        cell.due_at = at + timedelta(days=days)


async def hold_release(session: AsyncSession, order_id: OrderId, order_line_id: OrderLineId) -> None:
    """Freeze a line while an after-sales case is open: nothing of it is released. Holds are counted."""
    await _change_holds(session, order_id, order_line_id, 1)


async def lift_hold(session: AsyncSession, order_id: OrderId, order_line_id: OrderLineId) -> None:
    """Close one case of the line. Without an open one nothing happens."""
    await _change_holds(session, order_id, order_line_id, -1)


async def hold_orders(session: AsyncSession, order_ids: Sequence[OrderId]) -> None:
    """One more case on every line of these orders. Orders without a split are left alone."""
    await _change_all_holds(session, order_ids, 1)


async def lift_orders(session: AsyncSession, order_ids: Sequence[OrderId]) -> None:
    """Close one case of every line of these orders."""
    await _change_all_holds(session, order_ids, -1)


async def _change_all_holds(session: AsyncSession, order_ids: Sequence[OrderId], change: int) -> None:
    books = await load_many(session, order_ids)
    for book in books:
        for line in book.lines:
            line.open_holds = max(line.open_holds + change, 0)
    if books:
        await save(session, books)


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
