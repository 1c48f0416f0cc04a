"""A provider and a platform that start empty for every test: what one leaves behind is the next one's discrepancy."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import SharedClock
from infra.db.session import Database
from infra.payments.stripe_gateway import StripeGateway
from supply.settlement import service
from supply.settlement.reconciliation.provider_rows import GatewayRows
from supply.settlement.reconciliation.report import Report
from supply.settlement.reconciliation.service import reconcile
from tests.factories.settlement import Parties, line_of_o1, order_of

_suite = sys.modules["tests.paysim.conftest"]


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory, receiver: Any) -> Iterator[Any]:
    paysim = _suite.Paysim(tmp_path_factory.mktemp("paysim"), receiver.url)
    yield paysim
    paysim.stop()


@pytest.fixture
async def stripe(fresh: Any) -> AsyncIterator[StripeGateway]:
    gateway = StripeGateway(
        secret_key=_suite.SECRET_KEY, webhook_secret=_suite.WEBHOOK_SECRET, api_base=fresh.url
    )
    yield gateway
    await gateway.close()


class Platform:
    """The platform beside the provider, both by one clock."""

    def __init__(self, db: Database, paysim: Any, payments: StripeGateway) -> None:
        self.db, self.paysim, self.payments = db, paysim, payments
        self.clock: SharedClock = paysim.clock
        self.parties = Parties()

    async def charge(self, amount: int = 10_388, currency: str = "usd") -> str:
        """A card is charged at the provider; nobody told our books."""
        return str(self.paysim.paid(amount, currency)["latest_charge"])

    async def capture(self, charge_id: str, *, currency: str = "USD", **other: Any) -> Any:
        """R1 of order O1 on this charge."""
        order = order_of(
            self.parties, [line_of_o1(self.parties)], charge_id=charge_id, currency=currency,
            paid_at=self.clock.now(), **other,
        )  # fmt: skip
        async with self.db.unit_of_work(SYSTEM) as session:
            await service.open_split(session, order, clock=self.clock)
        return order

    async def sale(self, currency: str = "usd") -> Any:
        return await self.capture(await self.charge(currency=currency), currency=currency.upper())

    async def reconcile(self, **options: Any) -> Report:
        return await reconcile(self.db, GatewayRows(self.payments), clock=self.clock, **options)


@pytest.fixture
async def platform(db: Database, fresh: Any, stripe: StripeGateway) -> Platform:
    return Platform(db, fresh, stripe)
