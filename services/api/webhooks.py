"""Webhooks in: verified on the raw bytes, stored once, answered fast. The work is a handler's."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from core.actor import SYSTEM
from graph.context import Gateways
from infra.payments.errors import WebhookRejected
from marketplace.orders import notices

LARGEST_NOTICE = 512 * 1024


def payment_webhooks(gateways: Gateways) -> APIRouter:
    router = APIRouter()

    @router.post("/webhooks/stripe")
    async def stripe(request: Request) -> Response:
        raw = await request.body()
        if len(raw) > LARGEST_NOTICE:
            return JSONResponse({"error": "too large"}, status_code=413)
        try:
            event = gateways.payments.verify_webhook(
                raw, request.headers.get("stripe-signature"), clock=gateways.clock
            )
            async with gateways.db.unit_of_work(SYSTEM) as session:
                await notices.receive(session, event, now=gateways.clock.now())
        except WebhookRejected as error:
            return JSONResponse({"error": error.code, "message": error.message}, status_code=400)
        return JSONResponse({"received": True})

    return router
