"""The review queue and disputes as brands meet them: over HTTP, each with its own token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.clock import FixedClock
from infra.db.session import Database
from infra.embedded.postgres import APPLICATION
from tests.conftest import TestDatabase
from tests.factories.filled_market import token_of
from tests.factories.fraud import Scene, scene

QUEUE = """{ commissionHolds(first: 10) { edges { node { id commissionLineId reason status clearsAt held { amount }
  signal { id rule action evidence threshold holds { id } excludedClicks } } } } }"""
DISMISS = """mutation ($id: ID!) { fraudSignalDismiss(input: {id: $id, reason: "a fast friend"}) {
  commissionLineIds userErrors { code } } }"""
UPHOLD = """mutation ($id: ID!) { commissionHoldUphold(input: {id: $id, reason: "no reader"}) {
  deniedMinor tooLate userErrors { code } } }"""
OPEN = """mutation ($line: ID!) { commissionDisputeOpen(input: {subject: INVALID, commissionLineId: $line,
  reason: "my readers"}) { dispute { id status dueAt claimed { minorUnits } } userErrors { code field } } }"""
ANSWER = """mutation ($id: ID!) { commissionDisputeAnswer(input: {id: $id, accept: true, reply: "right"}) {
  dispute { status granted { amount } } userErrors { code } } }"""


class Brands:
    """The advertiser's and the promoter's tokens, and a stranger's."""

    def __init__(self, at: Scene, tokens: list[str]) -> None:
        self.at = at
        self.merchant, self.promoter, self.stranger = tokens

    async def ask(self, token: str, document: str, **variables: Any) -> Any:
        answer = await self.at.served.brand(document, variables, token=token)
        assert "errors" not in answer, answer
        (value,) = answer["data"].values()
        return value

    async def queue(self, token: str) -> list[dict[str, Any]]:
        return [edge["node"] for edge in (await self.ask(token, QUEUE))["edges"]]


@pytest.fixture
async def brands(
    db: Database, clock: FixedClock, postgres: TestDatabase, tmp_path: Path
) -> AsyncIterator[Brands]:
    async with scene(db, clock, postgres.url(APPLICATION), tmp_path) as at:
        actors = (at.shop.promotion.merchant, at.shop.promotion.promoter, at.rival.promoter)
        tokens = [await token_of(db, clock, actor) for actor in actors]
        await at.buy(await at.visit(at.suspect), browse=timedelta(seconds=1), pay_after=timedelta(seconds=5))
        yield Brands(at, tokens)


async def test_both_brands_read_the_evidence_and_the_advertiser_dismisses(brands: Brands) -> None:
    (node,) = await brands.queue(brands.merchant)
    assert (node["reason"], node["status"], node["held"]) == (
        "TIME_TO_ORDER_SHORT",
        "OPEN",
        {"amount": "8.85"},
    )
    assert node["signal"]["evidence"] == {"seconds": 6.0}
    assert node["signal"]["threshold"] == {"seconds": 10}
    assert (node["signal"]["holds"], node["signal"]["excludedClicks"]) == ([{"id": node["id"]}], 0)
    assert await brands.queue(brands.promoter) == [node]
    assert await brands.queue(brands.stranger) == []

    signal = node["signal"]["id"]
    for token in (brands.promoter, brands.stranger):
        refused = await brands.ask(token, DISMISS, id=signal)
        assert refused["userErrors"] == [{"code": "FRAUD_SIGNAL_NOT_FOUND"}]
    done = await brands.ask(brands.merchant, DISMISS, id=signal)
    assert done == {"commissionLineIds": [node["commissionLineId"]], "userErrors": []}
    assert await brands.queue(brands.merchant) == []
    again = await brands.ask(brands.merchant, DISMISS, id=signal)
    assert again["userErrors"] == [{"code": "FRAUD_ALREADY_DECIDED"}]


async def test_upheld_disputed_and_accepted(brands: Brands) -> None:
    (node,) = await brands.queue(brands.merchant)
    upheld = await brands.ask(brands.merchant, UPHOLD, id=node["id"])
    assert upheld == {"deniedMinor": 885, "tooLate": [], "userErrors": []}

    line = node["commissionLineId"]
    stranger = await brands.ask(brands.stranger, OPEN, line=line)
    assert stranger == {
        "dispute": None,
        "userErrors": [{"code": "NOTHING_TO_DISPUTE", "field": ["commissionLineId"]}],
    }
    opened = (await brands.ask(brands.promoter, OPEN, line=line))["dispute"]
    assert (opened["status"], opened["claimed"]) == ("OPEN", {"minorUnits": "0"})
    wrong = await brands.ask(brands.promoter, ANSWER, id=opened["id"])
    assert wrong["userErrors"] == [{"code": "COMMISSION_DISPUTE_MOVED"}]
    ended = await brands.ask(brands.merchant, ANSWER, id=opened["id"])
    assert ended == {"dispute": {"status": "UPHELD", "granted": {"amount": "8.85"}}, "userErrors": []}
