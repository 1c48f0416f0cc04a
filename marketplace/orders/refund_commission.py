"""The commission lines follow the ledger: what a refund or a lost dispute took of them, and what came back.

Done when the money is certain to have moved: these rows are append-only, a refund that never happened must
never have touched them. Two that end at once take turns at the order's lines: each reads how much of the goods is
refunded when it has them, so that the last one to write knows of both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId, RefundId
from marketplace.promotion.commission import denials, reversal, states
from marketplace.promotion.commission.reversal import TakenShare
from marketplace.promotion.models import ShareRole
from supply.settlement import taken_commission
from supply.settlement.composition import Part
from supply.settlement.disputes.events import DisputeLost, DisputeWon
from supply.settlement.refunded_goods import refunded_goods
from supply.settlement.taken_commission import CommissionTaken

_ROLES = {
    Part.INDIVIDUAL: ShareRole.INDIVIDUAL,
    Part.PROMOTER_BRAND: ShareRole.PROMOTER_BRAND,
    Part.PLATFORM_COMMISSION: ShareRole.PLATFORM,
}


async def take(session: AsyncSession, refund_id: RefundId, *, clock: Clock) -> None:
    found = await taken_commission.of_refund(session, refund_id)
    if found is not None:
        order_id, taken = found
        await reversal.lock_lines(session, [order_id])
        goods = await refunded_goods(session, [order_id])
        await reversal.reverse_taken(session, refund_id, _shares(taken), goods, clock=clock)


async def give_back(session: AsyncSession, refund_id: RefundId, *, clock: Clock) -> None:
    """The refund failed, or the bank sent it back: what it took, if it had, and what was withheld for it. Before the
    books have it back; ``deny_again`` is for after."""
    found = await taken_commission.of_refund(session, refund_id)
    if found is not None:
        order_id, _ = found
        await reversal.lock_lines(session, [order_id])
        goods = await refunded_goods(session, [order_id], without=refund_id)
        await reversal.restore(session, refund_id, goods, clock=clock)


async def deny_again(session: AsyncSession, order_id: OrderId, *, clock: Clock) -> None:
    """What a failed refund gave back to lines that were found invalid meanwhile is the merchant's; what it laid back as
    pending waits for its release."""
    await _where_it_lies(session, [order_id], clock)


async def on_dispute_lost(session: AsyncSession, event: DisputeLost, *, clock: Clock) -> None:
    """What the bank keeps is sold no longer: its commission goes as with a refund."""
    await reversal.lock_lines(session, event.order_ids)
    for order_id, taken in (await taken_commission.of_dispute(session, event.dispute_id)).items():
        name = taken_commission.named_for(event.dispute_id, order_id)
        goods = await refunded_goods(session, [order_id])
        await reversal.reverse_taken(session, name, _shares(taken), goods, clock=clock)


async def on_dispute_won(session: AsyncSession, event: DisputeWon, *, clock: Clock) -> None:
    """Won after it was lost, what losing took comes back, and what was withheld for it; won at once, nothing had been
    taken."""
    await reversal.lock_lines(session, event.order_ids)
    for order_id in event.order_ids:
        name = taken_commission.named_for(event.dispute_id, order_id)
        goods = await refunded_goods(session, [order_id])
        await reversal.restore(session, name, goods, clock=clock)
    await _where_it_lies(session, event.order_ids, clock)


async def _where_it_lies(session: AsyncSession, order_ids: Sequence[OrderId], clock: Clock) -> None:
    """After the books have it back."""
    await denials.deny_what_came_back(session, order_ids, by=str(SYSTEM), clock=clock)
    await states.wait_for_release(session, order_ids)


def _shares(taken: Iterable[CommissionTaken]) -> list[TakenShare]:
    return [
        TakenShare(each.order_line_id, _ROLES[each.part], each.payee_id, each.amount_minor) for each in taken
    ]
