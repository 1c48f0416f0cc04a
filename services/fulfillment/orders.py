"""Fulfilment orders: list, look, answer, ship, deliver."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from core.actor import Actor
from core.errors import LianyuError
from core.ids import FulfillmentLineId, FulfillmentOrderId, ShipmentId
from core.pagination import PageRequest
from services.fulfillment import schemas
from services.fulfillment.requests import Caller, IfMatch, Key, answer, services_of, write_once
from supply.fulfillment import queries, service
from supply.fulfillment.machine import RequestStatus, Status
from supply.fulfillment.queries import FulfillmentFilter
from supply.fulfillment.service import RejectReason, TrackingUpdate
from supply.fulfillment.views import fulfillment_order_json

router = APIRouter(tags=["fulfillment orders"])


@router.get("/fulfillment-orders")
async def list_orders(
    request: Request,
    actor: Caller,
    status: Annotated[list[Status] | None, Query()] = None,
    request_status: Annotated[list[RequestStatus] | None, Query()] = None,
    updated_since: AwareDatetime | None = None,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """Oldest change first. Keep ``next_cursor`` and come back: what changes later comes after it."""
    wanted = FulfillmentFilter(tuple(status or ()), tuple(request_status or ()), updated_since)
    async with services_of(request).db.reading(actor) as session:
        page = await queries.fulfillment_orders_page(session, actor, wanted, PageRequest(limit, cursor))
    return answer(
        {
            "items": [fulfillment_order_json(view, for_supplier=True) for view in page.items],
            "next_cursor": page.cursors[-1] if page.has_next else None,
        }
    )


@router.get("/fulfillment-orders/{order_id}")
async def get_order(request: Request, actor: Caller, order_id: str) -> Response:
    async with services_of(request).db.reading(actor) as session:
        body = await _current(session, actor, FulfillmentOrderId.parse(order_id))
    return answer(body, etag=f'"{body["version"]}"')


@router.post("/fulfillment-orders/{order_id}/accept")
async def accept(
    request: Request,
    actor: Caller,
    order_id: str,
    key: Key,
    seen: IfMatch,
    body: schemas.Accept | None = None,
) -> Response:
    clock = services_of(request).clock
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.accept(session, actor, id, clock=clock, expected_version=seen),
    )  # fmt: skip


@router.post("/fulfillment-orders/{order_id}/accept-partial")
async def accept_partial(
    request: Request, actor: Caller, order_id: str, key: Key, seen: IfMatch, body: schemas.AcceptPartial
) -> Response:
    clock = services_of(request).clock
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.accept_partial(
            session, actor, id, lines=_units(body.lines), reason=body.reason, clock=clock, expected_version=seen
        ),
    )  # fmt: skip


@router.post("/fulfillment-orders/{order_id}/reject")
async def reject(
    request: Request, actor: Caller, order_id: str, key: Key, seen: IfMatch, body: schemas.Reject
) -> Response:
    clock = services_of(request).clock
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.reject(
            session, actor, id, reason=body.reason, note=body.note, clock=clock, expected_version=seen
        ),
    )  # fmt: skip


@router.post("/fulfillment-orders/{order_id}/cannot-complete")
async def cannot_complete(
    request: Request, actor: Caller, order_id: str, key: Key, seen: IfMatch, body: schemas.CannotComplete
) -> Response:
    clock = services_of(request).clock
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.cannot_complete(
            session, actor, id, reason=body.reason, clock=clock, expected_version=seen
        ),
    )  # fmt: skip


@router.post("/fulfillment-orders/{order_id}/ship")
async def ship(
    request: Request, actor: Caller, order_id: str, key: Key, seen: IfMatch, body: schemas.Ship
) -> Response:
    clock = services_of(request).clock
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.ship(
            session, actor, id, carrier=body.carrier, tracking_no=body.tracking_no,
            lines=_units(body.lines) if body.lines is not None else None,
            handed_over_at=body.handed_over_at, clock=clock, expected_version=seen,
        ),
    )  # fmt: skip


@router.post("/fulfillment-orders/{order_id}/deliver")
async def deliver(
    request: Request,
    actor: Caller,
    order_id: str,
    key: Key,
    seen: IfMatch,
    body: schemas.Deliver | None = None,
) -> Response:
    """Every parcel on its way has arrived."""
    clock, given = services_of(request).clock, body or schemas.Deliver()
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.deliver(
            session, actor, id, delivered_at=given.delivered_at, proof=given.proof, clock=clock,
            expected_version=seen,
        ),
    )  # fmt: skip


@router.post("/fulfillment-orders/{order_id}/lost")
async def lost(
    request: Request, actor: Caller, order_id: str, key: Key, seen: IfMatch, body: schemas.Lost
) -> Response:
    clock = services_of(request).clock
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.mark_lost(
            session, actor, id, returned=body.returned_to_sender, clock=clock, expected_version=seen
        ),
    )  # fmt: skip


@router.post("/fulfillment-orders/{order_id}/accept-cancel")
async def accept_cancel(
    request: Request, actor: Caller, order_id: str, key: Key, seen: IfMatch,
    body: schemas.AcceptCancel | None = None,
) -> Response:  # fmt: skip
    clock = services_of(request).clock
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.accept_cancel(session, actor, id, clock=clock, expected_version=seen),
    )  # fmt: skip


@router.post("/fulfillment-orders/{order_id}/reject-cancel")
async def reject_cancel(
    request: Request, actor: Caller, order_id: str, key: Key, seen: IfMatch, body: schemas.RejectCancel
) -> Response:
    clock = services_of(request).clock
    return await _verb(
        request, actor, key, body, order_id,
        lambda session, id: service.reject_cancel(
            session, actor, id, label=body.label, clock=clock, expected_version=seen
        ),
    )  # fmt: skip


@router.post("/shipments/{shipment_id}/tracking-events")
async def tracking(
    request: Request, actor: Caller, shipment_id: str, key: Key, body: schemas.Tracking
) -> Response:
    """Scans, in any order and as often as they come."""
    clock = services_of(request).clock
    updates = [TrackingUpdate(e.event_id, e.status, e.at, e.correction, e.raw) for e in body.events]

    async def run(session: AsyncSession) -> dict[str, Any]:
        fo = await service.record_tracking(
            session, actor, ShipmentId.parse(shipment_id), updates, clock=clock
        )
        return await _current(session, actor, fo.id)

    return await write_once(request, actor, key, body, run)


@router.post("/fulfillment-orders/batch-ack")
async def batch_ack(request: Request, actor: Caller, key: Key, body: schemas.BatchAck) -> Response:
    """Answer up to 100 orders; each one's result stands by itself."""
    clock = services_of(request).clock

    async def one(session: AsyncSession, item: schemas.Acknowledgement) -> dict[str, Any]:
        id = FulfillmentOrderId.parse(item.fulfillment_order_id)
        if item.action == "accept":
            await service.accept(session, actor, id, clock=clock)
        else:
            reason = item.reason or RejectReason.OTHER
            await service.reject(session, actor, id, reason=reason, clock=clock)
        return {"ok": True}

    async def run(session: AsyncSession) -> dict[str, Any]:
        results = []
        for item in body.items:
            try:
                async with session.begin_nested():
                    result = await one(session, item)
            except LianyuError as error:
                result = {"ok": False, "code": error.code, "detail": error.message}
            results.append({"fulfillment_order_id": item.fulfillment_order_id, **result})
        return {"results": results}

    return await write_once(request, actor, key, body, run)


_Verb = Callable[[AsyncSession, FulfillmentOrderId], Awaitable[Any]]


async def _verb(request: Request, actor: Actor, key: str, body: Any, order_id: str, verb: _Verb) -> Response:
    """One verb on one order, answered with the order as it is afterwards."""
    id = FulfillmentOrderId.parse(order_id)

    async def run(session: AsyncSession) -> dict[str, Any]:
        await verb(session, id)
        return await _current(session, actor, id)

    return await write_once(request, actor, key, body, run)


async def _current(session: AsyncSession, actor: Actor, id: FulfillmentOrderId) -> dict[str, Any]:
    return fulfillment_order_json(await queries.fulfillment_order(session, actor, id), for_supplier=True)


def _units(lines: list[schemas.LineUnits]) -> dict[FulfillmentLineId, int]:
    return {FulfillmentLineId.parse(line.line_id): line.quantity for line in lines}
