"""One API request from the wire to an answer: key, route, parameters, faults, idempotency, handler."""

from __future__ import annotations

import asyncio
import base64
import hmac
import logging
import re
from dataclasses import dataclass, replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from services.paysim.accounts import no_access
from services.paysim.config import PaysimConfig
from services.paysim.engine import Engine
from services.paysim.expand import expanded
from services.paysim.faults import fire
from services.paysim.idempotency import MAX_KEY, Answer, fingerprint, in_use, store, stored
from services.paysim.params import checked
from services.paysim.routes import Route, call, match
from services.paysim.transaction import Caller, Tx, new_id, public
from services.paysim.wire import API_VERSION, MAX_BODY_BYTES, ApiError, JsonDict, parse_form

log = logging.getLogger("paysim.api")

VERSION = re.compile(r"20\d\d-\d\d-\d\d(\.[a-z]+)?")
CORS = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, DELETE, OPTIONS",
    "access-control-allow-headers": "authorization, content-type, idempotency-key, stripe-account, "
    "stripe-version",
    "access-control-max-age": "300",
}


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed the door: authenticated, routed, its parameters checked."""

    route: Route
    ids: dict[str, str]
    path: str
    given: JsonDict
    params: JsonDict
    caller: Caller
    version: str


class Api:
    """Answers ``/v1/…``. Keys in flight live in memory: an answer that never came leaves nothing behind."""

    def __init__(self, config: PaysimConfig, engine: Engine) -> None:
        self._config, self._engine = config, engine
        self._in_flight: set[tuple[str | None, str]] = set()

    async def __call__(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=CORS)
        request_id = new_id("req", 14)
        version = request.headers.get("stripe-version", API_VERSION)
        headers = {"request-id": request_id, "stripe-version": API_VERSION}
        try:
            if not VERSION.fullmatch(version):
                raise ApiError(400, f"Invalid Stripe API version: {version[:32]}", began=False)
            headers["stripe-version"] = version
            answer = await self._answer(await self._admit(request, request_id, version))
        except ApiError as refused:
            answer = refusal(refused, headers)
        except Exception:
            log.exception("%s %s failed", request.method, request.url.path)
            answer = internal_error(headers)
        if answer.delay_s:
            await asyncio.sleep(answer.delay_s)
        if answer.drop:
            return DroppedResponse()
        return Response(answer.body, answer.status, {**answer.headers, **CORS}, media_type="application/json")

    async def _admit(self, request: Request, request_id: str, version: str) -> Call:
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(413, "Request is too large.", began=False)
        path = request.url.path
        found = match(request.method, path)
        form = parsed(request.url.query) | (parsed(body) if request.method == "POST" else {})
        key = presented_key(request, form)
        publishable = authenticate(key, self._config)
        if found is None:
            message = (
                f"Unrecognized request URL ({request.method}: {path}). Please see https://stripe.com/docs "
                f"or we can "
                "help at https://support.stripe.com/."
            )
            raise ApiError(404, message, began=False)
        route, ids = found
        if publishable:
            require_client_secret(route, form)
        idempotency_key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if idempotency_key is not None and not 0 < len(idempotency_key) <= MAX_KEY:
            raise ApiError(400, f"Idempotency keys must have 1 to {MAX_KEY} characters.", began=False)
        account = request.headers.get("stripe-account")
        return Call(
            route=route,
            ids=ids,
            path=path,
            given=form,
            params=checked(form, route.shape),
            caller=Caller(request_id, idempotency_key, account, key),
            version=version,
        )

    async def _answer(self, call: Call) -> Answer:
        key = call.caller.idempotency_key
        if key is None:
            return await self._engine.run(lambda tx: execute(tx, call))
        flight = (call.caller.account, key)
        if flight in self._in_flight:
            raise in_use(key)
        self._in_flight.add(flight)
        try:
            answer = await self._engine.run(lambda tx: execute(tx, call))
            if answer.delay_s:
                # The slow answer is still being worked on as far as the caller can tell.
                await asyncio.sleep(answer.delay_s)
                answer = replace(answer, delay_s=0.0)
            return answer
        finally:
            self._in_flight.discard(flight)


class DroppedResponse(Response):
    """Promises a body and closes instead: what a client sees when the line is cut after execution."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [
            (b"content-length", b"4096"),
            (b"content-type", b"application/json"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})


