"""Requests to a sharing rail as rows: read, locked, ended; and their names on the rail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId
from infra.payments.sharing import Receiver, ReceiverKind
from supply.ledger.journal import Journal, Leg, merged
from supply.settlement.rails.errors import RailRequestNotFound
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.rails.kinds import RailKind
from supply.settlement.rails.models import RequestStatus
from supply.settlement.split_plan import PayeeKind

_ORDER_OF = text("SELECT order_id FROM rail_requests WHERE id = :id")
_LOCK_ORDER = text("SELECT * FROM rail_orders WHERE order_id = :order_id FOR NO KEY UPDATE")
_LOCK = text("SELECT * FROM rail_requests WHERE id = :id FOR NO KEY UPDATE")
_ORDERS = text("SELECT * FROM rail_orders WHERE order_id = ANY(:ids)")
_INSTRUCTIONS = text(
    "SELECT * FROM rail_instructions WHERE request_id = ANY(:ids) ORDER BY request_id, payee_id"
)
_NEXT_NUMBER = text("SELECT max(number) + 1 FROM rail_requests WHERE order_id = :order_id")
_END = text("UPDATE rail_requests SET status = :status, failure = :failure, ended_at = :now WHERE id = :id")


async def locked(session: AsyncSession, request_id: Any) -> tuple[Any, Any]:
    """The order's row first: everything that changes an order's requests takes it, in this sequence."""
    found = (await session.execute(_ORDER_OF, {"id": request_id})).first()
    if found is None:
        raise RailRequestNotFound(f"{request_id} was never planned")
    order = await lock_order(session, found.order_id)
    return (await session.execute(_LOCK, {"id": request_id})).one(), order


async def lock_order(session: AsyncSession, order_id: Any) -> Any:
    return (await session.execute(_LOCK_ORDER, {"order_id": order_id})).one()


async def next_number(session: AsyncSession, order_id: Any) -> int:
    return int((await session.execute(_NEXT_NUMBER, {"order_id": order_id})).scalar_one())


async def orders_of(session: AsyncSession, requests: Sequence[Any]) -> dict[Any, Any]:
    rows = await session.execute(_ORDERS, {"ids": [request.order_id for request in requests]})
    return {row.order_id: row for row in rows}


async def instructions_of(session: AsyncSession, ids: Sequence[Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for row in await session.execute(_INSTRUCTIONS, {"ids": list(ids)}):
        found.setdefault(row.request_id, []).append(row)
    return found


async def end_request(
    session: AsyncSession, request_id: Any, status: RequestStatus, now: datetime, failure: str | None = None
) -> None:
    await session.execute(_END, {"id": request_id, "status": status.value, "now": now, "failure": failure})


def journal_of(request: Any, step: str, kind: RailKind, legs: Sequence[Leg], now: datetime) -> Journal:
    id = RailRequestId.of(request.id)
    return Journal(f"rail:{id}:{step}", kind, merged(legs), now, OrderId.of(request.order_id), str(id))


def names_of(order: Any, request: Any) -> dict[str, str]:
    return {
        "merchant_id": order.merchant_account,
        "payment_id": order.payment_id,
        "order_no": str(RailRequestId.of(request.id)),
    }


def receiver_of(row: Any) -> Receiver:
    person = row.kind == PayeeKind.INDIVIDUAL
    return Receiver(ReceiverKind.INDIVIDUAL if person else ReceiverKind.MERCHANT, row.account_id)


def order_id_of(order: Any) -> OrderId:
    return OrderId.of(order.order_id)


def payee_ids(rows: Sequence[Any]) -> tuple[str, ...]:
    return tuple(row.payee_id for row in rows)
