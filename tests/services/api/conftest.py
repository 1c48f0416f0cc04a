"""A shopper, a shop and a real payment provider beside the API."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import SharedClock
from infra.db.session import Database
from infra.payments.stripe_gateway import StripeGateway
from supply.inventory import queries as stock
from supply.ledger import queries as ledger
from tests.factories.orders import Shop, open_shop
from tests.fixtures.http import Served, serving
from tests.graph.test_bad_input import Buying
from tests.paysim.conftest import SECRET_KEY, WEBHOOK_SECRET, Paysim, Receiver


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Paysim]:
    paysim = Paysim(tmp_path_factory.mktemp("paysim"), receiver.url)
    yield paysim
    paysim.stop()


@dataclass(frozen=True, slots=True)
class Paying:
    """A shopper whose checkout is placed, and the provider where the money is."""

    served: Served
    shop: Shop
    provider: Paysim
    receiver: Receiver
    db: Database

    @property
    def clock(self) -> SharedClock:
        return self.provider.clock

    async def placed(self) -> tuple[str, str]:
        """The checkout and its payment intent."""
        buying = Buying(self.served, self.shop)
        checkout = (await buying.checkout())["checkout"]["id"]
        placed = await buying.place(checkout, key=checkout)
        assert placed["userErrors"] == []
        return checkout, placed["payment"]["intentId"]

    def pay(self, intent: str) -> tuple[str, bytes]:
        """Pays at the provider; the signed notice of it, as it arrived."""
        self.provider.ok(f"/v1/payment_intents/{intent}/confirm", payment_method="pm_card_visa")
        return self.heard("payment_intent.succeeded", intent)

    def heard(self, news: str, about: str) -> tuple[str, bytes]:
        """The signed notice of it, as it arrived."""
        self.receiver.wait(news, about=about)
        return next(
            (signature, raw)
            for signature, raw in self.receiver.deliveries
            if json.loads(raw)["type"] == news and about.encode() in raw
        )

    async def tell(self, raw: bytes, signature: str | None) -> httpx.Response:
        headers = {"content-type": "application/json"}
        if signature is not None:
            headers["stripe-signature"] = signature
        return await self.served.api.post("/webhooks/stripe", content=raw, headers=headers)

    async def one(self, sql: str) -> Any:
        async with self.db.reading(SYSTEM) as session:
            return (await session.execute(text(sql))).scalar_one()

    async def sellable(self) -> int:
        async with self.db.reading(SYSTEM) as session:
            found = await stock.sellable(session, [self.shop.variant], "CN-SH", now=self.clock.now())
        return found[self.shop.variant]

    async def books_hold(self) -> None:
        async with self.db.reading(SYSTEM) as session:
            assert await ledger.unbalanced_journals(session) == 0
            assert await ledger.mismatched_balances(session) == 0


@pytest.fixture
async def paying_shopper(provider: Paysim, receiver: Receiver, db: Database) -> AsyncIterator[Paying]:
    provider.owes_nothing()
    receiver.deliveries.clear()
    gateway = StripeGateway(
        secret_key=SECRET_KEY, webhook_secret=WEBHOOK_SECRET, api_base=provider.url, instrument_secret="test"
    )
    async with serving(db, provider.clock, payments=gateway) as served:
        yield Paying(served, await open_shop(db, provider.clock, stock=5), provider, receiver, db)
    await gateway.close()
    provider.books()
