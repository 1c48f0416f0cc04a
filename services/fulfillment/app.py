"""The fulfilment API: what suppliers, their ERPs and 3PLs use. REST, OpenAPI 3.1, bearer tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from sqlalchemy import text
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from core.actor import SYSTEM
from core.clock import clock_from_path
from infra.config import Settings
from infra.db.session import Database, make_engine
from infra.http.body_limit import BodyLimit
from infra.observability.logs import configure_logging
from infra.observability.metrics import RequestMiddleware, metrics
from infra.suppliers.http_endpoint import HttpEndpoint
from services.fulfillment import coupons, goods, orders, problems, returns, settlements, webhooks
from services.fulfillment.requests import Services

PREFIX = "/fulfillment/v1"
LARGEST_BODY = 4 * 1024 * 1024
_ABOUT = """Orders come to you by webhook and in `GET /fulfillment-orders`; every order lists `allowed_actions`.
Every write needs an `Idempotency-Key`; a repeat gets the stored answer. `If-Match` takes the `version` of the
ETag. Errors are RFC 9457 problems with a stable `code`. Amounts are decimal strings or minor units, times
carry an offset."""


def create_app(services: Services | None = None) -> FastAPI:
    """The application; ``services`` are made from the settings unless given."""
    services = services or _services()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await services.db.close()

    app = FastAPI(
        title="Lianyu fulfilment API", version="1", description=_ABOUT, lifespan=lifespan,
        openapi_url=f"{PREFIX}/openapi.json", docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.state.services = services
    for module in (orders, goods, returns, coupons, settlements, webhooks):
        app.include_router(module.router, prefix=PREFIX)
    app.add_api_route("/healthz", _alive, methods=["GET"], include_in_schema=False)
    app.add_api_route("/readyz", _ready, methods=["GET"], include_in_schema=False)
    app.add_route("/metrics", metrics, include_in_schema=False)
    problems.install(app)
    app.add_middleware(BodyLimit, largest=LARGEST_BODY, refuse=_too_large)
    app.add_middleware(RequestMiddleware, surface="fulfillment")
    return app


def _services() -> Services:
    settings = Settings()
    configure_logging(level=settings.log_level, style=settings.log_format)
    return Services(
        Database(make_engine(settings.app_database_url, pool_size=settings.db_pool_size)),
        clock_from_path(settings.clock_file),
        settings,
        HttpEndpoint(allow_private=settings.private_webhooks_allowed),
    )


async def _alive() -> dict[str, str]:
    return {"status": "ok"}


async def _ready(request: Request) -> Response:
    services: Services = request.app.state.services
    try:
        async with services.db.reading(SYSTEM) as session:
            await session.execute(text("SELECT 1"))
    except Exception as error:
        return JSONResponse({"status": "unavailable", "why": type(error).__name__}, status_code=503)
    return JSONResponse({"status": "ok"})


def _too_large(largest: int) -> ASGIApp:
    return problems.problem(413, "BODY_TOO_LARGE", f"at most {largest} bytes")
