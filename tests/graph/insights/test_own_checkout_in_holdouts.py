"""A holdout of a brand with a checkout of its own: told by its shop over HTTP, measured by the worker, read by GraphQL.

Of 300 members about 120 are held out. Twenty of those shown buy the worked order (103.88), ten of those held out; half
of them are known by their phone number alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from marketplace.audiences.identity import IdentifierKind
from marketplace.audiences.service import NewMember
from marketplace.insights import counting, measuring, told_buyers
from tests.factories import audiences as people
from tests.factories.own_checkout import OwnShop, clicked, own_shop, secret_of, signed
from tests.fixtures.http import Served, serving

START = """mutation ($input: HoldoutStartInput!) { holdoutStart(input: $input) { holdout { id }
  userErrors { code } } }"""
END = """mutation ($input: HoldoutEndInput!) { holdoutEnd(input: $input) { userErrors { code } } }"""
RESULT = """{ holdouts(first: 1) { nodes { result { buyersShown buyersHeldOut membersShown membersHeldOut comparablePpm
  orders { total } revenue { total { amount } } profit { total { amount } } } } } }"""
BESIDE = """query ($by: PerformanceDimension!) { performance(groupBy: $by, from: "2026-03-01", to: "2026-03-31") {
  groups { nodes { figures { orders } holdouts { id result { buyersShown buyersHeldOut } } } } } }"""
BUYERS = {"buyersShown": 19, "buyersHeldOut": 10}
AUDIENCE = """query ($p: ID!, $a: ID!, $after: String) { placementAudience(placementId: $p, agreementId: $a,
  first: 100, after: $after) { nodes pageInfo { hasNextPage endCursor } } }"""
_KEPT = text("SELECT count(*) FROM told_buyers")


@dataclass(frozen=True, slots=True)
class Experiment:
    served: Served
    db: Database
    clock: FixedClock
    shop: OwnShop
    secret: str
    shown: Sequence[dict[str, str]]
    """What the shop knows of each member who is shown, and below of each who is held out."""
    held_out: Sequence[dict[str, str]]
    holdout: str

    async def tell(self, buyers: Sequence[dict[str, str]], **other: Any) -> list[str]:
        """One worked order each, paid; the references."""
        now = self.clock.now().isoformat()
        start = (await self._told()) + 1
        rows = [
            {
                "reference": f"R{number}",
                "order": {
                    "placed_at": now, "currency": "CNY", "total_minor": 10_388, "shipping_minor": 848,
                    "lines": [
                        {
                            "reference": "1", "sku": self.shop.product.skus[0], "quantity": 2,
                            "unit_price_minor": 5_000, "tax_minor": 540, "tax_rate_ppm": 60_000, "tax_included": False,
                        }
                    ],
                    "discounts": [{"amount_minor": 1_000, "funder": "advertiser"}], "buyer": buyer, **other,
                },
                "events": [{"id": f"paid-{number}", "type": "paid", "at": now}],
            }
            for number, buyer in enumerate(buyers, start)
        ]  # fmt: skip
        await self.post({"orders": rows}, id=f"m-{start}")
        return [str(row["reference"]) for row in rows]

    async def post(self, body: dict[str, Any], *, id: str) -> None:
        raw, headers = signed(self.shop, self.clock, self.secret, body, id=id)
        answer = await self.served.api.post("/intake/v1/orders", content=raw, headers=headers)
        assert {row["result"] for row in answer.json()["rows"]} == {"recorded"}, answer.text
        await self.served.work()

    async def result(self, token: str) -> dict[str, Any]:
        self.clock.advance(timedelta(hours=2))
        while await measuring.measure_due(self.db, clock=self.clock, settings=self.served.gateways.settings):
            pass
        (node,) = (await self.ask(token, RESULT))["nodes"]
        found: dict[str, Any] = node["result"]
        return found

    async def ask(self, token: str, document: str, **variables: Any) -> Any:
        answer = await self.served.brand(document, variables, token=token)
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value

    async def kept(self) -> int:
        async with self.db.reading(SYSTEM) as session:
            return int((await session.execute(_KEPT)).scalar_one())

    async def _told(self) -> int:
        async with self.db.reading(SYSTEM) as session:
            return int((await session.execute(text("SELECT count(*) FROM told_orders"))).scalar_one())


def _buyer(number: int) -> dict[str, str]:
    return {"phone": f"138{number:08d}"} if number % 2 else {"email": f"member{number}@example.com"}


async def _shown(served: Served, shop: OwnShop) -> set[str]:
    place = {"p": str(shop.market.placement_id), "a": str(shop.market.agreement_id)}
    found: set[str] = set()
    after = None
    while True:
        answer = await served.brand(AUDIENCE, {**place, "after": after}, token=shop.promoter_token)
        page = answer["data"]["placementAudience"]
        found |= set(page["nodes"])
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


@pytest.fixture
async def experiment(db: Database, clock: FixedClock) -> AsyncIterator[Experiment]:
    shop = await own_shop(db, clock)
    known = [_buyer(number) for number in range(300)]
    kinds = {"email": IdentifierKind.EMAIL, "phone": IdentifierKind.PHONE}
    wanted = [NewMember([(kinds[kind], value) for kind, value in each.items()], tags=()) for each in known]
    async with db.unit_of_work(SYSTEM) as session:
        joined = await people.members(session, shop.market.promoter, clock, shop.market.community_id, wanted)
    clock.advance(timedelta(days=1))
    async with serving(db, clock) as served:
        start = {
            "communityId": str(shop.market.community_id), "agreementId": str(shop.market.agreement_id),
            "sharePpm": 500_000,  # half of 300, whatever their ids: never so few that nothing is told
        }  # fmt: skip
        made = (await served.brand(START, {"input": start}, token=shop.merchant_token))["data"][
            "holdoutStart"
        ]
        assert made["userErrors"] == []
        seen = await _shown(served, shop)
        arms: dict[bool, list[dict[str, str]]] = {True: [], False: []}
        for contact, buyer in zip(joined, known, strict=True):
            arms[str(contact) in seen].append(buyer)
        secret = await secret_of(db, clock, shop)
        clock.advance(timedelta(days=1))
        yield Experiment(
            served, db, clock, shop, secret, arms[True], arms[False], made["holdout"]["id"]
        )  # fmt: skip


async def test_buyers_in_a_checkout_of_its_own_count_in_their_arms(experiment: Experiment) -> None:
    """Without a click nobody earns a commission: what the orders left the brand is all that was paid and kept.

    Total = (mean of the shown - mean of the held out) x the number shown.
    """
    shown, held_out = len(experiment.shown), len(experiment.held_out)
    await experiment.tell([*experiment.shown[:20], *experiment.held_out[:10]])
    # One of the shown gives all of it back; a stranger bought too, and somebody whom the shop names in its own way.
    refund = {"id": "back-1", "type": "cancelled", "at": experiment.clock.now().isoformat()}
    await experiment.post({"orders": [{"reference": "R1", "events": [refund]}]}, id="m-back")
    await experiment.tell([{"email": "stranger@example.com"}])
    # That a click sold it says nothing of who the buyer is among the members.
    token = await clicked(experiment.db, experiment.clock, experiment.shop)
    await experiment.tell([{"customer_id": "c-1"}], touches=[token])

    found = await experiment.result(experiment.shop.merchant_token)

    assert (found["membersShown"], found["membersHeldOut"]) == (shown, held_out)
    assert (found["buyersShown"], found["buyersHeldOut"]) == (19, 10)
    # 31 of the 32 orders said who bought: 96.875 %.
    assert found["comparablePpm"] == 960_000
    rate = 19 / shown - 10 / held_out
    assert found["orders"]["total"] == pytest.approx(shown * rate)
    for metric in ("revenue", "profit"):
        (money,) = found[metric]
        assert float(money["total"]["amount"]) == pytest.approx(103.88 * shown * rate, abs=0.01)
    assert (await experiment.result(experiment.shop.promoter_token))["comparablePpm"] == 960_000

    # Beside the figures of what is attributed, one order by the click.
    await counting.keep_performance(experiment.db, clock=experiment.clock)
    for dimension, told in (
        ("PARTNER", True), ("AGREEMENT", True), ("COMMUNITY", True), ("PLACEMENT", True), ("LINK", False),
    ):  # fmt: skip
        for token in (experiment.shop.merchant_token, experiment.shop.promoter_token):
            (group,) = (await experiment.ask(token, BESIDE, by=dimension))["groups"]["nodes"]
            assert group["figures"]["orders"] == 1
            assert group["holdouts"] == ([{"id": experiment.holdout, "result": BUYERS}] if told else [])


async def test_what_was_kept_of_buyers_goes_when_nothing_is_compared_any_more(experiment: Experiment) -> None:
    await experiment.tell([experiment.shown[0], {"customer_id": "c-1"}])
    assert await experiment.kept() == 1
    ended = await experiment.ask(experiment.shop.merchant_token, END, input={"id": experiment.holdout})
    assert ended["userErrors"] == []

    experiment.clock.advance(timedelta(days=45))
    assert await told_buyers.forget_buyers(experiment.db, clock=experiment.clock) == 0
    experiment.clock.advance(timedelta(seconds=1))
    assert await told_buyers.forget_buyers(experiment.db, clock=experiment.clock) == 1
    assert await experiment.kept() == 0

    # Nobody holds out any more: nothing is kept of the next.
    await experiment.tell([experiment.shown[1]])
    assert await experiment.kept() == 0
