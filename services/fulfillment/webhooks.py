"""The supplier's webhook endpoints, and the log of what was sent to them."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response

from core.ids import DeliveryId, WebhookEndpointId
from services.fulfillment import schemas
from services.fulfillment.requests import Caller, Key, Services, answer, services_of, write_once
from supply.fulfillment import webhooks
from supply.fulfillment.webhooks import DeliveryView, EndpointView

router = APIRouter(tags=["webhooks"])


@router.get("/webhook-endpoints")
async def list_endpoints(request: Request, actor: Caller) -> Response:
    async with services_of(request).db.reading(actor) as session:
        found = await webhooks.endpoints(session, actor)
    return answer({"items": [_endpoint(each) for each in found], "event_types": list(webhooks.EVENT_TYPES)})


@router.post("/webhook-endpoints")
async def create_endpoint(request: Request, actor: Caller, key: Key, body: schemas.WebhookIn) -> Response:
    """The secret is in this answer and in no other, except a repeat under the same Idempotency-Key."""
    services = services_of(request)
    await services.endpoints.check(body.url)

    async def run(session: AsyncSession) -> dict[str, Any]:
        endpoint_id, secret = await webhooks.create_endpoint(
            session, actor, url=body.url, events=body.events, box=services.box, clock=services.clock
        )
        (view,) = [each for each in await webhooks.endpoints(session, actor) if each.id == endpoint_id]
        return {**_endpoint(view), "sealed": _sealed(services, endpoint_id, secret)}

    return await write_once(
        request, actor, key, body, run, status=201, shown=lambda stored: _with_secret(services, stored)
    )


@router.patch("/webhook-endpoints/{endpoint_id}")
async def patch_endpoint(
    request: Request, actor: Caller, endpoint_id: str, key: Key, body: schemas.WebhookPatch
) -> Response:
    services, id = services_of(request), WebhookEndpointId.parse(endpoint_id)
    if body.url is not None:
        await services.endpoints.check(body.url)

    async def run(session: AsyncSession) -> dict[str, Any]:
        await webhooks.update_endpoint(
            session, actor, id, url=body.url, events=body.events, active=body.active, clock=services.clock
        )
        (view,) = [each for each in await webhooks.endpoints(session, actor) if each.id == id]
        return _endpoint(view)

    return await write_once(request, actor, key, body, run)


@router.post("/webhook-endpoints/{endpoint_id}/rotate-secret")
async def rotate_secret(request: Request, actor: Caller, endpoint_id: str, key: Key) -> Response:
    """A new secret; for 24 hours messages are signed with the old one too."""
    services, id = services_of(request), WebhookEndpointId.parse(endpoint_id)

    async def run(session: AsyncSession) -> dict[str, Any]:
        secret = await webhooks.rotate_secret(session, actor, id, box=services.box, clock=services.clock)
        return {"id": str(id), "sealed": _sealed(services, id, secret)}

    return await write_once(
        request, actor, key, None, run, shown=lambda stored: _with_secret(services, stored)
    )


@router.delete("/webhook-endpoints/{endpoint_id}")
async def delete_endpoint(request: Request, actor: Caller, endpoint_id: str, key: Key) -> Response:
    id = WebhookEndpointId.parse(endpoint_id)

    async def run(session: AsyncSession) -> dict[str, Any]:
        await webhooks.delete_endpoint(session, actor, id)
        return {"id": str(id), "deleted": True}

    return await write_once(request, actor, key, None, run)


@router.get("/webhook-deliveries")
async def list_deliveries(
    request: Request,
    actor: Caller,
    before: Annotated[str | None, Query(max_length=40)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Response:
    """Newest first; ``before`` is the last id of the page before."""
    last = DeliveryId.parse(before) if before else None
    async with services_of(request).db.reading(actor) as session:
        found = await webhooks.deliveries(session, actor, limit=limit, before=last)
    return answer({"items": [_delivery(each) for each in found]})


@router.post("/webhook-deliveries/{delivery_id}/replay")
async def replay_delivery(request: Request, actor: Caller, delivery_id: str, key: Key) -> Response:
    services, id = services_of(request), DeliveryId.parse(delivery_id)

    async def run(session: AsyncSession) -> dict[str, Any]:
        await webhooks.replay(session, actor, id, clock=services.clock)
        return {"id": str(id), "state": "pending"}

    return await write_once(request, actor, key, None, run)


def _sealed(services: Services, endpoint_id: WebhookEndpointId, secret: str) -> str:
    """What is stored for a repeat of the request: never the secret itself."""
    return base64.b64encode(services.box.seal(secret, owner=str(endpoint_id))).decode()


def _with_secret(services: Services, stored: dict[str, Any]) -> dict[str, Any]:
    sealed = base64.b64decode(stored["sealed"])
    rest = {name: value for name, value in stored.items() if name != "sealed"}
    return {**rest, "secret": services.box.open(sealed, owner=stored["id"])}


def _endpoint(view: EndpointView) -> dict[str, Any]:
    return {
        "id": str(view.id), "url": view.url, "events": list(view.events), "status": view.status.value,
        "disabled_reason": view.disabled_reason,
        "rotating_until": view.rotating_until.isoformat() if view.rotating_until else None,
        "created_at": view.created_at.isoformat(), "version": view.version,
    }  # fmt: skip


def _delivery(view: DeliveryView) -> dict[str, Any]:
    return {
        "id": str(view.id), "endpoint_id": str(view.endpoint_id), "type": view.event_type,
        "state": view.state.value, "attempts": view.attempts, "next_attempt_at": view.next_attempt_at,
        "last_status": view.last_status, "last_error": view.last_error, "created_at": view.created_at,
    }  # fmt: skip
