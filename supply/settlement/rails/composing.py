"""Who bears a refund on a sharing rail: composed like everywhere (money.md §2), then taken by the rail's own rules.

The composition says what each payee gives of its part. On the rail that is taken out of what it was not paid yet; a
business that was paid gives it back, an individual never does, and the merchant carries that (refunding.py). There are
no debts on a rail: what the merchant's part does not bear is refused, and settled outside of it.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import content_hash
from core.ids import BrandId
from supply.settlement.errors import NothingToRefund
from supply.settlement.rails.errors import RailRefundChanged
from supply.settlement.rails.refunding import reserve_shared_refund
from supply.settlement.rails.requests import lock_order
from supply.settlement.rails.splits import borne, keep_split, split_of
from supply.settlement.refunds import RefundPlan, compose
from supply.settlement.undoing import moved, positions

_KNOWN = text("SELECT request_hash, changes FROM rail_refunds WHERE refund_id = :id")
_COMPOSED = text(
    "UPDATE rail_refunds SET request_hash = :digest, changes = CAST(:changes AS jsonb) WHERE refund_id = :id"
)


async def refund_shared(session: AsyncSession, plan: RefundPlan, *, now: datetime) -> dict[str, int]:
    """Compose and reserve a refund of an order that was paid on a sharing rail; a sweep does the rest.

    Returns who bears it, by payee, the merchant included: the sum is what the customer gets. The same plan under the
    same id again returns the first answer. Raises ``RefundTooLarge``, ``OrderLineNotSettled``, ``NothingToRefund``,
    ``RailRefundTooLarge`` (more than the rail can take from somebody), ``RailShareUnderWay``, ``RailRefundChanged``.
    """
    order = await lock_order(session, plan.order_id)
    digest = content_hash(_plain(plan))
    known = (await session.execute(_KNOWN, {"id": plan.refund_id})).one_or_none()
    if known is not None:
        if known.request_hash != digest:
            raise RailRefundChanged(f"{plan.refund_id} was reserved for something else")
        return dict(known.changes["borne"])
    book = split_of(order)
    state, taken = compose(book, plan)
    shares = borne(str(BrandId.of(order.merchant_id)), taken)
    amount = sum(shares.values())
    if amount <= 0:
        raise NothingToRefund(f"nothing of {plan.order_id} is left to refund")
    await reserve_shared_refund(session, plan.refund_id, plan.order_id, shares, now=now)
    before = positions(book)
    book.take_over(state)
    book.refunded_minor += amount
    changes = {"borne": shares, "moved": moved(before, positions(book))}
    values = {"id": plan.refund_id, "digest": digest, "changes": orjson.dumps(changes).decode()}
    await session.execute(_COMPOSED, values)
    await keep_split(session, book)
    return shares


def _plain(plan: RefundPlan) -> dict[str, Any]:
    body = asdict(plan)
    body["lines"], body["shipping"] = list(body["lines"]), list(body["shipping"])
    return body
