"""A supplier reads what it is owed and its statements; another supplier reads nothing of it."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import httpx

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, OrderId, OrderLineId
from infra.db.session import Database
from supply.settlement import service as settlement
from supply.settlement.service import CapturedLine, CapturedOrder
from tests.factories.ledger import horizon_passed
from tests.services.fulfillment.conftest import Api, sign_up


async def captured(db: Database, clock: FixedClock, api: Api) -> OrderId:
    """One order: goods 9,000 of which the supplier's cost is 4,000; shipping 800, all the supplier's."""
    line = CapturedLine(
        order_line_id=OrderLineId.new(),
        quantity=2,
        goods_minor=9_000,
        tax_minor=540,
        supplier_id=api.supplier_id,
        supplier_cost_minor=4_000,
        shipping_minor=800,
        shipping_tax_minor=48,
        supplier_shipping_minor=800,
    )
    order = CapturedOrder(
        order_id=OrderId.new(),
        merchant_id=BrandId.new(),
        currency="CNY",
        charge_id="ch_1",
        paid_at=clock.now(),
        lines=[line],
        tax_jurisdiction="CN",
    )
    async with db.unit_of_work(SYSTEM) as session:
        await settlement.open_split(session, order, clock=clock)
    return order.order_id


async def test_a_supplier_sees_its_balance_and_recomputes_its_statement(
    db: Database, clock: FixedClock, api: Api, http: httpx.AsyncClient
) -> None:
    started = clock.now() - timedelta(hours=1)
    order_id = await captured(db, clock, api)
    clock.advance(timedelta(days=1))
    await horizon_passed(db)
    async with db.unit_of_work(SYSTEM) as session:
        closed = await settlement.close_statement(
            session,
            str(api.supplier_id),
            currency="CNY",
            period_from=started,
            period_to=clock.now(),
            now=clock.now(),
        )
    stranger = await sign_up(http, db, clock)

    balances = (await api("GET", "/balances")).json()["items"]
    (listed,) = (await api("GET", "/settlements")).json()["items"]
    document = await api("GET", f"/settlements/{closed.id}")
    lines = await api("GET", f"/settlements/{closed.id}/lines.csv")

    assert [(each["currency"], each["pending"]["minorUnits"]) for each in balances] == [("CNY", "4800")]
    assert listed["closing"]["minorUnits"] == "4800"
    assert hashlib.sha256(document.content).hexdigest() == listed["sha256"]
    assert str(order_id) in lines.text
    assert (await stranger("GET", "/settlements")).json()["items"] == []
    assert (await stranger("GET", "/balances")).json()["items"] == []
    refused = await stranger("GET", f"/settlements/{closed.id}")
    assert (refused.status_code, refused.json()["code"]) == (404, "STATEMENT_NOT_FOUND")


async def test_a_malformed_statement_id_is_told_as_such(api: Api) -> None:
    refused = await api("GET", "/settlements/stm_x")

    assert (refused.status_code, refused.json()["code"]) == (422, "MALFORMED_ID")
