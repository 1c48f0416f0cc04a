"""Orders of a brand's own checkout, told by its shop and signed by it.

``POST /intake/v1/orders`` takes 1 to 200 rows, each an order, what happened to it, or both, and answers each by
itself. ``GET /intake/v1/orders/{reference}`` tells how one stands. Both are signed as our webhooks are (Standard
Webhooks), with a secret of the storefront that ``x-lianyu-storefront`` names; a GET signs its path, for want of a body.
The guide: docs/guides/own-checkout.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from core.actor import SYSTEM
from core.errors import LianyuError
from infra.gateways import Gateways
from infra.suppliers.secrets import SecretBox
from marketplace.brands import signing_secrets
from marketplace.brands.queries import StorefrontFacts
from marketplace.insights import told_buyers
from marketplace.orders.own_checkout import intake
from marketplace.orders.own_checkout.errors import BadTelling, TellingsTooMany
from marketplace.orders.own_checkout.intake import Answer
from marketplace.orders.own_checkout.queries import ToldOrderState, told_order
from marketplace.orders.own_checkout.told import MOST_ROWS, Telling
from services.api.intake_bodies import telling_of

STOREFRONT = "x-lianyu-storefront"
LARGEST_CALL = 2 * 1024 * 1024


def order_intake(gateways: Gateways) -> APIRouter:
    router = APIRouter(prefix="/intake/v1")
    secret = gateways.settings.secret_key.get_secret_value()
    box = SecretBox(secret)

    async def sender(request: Request, content: bytes) -> StorefrontFacts:
        async with gateways.db.reading(SYSTEM) as session:
            return await signing_secrets.verify_sender(
                session, request.headers.get(STOREFRONT, ""), request.headers, content, box=box,
                clock=gateways.clock,
            )  # fmt: skip

    @router.post("/orders")
    async def tell(request: Request) -> Response:
        raw = await request.body()
        if len(raw) > LARGEST_CALL:
            return _refused("BODY_TOO_LARGE", f"at most {LARGEST_CALL} bytes", 413)
        try:
            shop = await sender(request, raw)
            rows = [telling_of(row) for row in _rows(raw)]
            good = [row for row in rows if isinstance(row, Telling)]
            answers: list[Answer] = []
            if good:
                async with gateways.db.unit_of_work(SYSTEM) as session:
                    answers = await intake.take_in(session, shop, good, secret=secret, clock=gateways.clock)
                    await told_buyers.remember(
                        session, shop, good, answers, secret=secret, clock=gateways.clock
                    )
        except LianyuError as error:
            return _refused(error.code, error.message, error.status)
        return _answer({"rows": _in_place(rows, answers)})

    @router.get("/orders/{reference:path}")
    async def state(request: Request, reference: str) -> Response:
        try:
            shop = await sender(request, request.scope["raw_path"])
            async with gateways.db.reading(SYSTEM) as session:
                return _answer(_state(reference, await told_order(session, shop, reference)))
        except LianyuError as error:
            return _refused(error.code, error.message, error.status)

    return router


def _rows(raw: bytes) -> list[Any]:
    """Raises ``BadTelling``."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadTelling("the body is not JSON") from error
    if not isinstance(body, dict) or not isinstance(body.get("orders"), list) or len(body) != 1:
        raise BadTelling('the body is {"orders": [...]}', field="orders")
    rows: list[Any] = body["orders"]
    if not 1 <= len(rows) <= MOST_ROWS:
        raise TellingsTooMany(MOST_ROWS, len(rows))
    return rows


def _in_place(rows: Sequence[Telling | LianyuError], answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers in the sequence of the rows, those that could not be read among them."""
    left = iter(answers)
    return [
        {"row": number, "result": "error", "error": _error(row)}
        if isinstance(row, LianyuError)
        else {"row": number, **_row(next(left))}
        for number, row in enumerate(rows, 1)
    ]


def _row(answer: Answer) -> dict[str, Any]:
    return {
        "reference": answer.reference,
        "result": answer.result.value,
        "order_id": str(answer.order_id) if answer.order_id else None,
        "error": _error(answer.error) if answer.error else None,
        "events": [
            {
                "id": each.id,
                "result": each.result.value,
                "error": _error(each.error) if each.error else None,
            }
            for each in answer.events
        ],
    }


def _error(error: LianyuError) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "field": error.field}


def _state(reference: str, state: ToldOrderState) -> dict[str, Any]:
    due = state.due
    return {
        "reference": reference,
        "order_id": str(state.order_id),
        "number": state.number,
        "currency": state.currency,
        "total_minor": state.total_minor,
        "refunded_minor": state.refunded_minor,
        "payment_status": state.payment_status.value,
        "fulfillment_status": state.fulfillment_status.value,
        "placed_at": state.placed_at,
        "paid_at": state.paid_at,
        "delivered_at": state.delivered_at,
        "commission": [
            {
                "line": state.lines[each.order_line_id],
                "agreement": f"{each.agreement_id}/{each.agreement_version}",
                "promoter_brand_id": str(each.promoter_brand_id),
                "rate_ppm": each.rate_ppm,
                "basis_minor": each.basis_minor,
                "commission_minor": each.commission_minor,
                "taken_back_minor": each.reversed_minor + each.denied_minor,
                "status": each.status.value,
                "expected_pay_at": each.expected_pay_at,
            }
            for each in state.commission
        ],
        "owed_minor": due.owed_minor if due else 0,
        "came_minor": due.covered_minor if due else 0,
        "due_since": due.claimed_at if due else None,
        "events": [
            {
                "id": each.id,
                "type": each.kind.value,
                "at": each.at,
                "applied_at": each.applied_at,
                "unknown_lines": each.unknown_lines,
            }
            for each in state.events
        ],
    }


def _answer(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def _refused(code: str, message: str, status: int) -> Response:
    return JSONResponse({"error": code, "message": message}, status_code=status)
