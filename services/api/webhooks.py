"""Webhooks in: verified on the raw bytes, stored once, answered fast. The work is a handler's."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from core.actor import SYSTEM
from infra.gateways import Gateways
from infra.payments.errors import WebhookRejected
from marketplace.orders import notices
from supply.settlement.rails import service as rails

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

    @router.post("/webhooks/sharing/{rail}")
    async def sharing(request: Request, rail: str) -> Response:
        """A notice only hastens the look-up of a request; one of anything else is believed and left alone."""
        raw = await request.body()
        if len(raw) > LARGEST_NOTICE:
            return JSONResponse({"error": "too large"}, status_code=413)
        if rail not in gateways.rails:
            return JSONResponse({"error": "NO_SUCH_RAIL"}, status_code=404)
        try:
            notice = gateways.rails[rail].verify_notice(raw, request.headers, clock=gateways.clock)
        except WebhookRejected as error:
            return JSONResponse({"error": error.code, "message": error.message}, status_code=400)
        if notice.type == "SHARING.FINISHED" and notice.number is not None:
            async with gateways.db.unit_of_work(SYSTEM) as session:
                await rails.hasten(session, notice.number, now=gateways.clock.now())
        return JSONResponse({"received": True})

    return router
