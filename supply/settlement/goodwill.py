"""A refund the platform pays itself (5030): nobody's share of the order changes.

The customer never gets back more than it paid. When the parties' shares are refunded later, what the platform
gave is repaid to it first (refunds.py). What the customer is owed of it goes before new money (goodwill_owed.py).
"""

from __future__ import annotations

from datetime import datetime

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import content_hash
from core.ids import OrderId, RefundId
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, credit, merged
from supply.settlement.composition import RefundTooLarge
from supply.settlement.errors import NothingToRefund, RefundChanged
from supply.settlement.goodwill_owed import change_goodwill
from supply.settlement.kinds import Kind
from supply.settlement.order_book import load, save
from supply.settlement.parties import refund_account
from supply.settlement.refunds import ReservedRefund, refuse_disputed
from supply.settlement.undoing import legs_body

_FIND = text("SELECT request_hash FROM split_refunds WHERE refund_id = :refund_id")
_INSERT = text(
    "INSERT INTO split_refunds (refund_id, order_id, merchant_id, status, currency, amount_minor,"
    " request_hash, changes, reserved_at) VALUES (:refund_id, :order_id, :merchant_id, 'reserved', :currency,"
    " :amount_minor, :request_hash, CAST(:changes AS jsonb), :now)"
)


async def reserve_goodwill(
    session: AsyncSession, refund_id: RefundId, order_id: OrderId, amount_minor: int, *, now: datetime
) -> ReservedRefund:
    """Set ``amount_minor`` aside for the customer; settled and voided as every refund.

    Raises ``OrderNotSettled``, ``RefundTooLarge``, ``NothingToRefund``, ``RefundChanged``, ``OrderDisputed``.
    """
    book = await load(session, order_id)
    digest = content_hash({"goodwill": amount_minor, "order_id": order_id})
    reserved = ReservedRefund(refund_id, order_id, book.currency, amount_minor, book.charge_id, ())
    known = (await session.execute(_FIND, {"refund_id": refund_id})).scalar_one_or_none()
    if known is not None:
        if known != digest:
            raise RefundChanged(refund_id)
        return reserved
    await refuse_disputed(session, book)
    if not book.customer_keeps_minor:
        raise NothingToRefund(f"nothing of {order_id} is left to refund")
    if not 0 < amount_minor <= book.customer_keeps_minor:
        raise RefundTooLarge(amount_minor, book.customer_keeps_minor)
    legs = merged(
        [*change_goodwill(book, amount_minor), credit(refund_account(refund_id, book.currency), amount_minor)]
    )
    # Undone like any refund: nothing was taken from a cell.
    changes = {"legs": legs_body(legs), "cells": [], "payees": [], "taken": [], "given": 0}
    values = {
        "refund_id": refund_id, "order_id": order_id, "merchant_id": book.merchant_id,
        "currency": book.currency, "amount_minor": amount_minor, "request_hash": digest,
        "changes": orjson.dumps(changes).decode(), "now": now,
    }  # fmt: skip
    await session.execute(_INSERT, values)
    await save(session, [book])
    key = f"refund:{refund_id}:reserve"
    await ledger.post(session, Journal(key, Kind.GOODWILL, legs, now, order_id), now=now)
    return reserved
