"""The sharing rail as HTTP: ``/sharing/v1/…``, beside the Stripe-shaped rail, on the same clock and the same disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.paysim.api import DroppedResponse
from services.paysim.config import PaysimConfig
from services.paysim.engine import Engine
from services.paysim.faults import fire
from services.paysim.sharing import bill, merchants, payments, returns, shares
from services.paysim.sharing.wire import SharingRefused, authenticate
from services.paysim.transaction import Tx
from services.paysim.wire import MAX_BODY_BYTES, JsonDict

log = logging.getLogger("paysim.sharing")
Work = Callable[[Tx, JsonDict], Any]

TABLE: tuple[tuple[str, str, Work], ...] = (
    ("POST", "/merchants", merchants.register),
    ("GET", "/merchants/{id}", merchants.retrieve),
    ("GET", "/platform", merchants.platform),
    ("POST", "/receivers", merchants.add_receiver),
    ("POST", "/receivers/remove", merchants.remove_receiver),
    ("POST", "/transactions", payments.create),
    ("GET", "/transactions/{out_trade_no}", payments.retrieve),
    ("POST", "/transactions/{out_trade_no}/close", payments.close),
    ("GET", "/amounts/{transaction_id}", payments.amounts),
    ("POST", "/orders", shares.create),
    ("POST", "/orders/finish", shares.finish),
    ("GET", "/orders/{out_order_no}", shares.retrieve),
    ("POST", "/returns", returns.create),
    ("GET", "/returns/{out_return_no}", returns.retrieve),
    ("POST", "/refunds", payments.refund),
    ("GET", "/refunds/{out_refund_no}", payments.retrieve_refund),
    ("GET", "/bills/{date}", bill.announced),
    ("GET", "/bills/{date}/file", bill.file),
)
# What paysim's own clock makes happen here, by the kind it was scheduled under.
ON_DUE: Mapping[str, Callable[[Tx, str], None]] = {
    "share_result": shares.settle,
    "share_return": returns.settle,
    "share_refund": payments.refund_arrives,
    "share_thaw": shares.thaw,
}


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    media_type: str = "application/json"
    drop: bool = False
    delay_s: float = 0.0


class SharingApi:
    def __init__(self, config: PaysimConfig, engine: Engine) -> None:
        self._secret, self._engine = config.sharing_secret, engine

    def routes(self) -> list[Route]:
        return [
            Route(f"/sharing/v1{path}", self._endpoint(work), methods=[verb]) for verb, path, work in TABLE
        ]

    def _endpoint(self, work: Work) -> Callable[[Request], Any]:
        operation = f"{work.__module__.rpartition('.')[2]}.{work.__name__}"

        async def answer(request: Request) -> Response:
            body = await request.body()
            try:
                done = await self._engine.run(lambda tx: self._run(tx, request, body, work, operation))
            except SharingRefused as refused:
                done = _Answer(refused.status, orjson.dumps(refused.body()))
            except Exception:
                log.exception("%s %s failed", request.method, request.url.path)
                done = _broken()
            if done.delay_s:
                await asyncio.sleep(done.delay_s)
            if done.drop:
                return DroppedResponse()
            return Response(done.body, done.status, media_type=done.media_type)

        return answer

    def _run(self, tx: Tx, request: Request, body: bytes, work: Work, operation: str) -> _Answer:
        # As it came over the wire: decoding and encoding again would change what was signed.
        query = request.scope["query_string"].decode("latin-1")
        target = request.scope["raw_path"].decode("latin-1") + (f"?{query}" if query else "")
        authenticate(
            request.headers.get("authorization", ""),
            secret=self._secret,
            verb=request.method,
            target=target,
            body=body.decode("utf-8", "replace"),
            now=tx.now,
        )
        given = {**_parsed(body), **request.query_params, **request.path_params}
        numbers = ("out_order_no", "out_return_no", "out_refund_no", "out_trade_no")
        key = next((str(given[name]) for name in numbers if name in given), "")
        facts = {"verb": request.method, "path": request.url.path, "key": key, "operation": operation}
        if not tx.faults():
            return _said(work(tx, given))
        if fire(tx, "rate_limit", **facts) is not None:
            refused = SharingRefused(429, "FREQUENCY_LIMITED", "Too many requests; try again later.")
            return _Answer(429, orjson.dumps(refused.body()))
        broken = fire(tx, "server_error", **facts)
        if broken is not None and not broken.get("execute"):
            return _broken()
        try:
            with tx.savepoint():
                said = _said(work(tx, given))
        except SharingRefused as refused:
            # Answered here and not raised: raising would take back the switches' countdown too.
            said = _Answer(refused.status, orjson.dumps(refused.body()))
        if broken is not None:
            said = _broken()
        slow = fire(tx, "delay_response", **facts)
        delay_s = float(slow.get("seconds", 1)) if slow is not None else 0.0
        drop = fire(tx, "drop_response", **facts) is not None
        return _Answer(said.status, said.body, said.media_type, drop, delay_s)


def _said(result: Any) -> _Answer:
    if isinstance(result, str):
        return _Answer(200, result.encode(), "text/csv; charset=utf-8")
    return _Answer(200, orjson.dumps(result))


def _broken() -> _Answer:
    refused = SharingRefused(500, "SYSTEM_ERROR", "Something went wrong; ask what became of the request.")
    return _Answer(500, orjson.dumps(refused.body()))


def _parsed(body: bytes) -> JsonDict:
    if len(body) > MAX_BODY_BYTES:
        raise SharingRefused(413, "BODY_TOO_LARGE", "The request is too large.")
    try:
        given = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise SharingRefused(400, "BODY_NOT_JSON", f"The body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise SharingRefused(400, "BODY_NOT_JSON", "The body is a JSON object.")
    return given
