from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
import pytest

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import SupplierId
from infra.config import Environment, Settings
from infra.db.session import Database
from infra.suppliers.http_endpoint import HttpEndpoint
from marketplace.brands.models import TenantKind
from services.fulfillment.app import create_app
from services.fulfillment.requests import Services
from supply.suppliers import service as suppliers
from supply.suppliers.models import BrandRelation
from tests.factories import brands, catalog, supply
from tests.factories.catalog import MadeProduct, priced

_numbers = count(1)


@dataclass(slots=True)
class Api:
    """The API as one supplier: every write with a fresh key unless one is given."""

    http: httpx.AsyncClient
    token: str
    supplier_id: SupplierId

    async def __call__(
        self, verb: str, path: str, body: Any = None, *, key: str | None = None, **headers: str
    ) -> httpx.Response:
        sent = {"authorization": f"Bearer {self.token}"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        if verb != "GET":
            sent["idempotency-key"] = key or f"key-{next(_numbers)}"
        return await self.http.request(verb, f"/fulfillment/v1{path}", json=body, headers=sent)


@pytest.fixture
async def http(db: Database, clock: FixedClock) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(env=Environment.TEST)
    app = create_app(Services(db, clock, settings, HttpEndpoint(allow_private=False)))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://fulfillment.test") as client:
        yield client


async def sign_up(http: httpx.AsyncClient, db: Database, clock: FixedClock) -> Api:
    async with db.unit_of_work(SYSTEM) as session:
        made = await brands.signed_up(session, clock, TenantKind.SUPPLIER, name="Ningbo Works")
    return Api(http, made.token, SupplierId.of(made.tenant_id))


@pytest.fixture
async def api(http: httpx.AsyncClient, db: Database, clock: FixedClock) -> Api:
    return await sign_up(http, db, clock)


@dataclass(frozen=True, slots=True)
class Shelf:
    """A supplier with 20 units of one product of one brand."""

    brand: Actor
    product: MadeProduct
    sku: str
    location_id: str


@pytest.fixture
async def shelf(api: Api, db: Database, clock: FixedClock) -> Shelf:
    brand, _ = await brands.committed_brand(db, clock)
    sku = f"CREAM-{next(_numbers)}"
    async with db.unit_of_work(brand) as session:
        product = await catalog.product(session, brand, clock, variants=[priced(sku, "100.00", weight_g=100)])
    location = {
        "code": "nb", "name": "Ningbo 1", "country": "CN", "region": "ZJ",
        "handling": {"currency": "CNY", "amount": "2.00"},
    }  # fmt: skip
    made = await api("POST", "/locations", location)
    assert made.status_code == 201, made.text
    id = made.json()["id"]
    rates = {"rates": [{"dest_zone": "CN", "base": {"currency": "CNY", "amount_minor": 800}}]}
    assert (await api("PUT", f"/locations/{id}/zone-rates", rates)).status_code == 200
    offer = {"location_id": id, "unit_cost": {"currency": "CNY", "amount": "40.00"}}
    assert (await api("PUT", f"/offers/{sku}", offer)).status_code == 200
    async with db.unit_of_work(brand) as session:
        await suppliers.set_brand_rule(
            session, brand, supplier_id=api.supplier_id, relation=BrandRelation.AUTHORISED, clock=clock
        )
    rows = {"rows": [{"location_id": id, "sku": sku, "on_hand": 20}]}
    assert (await api("PATCH", "/stock", rows)).json()["applied"] == 1
    return Shelf(brand, product, sku, id)


@pytest.fixture
async def order(api: Api, shelf: Shelf, db: Database, clock: FixedClock) -> str:
    """A submitted fulfilment order for 5 units."""
    async with db.unit_of_work(SYSTEM) as session:
        variant = shelf.product.variants[0]
        _, (fo,) = await supply.routed_order(session, clock, shelf.brand.brand_id, {variant: 5})
    return str(fo)
