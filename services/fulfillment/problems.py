"""Every error as an RFC 9457 problem with a stable ``code``; what nobody expected is logged once and masked."""

from __future__ import annotations

from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from core.errors import LianyuError, RateLimited, Unauthenticated, Unavailable
from infra.db.contention import TRY_AGAIN, lost_a_race
from infra.observability.context import request_id

MEDIA_TYPE = "application/problem+json"
_CODES = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "BODY_TOO_LARGE", 415: "UNSUPPORTED_MEDIA_TYPE"}

log = structlog.get_logger("fulfillment")


def install(app: FastAPI) -> None:
    app.add_exception_handler(LianyuError, _expected)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(Exception, _unexpected)


def problem(status: int, code: str, detail: str, /, **more: Any) -> JSONResponse:
    body = {
        "type": f"urn:lianyu:problem:{code.lower().replace('_', '-')}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id() or None,
        **more,
    }
    return JSONResponse(jsonable_encoder(body), status_code=status, media_type=MEDIA_TYPE)


async def _expected(_: Request, error: Exception) -> Response:
    assert isinstance(error, LianyuError)
    if error.status >= 500:
        log.error("unavailable", code=error.code, exc_info=error)
    facts = {name: value for name, value in error.facts().items() if not name.startswith("_")}
    answer = problem(error.status, error.code, error.message, field=error.field, **_plain(facts))
    if isinstance(error, RateLimited):
        answer.headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, Unauthenticated):
        answer.headers["www-authenticate"] = 'Bearer realm="lianyu"'
    return answer


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(each["type"] == "json_invalid" for each in errors):
        return problem(400, "MALFORMED_JSON", "the body is not JSON")
    named = [{"field": ".".join(str(p) for p in each["loc"]), "message": each["msg"]} for each in errors[:50]]
    return problem(422, "INVALID_REQUEST", "the request has invalid fields", errors=named)


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _CODES.get(error.status_code, "HTTP_ERROR")
    answer = problem(error.status_code, code, str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


async def _database(request: Request, error: Exception) -> Response:
    """A lost race for locks changed nothing and may be tried again; anything else is a bug."""
    assert isinstance(error, DBAPIError)
    if not lost_a_race(error):
        return await _unexpected(request, error)
    answer = problem(503, Unavailable.code, TRY_AGAIN)
    answer.headers["retry-after"] = "1"
    return answer


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("unexpected", exc_info=error)
    return problem(500, "INTERNAL", "something went wrong on our side")


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, int | list | dict) else str(value) for name, value in facts.items()
    }
