"""A commission that is held on a sharing rail, as the advertiser meets it: it may be let go, it cannot be denied there.

O1 of money.md §2 on the rail: 900 for the promoter brand and 450 for the individual.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.ids import ProductId
from infra.db.session import Database
from infra.payments.profit_sharing import ProfitSharing
from marketplace.promotion import service as promoting
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from tests.factories import promotion as make
from tests.factories.brands import committed_brand
from tests.factories.promotion import SIGNER
from tests.factories.settlement import Parties
from tests.factories.shared_order import Paid, deliver, everybody, paid_o1, record
from tests.fixtures.http import Served, serving

LINES = """{ commissions(first: 10) { edges { node { id status } } } }"""
HOLD = """mutation ($line: ID!) { commissionHoldOpen(input: {commissionLineId: $line, reason: "odd"}) {
  userErrors { code } } }"""
HOLDS = """{ commissionHolds(first: 10) { edges { node { id status held { amount } } } } }"""
UPHOLD = """mutation ($id: ID!) { commissionHoldUphold(input: {id: $id, reason: "no reader"}) {
  commissionLineIds deniedMinor tooLate userErrors { code } } }"""
RELEASE = """mutation ($id: ID!) { commissionHoldRelease(input: {id: $id, reason: "a reader"}) {
  userErrors { code } } }"""


@dataclass(frozen=True, slots=True)
class Railed:
    """An order whose commission is on record and whose money lies on the rail."""

    paid: Paid
    served: Served
    token: str

    async def ask(self, document: str, **variables: Any) -> Any:
        answer = await self.served.brand(document, variables, token=self.token)
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value

    async def one(self, document: str) -> dict[str, Any]:
        (edge,) = (await self.ask(document))["edges"]
        node: dict[str, Any] = edge["node"]
        return node

    async def hold(self) -> str:
        """By the advertiser's hand; the hold."""
        line = (await self.one(LINES))["id"]
        assert (await self.ask(HOLD, line=line))["userErrors"] == []
        return str((await self.one(HOLDS))["id"])

    @property
    def without_promoters(self) -> dict[str, int]:
        theirs = {str(self.paid.parties.promoter_brand), str(self.paid.parties.individual)}
        return {payee: amount for payee, amount in everybody(self.paid).items() if payee not in theirs}


@pytest.fixture
async def railed(db: Database, paysim: Any, rail: ProfitSharing) -> AsyncIterator[Railed]:
    clock = paysim.clock
    merchant, token = await committed_brand(db, clock, name="Cream 霜")
    promoter, _ = await committed_brand(db, clock, name="Club 会")
    paid = await paid_o1(
        db, paysim, rail, parties=Parties(merchant=merchant.brand_id, promoter_brand=promoter.brand_id)
    )
    await record(paid)
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, merchant, promoter, clock)
        touch = await make.click(session, await make.link(session, market, clock), clock.now())
        line = LineForAttribution(
            paid.order.lines[0].order_line_id, ProductId.new(), "sku", "beauty", 2, 10_000
        )
        sold = OrderForAttribution(
            paid.order_id, merchant.brand_id, "CNY", clock.now() + timedelta(minutes=5), [line], touch_tokens=[touch],
            paid_at=clock.now() + timedelta(minutes=6),
        )  # fmt: skip
        await promoting.attribute(session, sold, signer=SIGNER, clock=clock)
    async with serving(db, clock) as served:
        yield Railed(paid, served, token)


async def test_a_hold_on_the_rail_cannot_be_upheld_and_stays(railed: Railed) -> None:
    assert await deliver(railed.paid)
    hold = await railed.hold()
    await railed.paid.sweep(days=17)

    refused = await railed.ask(UPHOLD, id=hold)

    assert refused["userErrors"] == [{"code": "COMMISSION_ON_RAIL"}]
    assert (await railed.one(HOLDS))["status"] == "OPEN"
    assert (await railed.one(LINES))["status"] == "PENDING"
    await railed.paid.sweep()
    assert await railed.paid.paid() == railed.without_promoters

    assert (await railed.ask(RELEASE, id=hold))["userErrors"] == []
    await railed.paid.sweep()
    assert await railed.paid.paid() == everybody(railed.paid)


async def test_nor_one_that_was_laid_after_the_rail_had_paid_everybody(railed: Railed) -> None:
    assert await deliver(railed.paid)
    await railed.paid.sweep(days=17)
    assert await railed.paid.paid() == everybody(railed.paid)
    hold = await railed.hold()
    memo = await railed.paid.memo()

    refused = await railed.ask(UPHOLD, id=hold)

    assert refused["userErrors"] == [{"code": "COMMISSION_ON_RAIL"}]
    assert (await railed.one(LINES))["status"] == "PENDING"
    assert await railed.paid.memo() == memo
    assert await railed.paid.paid() == everybody(railed.paid)
