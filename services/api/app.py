"""The API process: both GraphQL schemas, webhooks in, health and metrics."""

from __future__ import annotations

import contextlib
import gc
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import orjson
import structlog
from fastapi import FastAPI, Request
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from strawberry.fastapi import GraphQLRouter
from strawberry.http import GraphQLHTTPResponse

from core.actor import SYSTEM
from core.errors import LianyuError, Unavailable
from core.money import PPM
from graph import brand, storefront
from graph.context import Context
from infra import outbox
from infra.config import Environment
from infra.db.contention import TRY_AGAIN, lost_a_race
from infra.gateways import Gateways
from infra.http.body_limit import BodyLimit
from infra.observability.context import request_id
from infra.observability.metrics import (
    LEDGER_TAIL,
    MATCHED,
    OLDEST_UNMATCHED,
    OUTBOX_LAG,
    RequestMiddleware,
    metrics,
)
from services.api.auth import STOREFRONT_KEY, Authenticator
from services.api.downloads import print_files
from services.api.intake import order_intake
from services.api.statement_files import statement_files
from services.api.webhooks import payment_webhooks
from services.wiring import make_gateways, read_settings
from supply.ledger import queries as ledger
from supply.settlement.reconciliation import queries as reconciliation

LARGEST_BODY = 12 * 1024 * 1024
"""A catalogue file of 5 MB inside JSON, every character escaped, still fits."""

log = structlog.get_logger("api")


class _Router(GraphQLRouter[Context, None]):
    """Answers are written by orjson: they are most of the bytes we make."""

    def parse_json(self, data: str | bytes) -> object:
        """Raises ``JSONDecodeError``, which is answered with 400, for whatever is not a JSON object or list."""
        try:
            parsed: object = super().parse_json(data)
        except (UnicodeDecodeError, RecursionError) as error:
            raise json.JSONDecodeError("the body is not JSON", "", 0) from error
        if not isinstance(parsed, dict | list):
            raise json.JSONDecodeError("a request is a JSON object", "", 0)
        return parsed

    def encode_json(self, data: object) -> bytes:
        try:
            return orjson.dumps(data)
        except orjson.JSONEncodeError:
            # A lone surrogate, quoted back from the request: only the escaped form can say it.
            return json.dumps(data).encode()


def create_app(gateways: Gateways | None = None, *, now: Callable[[], float] = time.monotonic) -> FastAPI:
    """The application; ``gateways`` are read from the settings unless given. ``now`` is how long tokens are remembered
    by, in seconds."""
    gateways = gateways or make_gateways(read_settings())
    authenticator = Authenticator(gateways, now=now)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # The schemas stay for good; scanning them again and again would cost a tenth of a list's CPU.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        yield
        await gateways.db.close()

    # FastAPI closes a generator dependency after the answer; Strawberry's types know only the function form.
    async def brand_context(connection: HTTPConnection) -> AsyncIterator[Context]:
        async with _closing(Context(gateways, actor=await authenticator.brand(connection))) as context:
            yield context

    async def storefront_context(connection: HTTPConnection) -> AsyncIterator[Context]:
        actor, facts = await authenticator.storefront(connection)
        async with _closing(Context(gateways, actor=actor, storefront=facts)) as context:
            yield context

    ide: Any = None if gateways.settings.env is Environment.PRODUCTION else "graphiql"
    app = FastAPI(title="Lianyu", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(
        _Router(brand.schema, path="/graphql", context_getter=cast("Any", brand_context), graphql_ide=ide)
    )
    app.include_router(
        _Router(
            storefront.schema,
            path="/storefront/graphql",
            context_getter=cast("Any", storefront_context),
            graphql_ide=ide,
        )
    )
    app.include_router(payment_webhooks(gateways))
    app.include_router(order_intake(gateways))
    app.include_router(print_files(gateways, authenticator))
    app.include_router(statement_files(gateways, authenticator))
    app.add_api_route("/healthz", _alive, methods=["GET"])
    app.add_api_route("/readyz", _readiness(gateways), methods=["GET"])
    app.add_route("/metrics", _metrics(gateways))
    app.add_exception_handler(LianyuError, _expected)
    app.add_exception_handler(DBAPIError, _database)
    app.add_exception_handler(Exception, _unexpected)
    # Browsers of any storefront may call with its publishable key; cookies are never read here.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=["*"],
        allow_methods=["GET", "POST"],
        allow_headers=["content-type", STOREFRONT_KEY, "x-request-id"],
        expose_headers=["x-request-id"],
    )
    app.add_middleware(BodyLimit, largest=LARGEST_BODY, refuse=_too_large)
    app.add_middleware(RequestMiddleware, surface="api")
    return app


@asynccontextmanager
async def _closing(context: Context) -> AsyncIterator[Context]:
    try:
        yield context
    finally:
        await context.close()


def _too_large(largest: int) -> Response:
    return _problem(413, "BODY_TOO_LARGE", f"at most {largest} bytes")


async def _expected(_: Request, error: Exception) -> Response:
    """An expected error outside of a resolver, in the form GraphQL clients understand."""
    assert isinstance(error, LianyuError)
    return _problem(error.status, error.code, error.message)


async def _database(request: Request, error: Exception) -> Response:
    if lost_a_race(error):
        return _problem(Unavailable.status, Unavailable.code, TRY_AGAIN)
    return await _unexpected(request, error)


async def _unexpected(_: Request, error: Exception) -> Response:
    log.error("unexpected", exc_info=error)
    return _problem(500, LianyuError.code, "an unexpected error; quote the request id")


def _problem(status: int, code: str, message: str) -> Response:
    extensions = {"code": code, "requestId": request_id()}
    body: GraphQLHTTPResponse = {"errors": [{"message": message, "extensions": extensions}]}
    return JSONResponse(body, status_code=status)


async def _alive() -> dict[str, str]:
    return {"status": "ok"}


def _metrics(gateways: Gateways) -> Any:
    async def scraped(request: Request) -> Response:
        with contextlib.suppress(SQLAlchemyError, OSError):
            async with gateways.db.reading(SYSTEM) as session:
                OUTBOX_LAG.set(await outbox.oldest_age_s(session))
                LEDGER_TAIL.set((await ledger.tail(session)).entries)
                for found in await reconciliation.health_of_all(session, now=gateways.clock.now()):
                    MATCHED.labels(found.provider).set(found.matched_ppm / PPM)
                    OLDEST_UNMATCHED.labels(found.provider).set(found.oldest_unmatched_s)
        return await metrics(request)

    return scraped


def _readiness(gateways: Gateways) -> Any:
    async def ready() -> Response:
        try:
            async with gateways.db.reading(SYSTEM) as session:
                await session.execute(text("SELECT 1"))
        except Exception as error:
            return JSONResponse({"status": "unavailable", "why": type(error).__name__}, status_code=503)
        return JSONResponse({"status": "ok"})

    return ready
