"""Holdouts and simulations through the brand API: HTTP, tokens, the real application, and the worker's part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from marketplace.insights import measuring
from tests.factories import audiences as people
from tests.factories import orders
from tests.factories import promotion as make
from tests.factories.filled_market import token_of
from tests.fixtures.http import Served, codes_of, serving
from tests.fixtures.statements import statements_of

START = """mutation ($input: HoldoutStartInput!) { holdoutStart(input: $input) { holdout { id sharePpm setByMe endedAt }
  userErrors { code field } } }"""
END = """mutation ($input: HoldoutEndInput!) { holdoutEnd(input: $input) { holdout { endedAt }
  userErrors { code } } }"""
HOLDOUTS = """{ holdouts(first: 10) { nodes { id sharePpm setByMe community { name } agreement { id }
  result { membersShown membersHeldOut buyersShown buyersHeldOut orders { total significant }
  revenue { total { amount } } profit { total { amount } } attributed { orders } } } } }"""
AUDIENCE = """query ($p: ID!, $a: ID!, $after: String) { placementAudience(placementId: $p, agreementId: $a, first: 20,
  after: $after) { totalCount nodes pageInfo { hasNextPage endCursor } } }"""
PROPOSE = """mutation ($input: ProductsProposeInput!) { productsPropose(input: $input) {
  proposals { heldOutPpm } userErrors { code } } }"""
SIMULATE = """mutation ($input: OfferSimulateInput!) { offerSimulate(input: $input) {
  simulation { id status progressPpm ordersTotal } userErrors { code field } } }"""
SIMULATION = """query ($id: ID!) { offerSimulation(id: $id) { status progressPpm ordersDone ordersChanged
  costs { before { amount } after { amount } change { amount } }
  payees(first: 5, sort: LOSS) { nodes { role payee change { amount } promoterBrand { name } } } } }"""


@pytest.fixture
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


async def _ask(served: Served, token: str, document: str, **variables: Any) -> dict[str, Any]:
    answer = await served.brand(document, variables, token=token)
    assert "errors" not in answer, answer
    [found] = answer["data"].values()
    return dict(found)


async def test_a_holdout_is_set_listed_and_measured_and_the_slot_shows_to_the_others(
    served: Served, db: Database, clock: FixedClock
) -> None:
    shop = await orders.open_shop(db, clock)
    market = shop.promotion
    async with db.unit_of_work(SYSTEM) as session:
        members = await people.members(
            session, market.promoter, clock, market.community_id, [people.person() for _ in range(60)]
        )
    merchant, promoter = [await token_of(db, clock, actor) for actor in (market.merchant, market.promoter)]
    wanted = {
        "communityId": str(market.community_id),
        "agreementId": str(market.agreement_id),
        "sharePpm": 500_000,
    }
    made = await _ask(served, merchant, START, input=wanted)
    assert (made["holdout"]["setByMe"], made["userErrors"]) == (True, [])
    again = await _ask(served, promoter, START, input=wanted)
    assert codes_of({"data": again}) == ["HOLDOUT_RUNNING"]

    place = {"p": str(market.placement_id), "a": str(market.agreement_id)}
    seen: list[str] = []
    after = None
    while True:
        page = await _ask(served, promoter, AUDIENCE, **place, after=after)
        seen += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert 10 < len(seen) == len(set(seen)) == page["totalCount"] < 50
    assert set(seen) < {str(member) for member in members}
    refused = await served.brand(AUDIENCE, place, token=merchant)
    assert codes_of(refused) == ["PLACEMENT_NOT_FOUND"]
    proposed = await _ask(served, promoter, PROPOSE, input={"communityId": str(market.community_id)})
    assert [each["heldOutPpm"] for each in proposed["proposals"]] == [500_000]

    clock.advance(timedelta(days=1))
    await measuring.measure_due(db, clock=clock, settings=served.gateways.settings)
    for token, mine in ((merchant, True), (promoter, False)):
        await _ask(served, token, HOLDOUTS)  # a day later the token is looked up once more
        with statements_of(db) as statements:
            [node] = (await _ask(served, token, HOLDOUTS))["nodes"]
        # Who asks, the page, communities, agreements, results.
        assert len(statements) <= 5
        assert (node["id"], node["setByMe"]) == (made["holdout"]["id"], mine)
        assert node["result"]["membersShown"] == len(seen)
        assert node["result"]["membersHeldOut"] == 60 - len(seen)
        assert (node["result"]["orders"], node["result"]["revenue"]) == (None, [])
    refused = await _ask(served, promoter, END, input={"id": made["holdout"]["id"]})
    assert codes_of({"data": refused}) == ["HOLDOUT_NOT_FOUND"]
    done = await _ask(served, merchant, END, input={"id": made["holdout"]["id"]})
    assert done["holdout"]["endedAt"] is not None


async def test_a_simulation_is_asked_for_run_by_the_worker_and_read(
    served: Served, db: Database, clock: FixedClock
) -> None:
    """An order of ¥100.00 with 13 % inside, so a basis of 88.50: 8.85 at 10 %, 4.43 at 5 % (half a cent up)."""
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        token = await make.click(session, await make.link(session, shop.promotion, clock), clock.now())
    clock.advance(timedelta(minutes=5))
    await orders.paid_order(db, shop, clock, tokens=[token])
    merchant, promoter = [
        await token_of(db, clock, actor) for actor in (shop.promotion.merchant, shop.promotion.promoter)
    ]
    wanted = {
        "from": "2026-03-01T00:00:00Z", "to": "2026-04-01T00:00:00Z", "terms": {"rules": [{"ratePpm": 50_000}]},
    }  # fmt: skip
    made = await _ask(served, merchant, SIMULATE, input=wanted)
    assert (made["simulation"]["status"], made["simulation"]["ordersTotal"]) == ("QUEUED", 1)
    await served.work()
    id = made["simulation"]["id"]
    with statements_of(db) as statements:
        found = await _ask(served, merchant, SIMULATION, id=id)
    assert len(statements) <= 5
    assert (found["status"], found["progressPpm"], found["ordersDone"], found["ordersChanged"]) == (
        "DONE", 1_000_000, 1, 0,
    )  # fmt: skip
    assert [tuple(each["amount"] for each in cost.values()) for cost in found["costs"]] == [
        ("8.85", "4.43", "-4.42")
    ]
    loser = found["payees"]["nodes"][0]
    assert (loser["role"], loser["payee"]) == ("PROMOTER_BRAND", str(shop.promotion.promoter.brand_id))
    assert loser["promoterBrand"]["name"] == "Club 会"
    refused = await served.brand(SIMULATION, {"id": id}, token=promoter)
    assert codes_of(refused) == ["SIMULATION_NOT_FOUND"]
    bad = await _ask(served, merchant, SIMULATE, input={**wanted, "terms": None})
    assert codes_of({"data": bad}) == ["BAD_SIMULATION"]
