"""Goods that come back: what was announced, what arrived, what is taken back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from core.actor import SYSTEM
from core.ids import OrderLineId
from core.pagination import MAX_PAGE, PageRequest
from core.plain import plain
from marketplace.orders import returning
from marketplace.orders.return_models import ReturnId
from services.fulfillment import schemas
from services.fulfillment.requests import Caller, Key, answer, services_of, write_once

router = APIRouter(tags=["returns"])


@router.get("/returns")
async def list_returns(
    request: Request,
    actor: Caller,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
) -> Response:
    """Newest first. An announced return is received with ``/receive``, then decided with ``/inspect``."""
    async with services_of(request).db.reading(actor) as session:
        page = await returning.returns_page(session, actor, PageRequest(limit, cursor))
    return answer(
        {
            "items": [_return_json(view) for view in page.items],
            "next_cursor": page.cursors[-1] if page.has_next else None,
        }
    )


@router.post("/returns/{return_id}/receive")
async def receive(
    request: Request, actor: Caller, return_id: str, key: Key, body: schemas.ReturnReceive
) -> Response:
    id, units = ReturnId.parse(return_id), _units(body.lines)
    clock = services_of(request).clock

    async def run(session: AsyncSession) -> dict[str, Any]:
        await returning.receive(session, actor, id, units, clock=clock)
        return {"id": str(id), "status": "received"}

    return await write_once(request, actor, key, body, run, as_actor=SYSTEM)


@router.post("/returns/{return_id}/inspect")
async def inspect(
    request: Request, actor: Caller, return_id: str, key: Key, body: schemas.ReturnInspect
) -> Response:
    """Closes the return. The customer is refunded for what is taken back, at your cost and the others' parts; what
    is not damaged of it is in your stock again."""
    id, accepted = ReturnId.parse(return_id), _units(body.accepted)
    damaged = _counted((line.order_line_id, line.damaged) for line in body.accepted if line.damaged)
    clock = services_of(request).clock

    async def run(session: AsyncSession) -> dict[str, Any]:
        refunds = await returning.inspect(session, actor, id, accepted, damaged=damaged, clock=clock)
        return {"id": str(id), "status": "closed", "refund_ids": [str(each) for each in refunds]}

    return await write_once(request, actor, key, body, run, as_actor=SYSTEM)


def _units(lines: Sequence[schemas.ReturnUnits]) -> dict[OrderLineId, int]:
    return _counted((line.order_line_id, line.quantity) for line in lines)


def _counted(lines: Iterable[tuple[str, int]]) -> dict[OrderLineId, int]:
    """Units by line; a line that is named twice counts for both."""
    units: dict[OrderLineId, int] = {}
    for name, quantity in lines:
        line_id = OrderLineId.parse(name)
        units[line_id] = units.get(line_id, 0) + quantity
    return units


def _return_json(view: returning.ReturnView) -> dict[str, Any]:
    return {
        "id": str(view.id), "order_id": str(view.order_id), "status": str(view.status), "cause": str(view.cause),
        "reason": view.reason,
        "lines": [
            {
                "order_line_id": str(line.order_line_id), "quantity": line.quantity, "received": line.received,
                "accepted": line.accepted, "restocked": line.restocked,
            }
            for line in view.lines
        ],
        "announced_at": plain(view.announced_at), "expires_at": plain(view.expires_at),
        "received_at": plain(view.received_at), "closed_at": plain(view.closed_at),
    }  # fmt: skip
