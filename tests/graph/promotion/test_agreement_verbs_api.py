"""What either brand can do with an invitation and an agreement besides signing them: over HTTP, each with its token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from core.clock import FixedClock
from infra.db.session import Database
from tests.factories.brands import committed_brand
from tests.fixtures.http import Served, serving

INVITE = """mutation ($input: InvitationSendInput!) { invitationSend(input: $input) {
  invitation { id status } userErrors { code } } }"""
ACCEPT = """mutation ($input: InvitationAnswerInput!) { invitationAccept(input: $input) {
  contentHash agreement { id } userErrors { code } } }"""
SIGN = """mutation ($input: AgreementSignInput!) { agreementSign(input: $input) {
  agreement { id status currentVersion } userErrors { code } } }"""
ANSWERS = """mutation ($input: InvitationAnswerInput!) { %s(input: $input) {
  invitation { status } userErrors { code } } }"""
VERBS = """mutation ($input: %s!) { %s(input: $input) {
  contentHash agreement { status endedBy endReason currentVersion inForce { version terms { rules { ratePpm } } }
    waiting { version effectiveAt } } userErrors { code } } }"""


@dataclass(frozen=True, slots=True)
class Two:
    served: Served
    merchant: str
    promoter: str
    merchant_id: str
    promoter_id: str

    async def do(self, token: str, document: str, **given: Any) -> dict[str, Any]:
        answer = await self.served.brand(document, {"input": given}, token=token)
        assert "errors" not in answer, answer
        (payload,) = answer["data"].values()
        return dict(payload)

    async def verb(self, token: str, name: str, **given: Any) -> dict[str, Any]:
        inputs = {
            "agreementResume": "AgreementInput",
            "agreementProposeVersion": "AgreementProposeVersionInput",
        }
        return await self.do(token, VERBS % (inputs.get(name, "AgreementReasonInput"), name), **given)

    async def invited(self) -> str:
        sent = await self.do(
            self.merchant, INVITE, advertiserId=self.merchant_id, promoterBrandId=self.promoter_id,
            terms={"rules": [{"ratePpm": 100_000}]},
        )  # fmt: skip
        return str(sent["invitation"]["id"])

    async def signed(self) -> str:
        opened = await self.do(self.promoter, ACCEPT, id=await self.invited())
        return await self.sign(opened["agreement"]["id"], opened["contentHash"])

    async def sign(self, agreement: str, content_hash: str) -> str:
        for token in (self.merchant, self.promoter):
            signed = await self.do(token, SIGN, id=agreement, contentHash=content_hash)
            assert signed["userErrors"] == []
        return agreement


@pytest.fixture
async def two(db: Database, clock: FixedClock) -> AsyncIterator[Two]:
    merchant, merchant_token = await committed_brand(db, clock, name="Orchid Lab")
    promoter, promoter_token = await committed_brand(db, clock, name="Morning Club")
    async with serving(db, clock) as served:
        yield Two(served, merchant_token, promoter_token, str(merchant.brand_id), str(promoter.brand_id))


async def test_an_invitation_is_declined_by_whom_it_is_sent_to_and_withdrawn_by_its_sender(two: Two) -> None:
    for verb, theirs, others, status in (
        ("invitationDecline", two.promoter, two.merchant, "DECLINED"),
        ("invitationWithdraw", two.merchant, two.promoter, "WITHDRAWN"),
    ):
        invitation = await two.invited()
        wrong = await two.do(others, ANSWERS % verb, id=invitation)
        assert wrong["userErrors"] == [{"code": "NOT_YOURS_TO_ANSWER"}]
        ended = await two.do(theirs, ANSWERS % verb, id=invitation)
        assert ended == {"invitation": {"status": status}, "userErrors": []}
        late = await two.do(two.promoter, ACCEPT, id=invitation)
        assert late["userErrors"] == [{"code": "INVITATION_NOT_OPEN"}]


async def test_an_agreement_is_paused_and_resumed_by_the_brand_that_paused_it(two: Two) -> None:
    agreement = await two.signed()
    paused = await two.verb(two.promoter, "agreementPause", id=agreement, reason="moving house")
    assert (paused["agreement"]["status"], paused["userErrors"]) == ("PAUSED", [])
    wrong = await two.verb(two.merchant, "agreementResume", id=agreement)
    assert wrong["userErrors"] == [{"code": "PAUSED_BY_THE_OTHER"}]
    resumed = await two.verb(two.promoter, "agreementResume", id=agreement)
    assert (resumed["agreement"]["status"], resumed["userErrors"]) == ("ACTIVE", [])

    history = "query ($id: ID!) { agreement(id: $id) { statusHistory { status reason by } } }"
    for reader in (two.merchant, two.promoter):
        found = (await two.served.brand(history, {"id": agreement}, token=reader))["data"]["agreement"]
        assert found["statusHistory"][-2:] == [
            {"status": "PAUSED", "reason": "moving house", "by": two.promoter_id},
            {"status": "ACTIVE", "reason": "resumed", "by": two.promoter_id},
        ]


async def test_a_breach_ends_it_at_once_and_names_its_cause(two: Two) -> None:
    agreement = await two.signed()
    silent = await two.verb(two.merchant, "agreementTerminate", id=agreement, reason=" ")
    assert len(silent["userErrors"]) == 1
    ended = await two.verb(two.merchant, "agreementTerminate", id=agreement, reason="bought clicks")
    found = {name: ended["agreement"][name] for name in ("status", "endedBy", "endReason")}
    assert found == {"status": "TERMINATED", "endedBy": two.merchant_id, "endReason": "bought clicks"}


async def test_another_rate_is_in_force_seven_days_after_it_was_proposed_and_signed(
    two: Two, clock: FixedClock
) -> None:
    agreement = await two.signed()
    begun = clock.now()
    terms = {"rules": [{"ratePpm": 50_000}]}
    early = (begun + timedelta(days=7, seconds=-1)).isoformat()
    hasty = await two.verb(
        two.merchant, "agreementProposeVersion", id=agreement, terms=terms, effectiveAt=early
    )
    assert hasty["userErrors"] == [{"code": "NOTICE_TOO_SHORT"}]
    proposed = await two.verb(two.merchant, "agreementProposeVersion", id=agreement, terms=terms)
    assert proposed["agreement"]["waiting"]["version"] == 2
    await two.sign(agreement, proposed["contentHash"])

    for at, version, rate in ((timedelta(days=7, seconds=-1), 1, 100_000), (timedelta(days=7), 2, 50_000)):
        clock.at = begun + at
        found = await two.served.brand(_IN_FORCE, {"id": agreement}, token=two.promoter)
        assert found["data"]["agreement"]["inForce"] == {
            "version": version, "terms": {"rules": [{"ratePpm": rate}]},
        }  # fmt: skip


_IN_FORCE = "query ($id: ID!) { agreement(id: $id) { inForce { version terms { rules { ratePpm } } } } }"
