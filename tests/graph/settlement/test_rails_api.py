"""Sharing rails, payouts to banks and states of statements, as each side asks for them over the brand API.

The order on the rail is O1 of money.md §2: 10,388 paid, the rail's fee 62; of a refund of 100 each bears its part.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from marketplace.brands.models import TenantKind
from tests.factories.brands import signed_up
from tests.factories.filled_market import FilledMarket, filled_market
from tests.factories.open_cases import open_cases
from tests.fixtures.http import Served, codes_of, serving
from tests.fixtures.statements import statements_of

ORDER = """query ($id: ID!) { railOrder(orderId: $id) { rail paid { minorUnits } fee { minorUnits }
  merchantPart { minorUnits } closedAt requests { number finish status sendBefore instructions { payeeId kind status } }
  refunds { amount { minorUnits } status borne { payeeId amount { minorUnits currencyCode } } } } }"""
TOLD = """query ($payee: ID, $after: String) { railInstructions(first: 2, after: $after, payeeId: $payee) {
  nodes { payeeId status amount { minorUnits currencyCode } } pageInfo { hasNextPage endCursor } } }"""
REFUSED = "{ railRefusedRequests { nodes { id } } }"
BANK = "{ bankPayouts { nodes { id payeeId status amount { minorUnits } } } }"
PLATFORM = "{ platformPayouts { nodes { reference status payoutId amount { minorUnits } } } }"
STATES = "query ($p: ID) { statements(first: 100, payeeId: $p) { nodes { id state } } }"


@dataclass
class Market:
    served: Served
    db: Database
    clock: FixedClock
    market: FilledMarket
    operator: str

    async def ask(self, document: str, token: str, **values: Any) -> dict[str, Any]:
        answer = await self.served.brand(document, values, token=token)
        assert codes_of(answer) == [], answer
        (found,) = answer["data"].values()
        told: dict[str, Any] = found
        return told

    @property
    def order(self) -> str:
        return str(self.market.orders[-1])


@pytest.fixture
async def market(db: Database, clock: FixedClock) -> AsyncIterator[Market]:
    async with serving(db, clock) as served:
        filled = await filled_market(db, clock, served)
        await open_cases(db, clock, filled)
        async with db.unit_of_work(SYSTEM) as session:
            operator = await signed_up(session, clock, TenantKind.PLATFORM, name="Lianyu")
        yield Market(served, db, clock, filled, operator.token)


async def test_a_merchant_reads_what_its_order_was_paid_on_a_rail_and_a_payee_what_is_told_for_it(
    market: Market,
) -> None:
    merchant, promoter = market.market.merchant_token, market.market.promoter_token
    order = await market.ask(ORDER, merchant, id=market.order)
    assert (order["paid"]["minorUnits"], order["fee"]["minorUnits"]) == ("10388", "62")
    # 10,388 - 62 - 6,600 is the merchant's, less what it bears of the refund: of its 3,200 and the tax.
    (refund,) = order["refunds"]
    shares = {each["payeeId"]: int(each["amount"]["minorUnits"]) for each in refund["borne"]}
    own = str(market.market.shop.promotion.merchant.brand_id)
    assert (refund["amount"]["minorUnits"], sum(shares.values())) == ("100", 100)
    assert int(order["merchantPart"]["minorUnits"]) == 10_388 - 62 - 6_600 - shares[own]
    assert [request["finish"] for request in order["requests"]][-1] is True
    assert {request["status"] for request in order["requests"]} == {"PLANNED"}

    assert (await market.served.brand(ORDER, {"id": market.order}, token=promoter))["data"] == {
        "railOrder": None
    }
    brand = str(market.market.shop.promotion.promoter.brand_id)
    assert len((await market.ask(TOLD, promoter))["nodes"]) == 2  # its own, and its individual promoter's
    told = await market.ask(TOLD, promoter, payee=brand)
    ((mine,), page) = told["nodes"], told["pageInfo"]
    assert (mine["payeeId"], mine["status"], page["hasNextPage"]) == (brand, "PLANNED", False)
    assert mine["amount"] == {"minorUnits": str(900 - shares[brand]), "currencyCode": "CNY"}


async def test_instructions_are_paged_and_what_the_rail_refused_is_the_operators(market: Market) -> None:
    merchant = market.market.merchant_token
    first = await market.ask(TOLD, merchant)
    rest = await market.ask(TOLD, merchant, after=first["pageInfo"]["endCursor"])
    payees = [each["payeeId"] for each in [*first["nodes"], *rest["nodes"]]]
    assert len(payees) == len(set(payees)) == 4
    assert await market.ask(REFUSED, market.operator) == {"nodes": []}
    assert codes_of(await market.served.brand(REFUSED, token=merchant)) == ["MISSING_SCOPE"]


async def test_a_party_sees_its_bank_payouts_and_the_platform_its_own(market: Market) -> None:
    merchant = market.market.merchant_token
    own = str(market.market.shop.promotion.merchant.brand_id)
    (payout,) = (await market.ask(BANK, merchant))["nodes"]
    assert payout == {
        "id": "po_private", "payeeId": own, "status": "in_transit", "amount": {"minorUnits": "900"},
    }  # fmt: skip
    assert await market.ask(BANK, market.market.promoter_token) == {"nodes": []}

    (asked,) = (await market.ask(PLATFORM, market.operator))["nodes"]
    assert (asked["reference"], asked["status"], asked["payoutId"]) == ("PRIVATE", "REQUESTED", None)
    assert codes_of(await market.served.brand(PLATFORM, token=merchant)) == ["MISSING_SCOPE"]


async def test_a_statement_is_closed_disputed_or_final(market: Market) -> None:
    supplier = str(market.market.shop.source.supplier_id)
    token, supplier_token = market.market.merchant_token, market.market.supplier_token
    (mine,) = (await market.ask(STATES, token))["nodes"]
    (theirs,) = (await market.ask(STATES, market.operator, p=supplier))["nodes"]
    assert (mine["state"], theirs["state"]) == ("CLOSED", "DISPUTED")
    (listed,) = (await market.served.supplier("GET", "/settlements", token=supplier_token)).json()["items"]
    assert listed["state"] == "DISPUTED"

    market.clock.advance(timedelta(days=30, seconds=1))
    (mine,) = (await market.ask(STATES, token))["nodes"]
    assert mine["state"] == "FINAL"


async def test_pages_cost_a_fixed_number_of_statements(market: Market) -> None:
    merchant = market.market.merchant_token
    for document, values, most in (
        (
            ORDER,
            {"id": market.order},
            6,
        ),  # who asks (2), the order, its requests, its instructions, its refunds
        (TOLD, {}, 3),
        (BANK, {}, 3),
        (STATES, {}, 4),  # with one for the states of all of them
    ):
        with statements_of(market.db) as statements:
            await market.ask(document, merchant, **values)
        assert len(statements) <= most, statements
