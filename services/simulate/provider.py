"""paysim inside this process: its API, its admin API and its durable books, without its own delivery of webhooks.

When a webhook goes out, how often and in which order is the seed's to say, so the dispatcher stays out and the
queue of deliveries is taken from the same table it would read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import httpx
import stripe
from starlette.applications import Starlette
from starlette.routing import Route

from core.clock import Clock
from infra.payments.profit_sharing import ProfitSharing
from infra.payments.stripe_gateway import StripeGateway
from services.paysim.admin import Admin
from services.paysim.api import Api
from services.paysim.app import ON_DUE, ApiEndpoint
from services.paysim.config import Fees, PaysimConfig
from services.paysim.engine import Engine
from services.paysim.sharing.app import SharingApi
from services.paysim.transaction import Tx, ids_drawn_from
from services.paysim.webhooks import Delivery, Outcome, note, signed_headers, take_due
from services.simulate.transport import InProcess

T = TypeVar("T")
SECRET_KEY, PUBLISHABLE_KEY = "sk_test_simulation", "pk_test_simulation"
ADMIN_KEY = "ak_simulation"
BASE = "http://paysim.invalid"
PLATFORM = "http://platform.invalid"
HOOKS, SHARING_HOOKS = f"{PLATFORM}/webhooks/stripe", f"{PLATFORM}/webhooks/sharing/profit_sharing"
NEWS = (
    "payment_intent.succeeded", "refund.*", "charge.refund.updated", "charge.dispute.*", "transfer.reversed",
    "payout.*",
)  # fmt: skip
"""What the platform asks to be told, as it would at Stripe."""
FEES = Fees(rate_ppm=10_000, fixed_minor=5, dispute_minor=1_500)


class _Client(httpx.AsyncClient):
    """Stripe's client hands raw bytes over as a form's data."""

    async def request(self, method: Any, url: Any, *, data: Any = None, **more: Any) -> httpx.Response:
        return await super().request(method, url, content=data or None, **more)


class _Http(stripe.HTTPXClient):
    """Stripe's own client over the in-process transport."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(timeout=20)
        self._client_async = _Client(transport=InProcess(app))


@dataclass
class Provider:
    """``gateway`` is the real Stripe client; it never retries by itself, so that every lost answer reaches us."""

    engine: Engine
    gateway: StripeGateway
    sharing: ProfitSharing
    webhook_secret: str
    _http: httpx.AsyncClient
    _clock: Clock

    async def look(self, read: Callable[[Tx], T]) -> T:
        return await self.engine.run(read)

    async def admin(self, verb: str, path: str, **body: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        return await self._http.request(verb, f"{BASE}/_paysim{path}", json=body, headers=headers)

    async def fault(
        self, kind: str, *, count: int = 1, match: dict[str, str] | None = None, **options: Any
    ) -> None:
        answer = await self.admin(
            "POST", "/faults", kind=kind, count=count, match=match or {}, options=options
        )
        answer.raise_for_status()

    async def convert(self, kept_in: str, rates: Mapping[str, float]) -> None:
        """What customers pay in these currencies is kept in another one, from now on at these rates."""
        to = kept_in.lower()
        rules = {name.lower(): {"to": to, "rate": f"{rate:.6f}"} for name, rate in rates.items()}
        (await self.admin("POST", "/fx", **rules)).raise_for_status()

    async def take_deliveries(self, flying: frozenset[int]) -> list[Delivery]:
        """Webhooks that are due and not on their way, oldest first."""
        found: list[Delivery] = []
        while True:
            known = flying | {delivery.id for delivery in found}
            some, _ = await self.engine.run(lambda tx, known=known: take_due(tx, known))  # type: ignore[misc]
            if not some:
                return found
            found += some

    async def note(self, outcomes: Sequence[Outcome]) -> None:
        if outcomes:
            await self.engine.run(lambda tx: note(tx, list(outcomes), retry_base_s=0.0))

    def signed(self, delivery: Delivery) -> dict[str, str]:
        """The headers it goes out with."""
        return signed_headers(delivery, int(self._clock.now().timestamp()))


@asynccontextmanager
async def provider(data_dir: Path, clock: Clock, *, seed: int = 0) -> AsyncIterator[Provider]:
    """A fresh paysim with its state in ``data_dir``, and the platform's webhook endpoint registered there. Its ids
    follow from ``seed``: ours are larger from one to the next, but these are put in order by their letters."""
    with ids_drawn_from(Random(seed).randbytes):
        async with _provider(data_dir, clock) as made:
            yield made


@asynccontextmanager
async def _provider(data_dir: Path, clock: Clock) -> AsyncIterator[Provider]:
    config = PaysimConfig(
        data_dir,
        SECRET_KEY,
        PUBLISHABLE_KEY,
        admin_key=ADMIN_KEY,
        fees=FEES,
        enforce_minimum=False,
        durable=False,
    )
    engine = Engine(config, clock, on_due=ON_DUE)
    app = Starlette(
        routes=[
            Route("/v1/{path:path}", ApiEndpoint(Api(config, engine))),
            *SharingApi(config, engine).routes(),
            *Admin(engine, ADMIN_KEY).routes(),
        ]
    )
    working = asyncio.create_task(engine.work(on_deliveries=lambda: None))
    http = httpx.AsyncClient(transport=InProcess(app))
    try:
        secret = await _endpoint(http)
        gateway = StripeGateway(
            secret_key=SECRET_KEY,
            webhook_secret=secret,
            api_base=BASE,
            max_network_retries=0,
            http=_Http(app),
        )
        sharing = ProfitSharing(base=BASE, key=config.sharing_secret, clock=clock, transport=InProcess(app))
        yield Provider(engine, gateway, sharing, secret, http, clock)
        await gateway.close()
        await sharing.close()
    finally:
        await http.aclose()
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        engine.close()


async def _endpoint(http: httpx.AsyncClient) -> str:
    form = {"url": HOOKS, **{f"enabled_events[{n}]": name for n, name in enumerate(NEWS)}}
    headers = {"authorization": f"Bearer {SECRET_KEY}"}
    answer = await http.post(f"{BASE}/v1/webhook_endpoints", data=form, headers=headers)
    answer.raise_for_status()
    return str(answer.json()["secret"])
