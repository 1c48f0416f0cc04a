"""A hold on a commission reaches the rail: who has a part in a held line is not paid for that order as long as it lies.

A payee has one instruction an order, so all of its part waits; others of the same request are paid without it, and
the rest is not given to the merchant meanwhile. The freeze does not wait: what is still held when it ends is the
merchant's, who owes it outside the rail should the hold turn out to be wrong (settling.lose_late).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.ids import OrderLineId
from infra.db.session import Database
from supply.settlement.composition import COMMISSION_PARTS
from supply.settlement.order_book import platform_part
from supply.settlement.parties import PLATFORM
from supply.settlement.rails.models import RequestStatus
from supply.settlement.rails.recording import add_request
from supply.settlement.rails.requests import instructions_of, lock_order, next_number
from supply.settlement.rails.splits import split_of
from supply.settlement.split_plan import Instruction, PayeeKind, Request

LOOK_AGAIN_AFTER = timedelta(hours=1)
"""Lifting the last hold of a line hastens its order's requests; this is for what is missed."""
_HELD = text("SELECT order_id, order_line_id FROM release_holds WHERE order_id = ANY(:orders)")
_PUT_BACK = text(
    "UPDATE rail_requests SET status = 'planned', tries = tries - 1, next_try_at = :at WHERE id = ANY(:ids)"
)
_OPEN = text("SELECT * FROM rail_requests WHERE id = :id FOR NO KEY UPDATE")
_LEAVE = text("DELETE FROM rail_instructions WHERE request_id = :id AND payee_id = ANY(:payees)")
_NOW = text("UPDATE rail_requests SET next_try_at = :now WHERE id = :id AND status = 'planned'")


async def held_payees(session: AsyncSession, orders: Iterable[Any]) -> dict[Any, set[str]]:
    """By order id, who has a part in the commission of a held line. ``orders`` are rows of ``rail_orders``."""
    by_id = {order.order_id: order for order in orders}
    lines: dict[Any, set[OrderLineId]] = {}
    for row in await session.execute(_HELD, {"orders": list(by_id)}):
        lines.setdefault(row.order_id, set()).add(OrderLineId.of(row.order_line_id))
    return {
        order_id: {
            PLATFORM if platform_part(cell.part) else cell.payee_id
            for line in split_of(by_id[order_id]).lines
            if line.order_line_id in held
            for cell in line.cells.values()
            if cell.part in COMMISSION_PARTS and cell.amount_minor
        }
        for order_id, held in lines.items()
    }


async def put_back_held(
    session: AsyncSession,
    requests: Sequence[Any],
    orders: Mapping[Any, Any],
    told: Mapping[Any, Sequence[Any]],
    *,
    now: datetime,
) -> tuple[list[Any], list[Any]]:
    """Of requests just claimed: (those to be sent, those that have to be divided first).

    Asked after the claim and in its transaction, so that a hold that was laid before it is seen.
    """
    held = await held_payees(session, orders.values())
    waiting = {
        request.id: {row.payee_id for row in told.get(request.id, ())} & held.get(request.order_id, set())
        for request in requests
    }
    back = [id for id, payees in waiting.items() if payees]
    if back:
        await session.execute(_PUT_BACK, {"ids": back, "at": now + LOOK_AGAIN_AFTER})
    mixed = [each for each in requests if 0 < len(waiting[each.id]) < len(told[each.id])]
    return [request for request in requests if not waiting[request.id]], mixed


async def set_apart(db: Database, request_id: Any, order_id: Any, *, now: datetime) -> None:
    """Give those of a planned request that are held a request of their own: the others need not wait for them."""
    async with db.unit_of_work(SYSTEM) as session:
        order = await lock_order(session, order_id)
        request = (await session.execute(_OPEN, {"id": request_id})).first()
        if request is None or request.status != RequestStatus.PLANNED:
            return
        held = (await held_payees(session, [order])).get(order_id, set())
        rows = (await instructions_of(session, [request_id])).get(request_id, [])
        waiting = [row for row in rows if row.payee_id in held]
        if waiting and len(waiting) < len(rows):
            told = tuple([Instruction(r.payee_id, PayeeKind(r.kind), r.amount_minor) for r in waiting])
            number = await next_number(session, order_id)
            apart = Request(number, request.send_at, request.send_before, told)
            await add_request(session, order, apart, waiting, attempt=request.attempt)
            await session.execute(_LEAVE, {"id": request_id, "payees": [row.payee_id for row in waiting]})
        await session.execute(_NOW, {"id": request_id, "now": now})