def execute(tx: Tx, call: Call) -> Answer:
    """Runs on the engine's thread. Whatever it returns is committed before it is sent."""
    caller = call.caller
    tx.caller = Caller(caller.request_id, caller.idempotency_key, None, caller.key)
    if caller.account is not None and caller.account != tx.platform:
        if tx.find(caller.account, "account", account=tx.platform) is None:
            raise no_access(tx, caller.account)
        tx.caller.account = caller.account
    headers = {"request-id": caller.request_id or "", "stripe-version": call.version}
    facts = {
        "verb": call.route.verb,
        "path": call.path,
        "key": caller.idempotency_key or "",
        "operation": call.route.operation,
    }
    if tx.faults() and fire(tx, "rate_limit", **facts) is not None:
        message = (
            "Too many requests hit the API too quickly. We recommend an exponential backoff of your requests."
        )
        # Returned, not raised: a refusal that is raised would also take back the switch's countdown.
        return refusal(ApiError(429, message, code="rate_limit"), headers)
    if caller.idempotency_key is None:
        return _run(tx, call, headers, facts)
    headers["idempotency-key"] = caller.idempotency_key
    print_of_body = fingerprint(call.given)
    known = stored(tx, caller.idempotency_key, call.path, print_of_body)
    if known is not None:
        return known
    answer = _run(tx, call, headers, facts)
    if answer.kept:
        store(tx, caller.idempotency_key, call.path, print_of_body, answer)
    return answer


def _run(tx: Tx, request: Call, headers: dict[str, str], facts: dict[str, str]) -> Answer:
    """The handler's answer, or the refusal it raised once it had begun."""
    broken = fire(tx, "server_error", **facts) if tx.faults() else None
    try:
        if broken is None or broken.get("execute"):
            with tx.savepoint():
                body = call(tx, request.route, request.params, request.ids)
                if body.get("object") == "list":
                    body = {**body, "data": [public(row) for row in body["data"]], "url": request.path}
                body = expanded(tx, public(body), request.params.get("expand", []))
            if tx.caller.key.startswith("pk_"):
                body = {name: value for name, value in body.items() if name in BROWSER_FIELDS}
            answer = Answer(200, orjson.dumps(body), headers)
        if broken is not None:
            answer = replace(internal_error(headers), kept=bool(broken.get("stored", True)))
    except ApiError as refused:
        if not refused.began:
            raise
        answer = refusal(refused, headers)
    if not tx.faults():
        return answer
    drop = fire(tx, "drop_response", **facts) is not None
    slow = fire(tx, "delay_response", **facts)
    delay_s = float(slow.get("seconds", 1)) if slow is not None else 0.0
    return replace(answer, drop=drop, delay_s=delay_s)


# What a publishable key may see of an intent.
BROWSER_FIELDS = frozenset(
    [
        "id",
        "object",
        "amount",
        "canceled_at",
        "cancellation_reason",
        "capture_method",
        "client_secret",
        "confirmation_method",
        "created",
        "currency",
        "description",
        "last_payment_error",
        "livemode",
        "next_action",
        "payment_method",
        "payment_method_types",
        "processing",
        "receipt_email",
        "setup_future_usage",
        "shipping",
        "status",
        "automatic_payment_methods",
    ]
)


def refusal(refused: ApiError, headers: dict[str, str]) -> Answer:
    return Answer(refused.status, orjson.dumps(refused.body()), {**headers, **refused.headers})


def internal_error(headers: dict[str, str]) -> Answer:
    message = "An unknown error occurred. Please try again, and contact support if it persists."
    body = {"error": {"message": message, "type": "api_error"}}
    return Answer(500, orjson.dumps(body), {**headers, "stripe-should-retry": "false"})


def parsed(raw: bytes | str) -> JsonDict:
    try:
        return parse_form(raw)
    except (ValueError, UnicodeDecodeError) as error:
        raise ApiError(400, f"The request could not be read: {error}", began=False) from error


def presented_key(request: Request, form: JsonDict) -> str:
    """Bearer, Basic (user name) or, for browsers, the ``key`` parameter."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[0]
        except ValueError:
            return "malformed"
    found = form.get("key", "")
    return found if isinstance(found, str) else "malformed"


def authenticate(key: str, config: PaysimConfig) -> bool:
    """Whether it is the publishable key. Raises 401 for anything but our two keys."""
    if not key:
        message = (
            "You did not provide an API key. You need to provide your API key in the Authorization header, "
            "using "
            "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."
        )
        raise ApiError(401, message, began=False, headers={"www-authenticate": 'Bearer realm="Stripe"'})
    if hmac.compare_digest(key.encode(), config.secret_key.encode()):
        return False
    if hmac.compare_digest(key.encode(), config.publishable_key.encode()):
        return True
    covered = f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}"
    raise ApiError(401, f"Invalid API Key provided: {covered}", began=False)


def require_client_secret(route: Route, form: JsonDict) -> None:
    if not route.publishable:
        message = "This API call cannot be made with a publishable API key. Please use a secret API key."
        raise ApiError(403, message, code="secret_key_required", began=False)
    if "client_secret" not in form:
        message = "Missing required param: client_secret."
        raise ApiError(400, message, code="parameter_missing", param="client_secret", began=False)
