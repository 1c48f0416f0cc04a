"""The review queue and disputes as brands meet them: over HTTP, each with its own token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from infra.embedded.postgres import APPLICATION
from marketplace.brands.models import TenantKind
from tests.conftest import TestDatabase
from tests.factories.brands import signed_up
from tests.factories.filled_market import token_of
from tests.factories.fraud import Scene, scene
from tests.fixtures.http import codes_of

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
SIGNALS = (
    """{ fraudSignals(first: 10, rule: TIME_TO_ORDER_SHORT) { edges { node { id ruleVersion status } } } }"""
)
SIGNAL = """query ($id: ID!) { fraudSignal(id: $id) { status decision orderId holds { status } } }"""
UPHOLD_SIGNAL = """mutation ($id: ID!) { fraudSignalUphold(input: {id: $id, reason: "no reader"}) {
  commissionLineIds deniedMinor tooLate userErrors { code } } }"""
LINES = """{ commissions(first: 10) { edges { node { id status invalidReason } } } }"""
OPEN_ON_HOLD = """mutation ($hold: ID!) { commissionDisputeOpen(input: {subject: HOLD, holdId: $hold,
  reason: "a friend"}) { dispute { id status } userErrors { code } } }"""
REPLY = """mutation ($id: ID!) { commissionDisputeAnswer(input: {id: $id, accept: false, reply: "too fast"}) {
  dispute { status reply } userErrors { code } } }"""
STAND = """mutation ($id: ID!) { commissionDisputeAcceptReply(input: {id: $id}) {
  dispute { status } userErrors { code } } }"""
ESCALATE = """mutation ($id: ID!) { commissionDisputeEscalate(input: {id: $id, escalation: "ask them"}) {
  dispute { status } userErrors { code } } }"""
RULE = """mutation ($id: ID!) { commissionDisputeRule(input: {id: $id, uphold: true, ruling: "she is real"}) {
  dispute { status ruling granted { amount } } userErrors { code } } }"""
DISPUTES = """{ commissionDisputes(first: 10) { edges { node { id subject status } } } }"""


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


async def test_a_signal_is_listed_and_upheld_and_the_promoter_reads_why(brands: Brands) -> None:
    (edge,) = (await brands.ask(brands.merchant, SIGNALS))["edges"]
    signal = edge["node"]
    assert (signal["status"], bool(signal["ruleVersion"])) == ("OPEN", True)
    assert (await brands.ask(brands.promoter, SIGNALS))["edges"] == [edge]
    assert (await brands.ask(brands.stranger, SIGNALS))["edges"] == []
    for token in (brands.promoter, brands.stranger):
        refused = await brands.ask(token, UPHOLD_SIGNAL, id=signal["id"])
        assert refused["userErrors"] == [{"code": "FRAUD_SIGNAL_NOT_FOUND"}]

    upheld = await brands.ask(brands.merchant, UPHOLD_SIGNAL, id=signal["id"])

    assert (upheld["deniedMinor"], upheld["tooLate"], upheld["userErrors"]) == (885, [], [])
    told = await brands.ask(brands.promoter, SIGNAL, id=signal["id"])
    assert (told["status"], told["decision"], told["holds"]) == (
        "UPHELD",
        "no reader",
        [{"status": "UPHELD"}],
    )
    (line,) = (await brands.ask(brands.promoter, LINES))["edges"]
    assert line["node"] == {
        "id": upheld["commissionLineIds"][0], "status": "INVALID", "invalidReason": "TIME_TO_ORDER_SHORT",
    }  # fmt: skip


async def test_a_reply_that_the_opener_lets_stand_ends_it(brands: Brands) -> None:
    (node,) = await brands.queue(brands.promoter)
    opened = await brands.ask(brands.promoter, OPEN_ON_HOLD, hold=node["id"])
    dispute = opened["dispute"]["id"]
    replied = await brands.ask(brands.merchant, REPLY, id=dispute)
    assert replied["dispute"] == {"status": "ADVERTISER_REPLY", "reply": "too fast"}
    not_theirs = await brands.ask(brands.merchant, STAND, id=dispute)
    assert not_theirs["userErrors"] == [{"code": "COMMISSION_DISPUTE_MOVED"}]

    ended = await brands.ask(brands.promoter, STAND, id=dispute)

    assert ended == {"dispute": {"status": "REJECTED"}, "userErrors": []}
    # The hold lies as it lay, and a fact is disputed once.
    assert await brands.queue(brands.merchant) == [node]
    again = await brands.ask(brands.promoter, OPEN_ON_HOLD, hold=node["id"])
    assert again["userErrors"] == [{"code": "COMMISSION_ALREADY_DISPUTED"}]


async def test_escalated_an_operator_rules_and_both_brands_read_it(brands: Brands) -> None:
    (node,) = await brands.queue(brands.merchant)
    await brands.ask(brands.merchant, UPHOLD, id=node["id"])
    opened = await brands.ask(brands.promoter, OPEN, line=node["commissionLineId"])
    dispute = opened["dispute"]["id"]
    await brands.ask(brands.merchant, REPLY, id=dispute)
    escalated = await brands.ask(brands.promoter, ESCALATE, id=dispute)
    assert escalated == {"dispute": {"status": "ESCALATED"}, "userErrors": []}
    async with brands.at.db.unit_of_work(SYSTEM) as session:
        operator = await signed_up(session, brands.at.clock, TenantKind.PLATFORM, name="Lianyu")
    for token in (brands.merchant, brands.promoter):
        refused = await brands.at.served.brand(RULE, {"id": dispute}, token=token)
        assert codes_of(refused) == ["MISSING_SCOPE"]

    ruled = await brands.ask(operator.token, RULE, id=dispute)

    assert ruled["dispute"] == {"status": "RULED", "ruling": "she is real", "granted": {"amount": "8.85"}}
    listed = [{"node": {"id": dispute, "subject": "INVALID", "status": "RULED"}}]
    for token in (brands.merchant, brands.promoter):
        assert (await brands.ask(token, DISPUTES))["edges"] == listed
    assert (await brands.ask(brands.stranger, DISPUTES))["edges"] == []
    (line,) = (await brands.ask(brands.merchant, LINES))["edges"]
    assert (line["node"]["status"], line["node"]["invalidReason"]) == ("PENDING", None)
