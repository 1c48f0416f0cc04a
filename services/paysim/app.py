"""The provider as one ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from core.clock import clock_from_path
from services.paysim import disputes, intents, movements, payouts, refunds
from services.paysim.admin import Admin
from services.paysim.api import Api
from services.paysim.config import PaysimConfig, admin_key
from services.paysim.engine import Engine
from services.paysim.pages import Pages
from services.paysim.sharing import app as sharing
from services.paysim.transaction import Tx
from services.paysim.webhooks import Dispatcher

TICK_S = 1.0

# What paysim's own clock makes happen, by the kind it was scheduled under.
ON_DUE: Mapping[str, Callable[[Tx, str], None]] = {
    "authorization": intents.expire,
    "available": movements.make_available,
    "dispute_due": disputes.fall_due,
    "payout": payouts.arrive,
    "payout_submitted": payouts.submit,
    "refund_fails": refunds.fail_when_due,
    "refund_succeeds": refunds.succeed_when_due,
    **sharing.ON_DUE,
    "after": lambda tx, _: movements.announce_freed(tx),
}


class ApiEndpoint:
    """Every verb of ``/v1/…`` goes to the API, which answers unknown ones itself."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._api(Request(scope, receive))
        await response(scope, receive, send)


def create_app(config: PaysimConfig) -> Starlette:
    """State lives in ``config.data_dir``; only one process may use it at a time."""
    clock = clock_from_path(config.clock_file)
    engine = Engine(config, clock, on_due=ON_DUE)
    dispatcher = Dispatcher(engine, clock, retry_base_s=config.webhook_retry_base_s)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        working = asyncio.create_task(engine.work(on_deliveries=dispatcher.wake))
        tasks = [asyncio.create_task(dispatcher.run()), asyncio.create_task(_tick(engine))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            engine.close()

    async def healthz(request: Request) -> Response:
        now = await engine.run(lambda tx: tx.now)
        return JSONResponse({"status": "ok", "now": now})

    routes = [
        Route("/healthz", healthz),
        Route("/v1/{path:path}", ApiEndpoint(Api(config, engine))),
        *Admin(engine, admin_key(config)).routes(),
        *sharing.SharingApi(config, engine).routes(),
        *Pages(engine).routes(),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def _tick(engine: Engine) -> None:
    """An empty job now and then, so that the clock alone can free money and pay payouts out."""
    while True:
        await engine.run(lambda tx: None)
        await asyncio.sleep(TICK_S)
