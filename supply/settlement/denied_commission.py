"""A commission that was not earned (fraud, self-promotion found later) goes back to the merchant that would pay it.

Only before it was paid; what refunds took of it before stays taken. The line's basis stands, so that later refunds
find nothing of it to take.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, OrderLineId
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, merged
from supply.settlement.composition import Part
from supply.settlement.errors import OrderLineNotSettled
from supply.settlement.kinds import Kind
from supply.settlement.order_book import load, save
from supply.settlement.taking import Share, accounts_touched, give, take

_COMMISSION = (Part.INDIVIDUAL, Part.PROMOTER_BRAND, Part.PLATFORM_COMMISSION)


async def deny_commission(
    session: AsyncSession,
    order_id: OrderId,
    order_line_id: OrderLineId,
    *,
    reason: str,
    approved_by: str,
    now: datetime,
) -> int:
    """Take every share of a line's commission back; minor units the merchant gets. Again: nothing is left, 0.

    A payee that has been paid owes its share (1100). Raises ``OrderNotSettled``, ``OrderLineNotSettled``.
    """
    book = await load(session, order_id)
    lines = book.goods_of(order_line_id)
    if not lines:
        raise OrderLineNotSettled(order_line_id)
    held = await ledger.hold(session, accounts_touched(book))
    legs, denied = [], 0
    for line in lines:
        cells = [cell for cell in line.cells.values() if cell.part in _COMMISSION and cell.held_minor > 0]
        shares = [Share(cell, cell.held_minor) for cell in cells]
        amount = sum(share.amount_minor for share in shares)
        if not amount:
            continue
        legs += take(book, shares, held)
        for share in shares:
            share.cell.amount_minor -= share.amount_minor
        merchant = line.cells[Part.MERCHANT]
        merchant.amount_minor += amount
        legs.append(give(book, Share(merchant, amount)))
        denied += amount
    if denied:
        await save(session, [book])
        journal = Journal(
            f"deny:{order_line_id}", Kind.COMMISSION_DENIED, merged(legs), now, order_id,
            memo=f"{reason} ({approved_by})",
        )  # fmt: skip
        await ledger.post(session, journal, now=now)
    return denied
