"""Campaigns and offers through the brand API, as two brands who never met use it: HTTP, tokens, the application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import AgreementId, OrderId, OrderLineId, ProductId
from infra.db.session import Database
from marketplace.promotion import service
from marketplace.promotion.offers.models import OfferVisibility
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from tests.factories import audiences
from tests.factories import promotion as make
from tests.factories.brands import committed_brand
from tests.fixtures.http import Served, codes_of, serving
from tests.fixtures.statements import statements_of

ERRORS = "userErrors { code message field facts }"
BUDGET = "budget { limit { amount } reserved { amount } spent { amount } left { amount } mode }"
CAMPAIGN = f"id name status running endsAt budgetUsedUp {BUDGET}"
OFFER = """id status visibility advertiser { name } campaign { id name running budget { left { amount } } }
  current { version name contentHash terms { noticeDays fixedCapPpm checkoutTouchEarns allowSelfPurchase
    rules { ratePpm scope scopeId fixed { amount currencyCode } }
    sources { paidAllowed bannedHosts onBreach } disputes { openDays answerDays } } }
  draft { name contentHash terms { rules { ratePpm } } } versions { version }"""
INVITATION = """id status sentAt sentByMe offerVersion offer { id } campaign { id }
  terms { rules { ratePpm } }"""
AGREEMENT = """id status endsAt endedBy endReason offerVersion offer { id } campaign { id name }
  inForce { version offerVersion contentHash terms { rules { ratePpm } } } waiting { version contentHash }"""
PROFILE = f"""mutation ($input: PartnerProfileUpsertInput!) {{ partnerProfileUpsert(input: $input) {{
  profile {{ version }} {ERRORS} }} }}"""
FIND = f"""query ($filter: OfferFilterInput) {{ partnerOffers(filter: $filter, first: 20) {{
  totalCount nodes {{ {OFFER} }} pageInfo {{ hasNextPage endCursor }} }} }}"""


def mutation(name: str, kind: str, asked: str) -> str:
    return f"mutation ($input: {kind}!) {{ {name}(input: $input) {{ {asked} {ERRORS} }} }}"


CREATE = mutation("campaignCreate", "CampaignCreateInput", f"campaign {{ {CAMPAIGN} }}")
UPDATE = mutation("campaignUpdate", "CampaignUpdateInput", f"campaign {{ {CAMPAIGN} }}")
ACTIVATE = mutation("campaignActivate", "CampaignInput", f"campaign {{ {CAMPAIGN} }}")
PAUSE = mutation("campaignPause", "CampaignReasonInput", f"campaign {{ {CAMPAIGN} }}")
RESUME = mutation("campaignResume", "CampaignInput", f"campaign {{ {CAMPAIGN} }}")
END = mutation("campaignEnd", "CampaignReasonInput", f"campaign {{ {CAMPAIGN} }}")
NEW_OFFER = mutation("offerCreate", "OfferCreateInput", f"offer {{ {OFFER} }}")
CHANGE_OFFER = mutation("offerUpdate", "OfferUpdateInput", f"offer {{ {OFFER} }}")
PUBLISH = mutation("offerPublish", "OfferPublishInput", f"offer {{ {OFFER} }}")
RETIRE = mutation("offerRetire", "OfferInput", f"offer {{ {OFFER} }}")
APPLY = mutation("offerApply", "OfferApplyInput", f"invitation {{ {INVITATION} }}")
INVITE = mutation("offerInvite", "OfferInviteInput", f"invitation {{ {INVITATION} }}")
PROPOSE = mutation(
    "offerPropose",
    "OfferProposeInput",
    f"proposals {{ contentHash error {{ code }} agreement {{ {AGREEMENT} }} }}",
)
DRAFT = mutation("invitationDraft", "InvitationSendInput", f"invitation {{ {INVITATION} }}")
REDRAFT = mutation("invitationDraftUpdate", "InvitationDraftUpdateInput", f"invitation {{ {INVITATION} }}")
SEND = mutation("invitationDraftSend", "InvitationAnswerInput", f"invitation {{ {INVITATION} }}")
ACCEPT = mutation("invitationAccept", "InvitationAnswerInput", f"contentHash agreement {{ {AGREEMENT} }}")
SIGN = mutation("agreementSign", "AgreementSignInput", f"agreement {{ {AGREEMENT} }}")
END_AGREEMENT = mutation("agreementEnd", "AgreementReasonInput", f"agreement {{ {AGREEMENT} }}")
PROMOTER_SIDE = "query ($id: ID!) { campaign(id: $id) { status budgetUsedUp budget { left { amount } } } }"
YUAN = {"currencyCode": "CNY"}


class Client:
    """A brand with its token."""

    def __init__(self, served: Served, actor: Actor, token: str) -> None:
        self.served, self.actor, self.token = served, actor, token

    @property
    def id(self) -> str:
        return str(self.actor.brand_id)

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        return await self.served.brand(document, variables, token=self.token)

    async def do(self, document: str, **input: Any) -> dict[str, Any]:
        """What the document's one mutation gave; it must have been accepted."""
        answer = await self.ask(document, input=input)
        assert "errors" not in answer, answer
        [payload] = answer["data"].values()
        assert payload.pop("userErrors") == [], payload
        return dict(payload)

    async def refused(self, document: str, **input: Any) -> tuple[str, Any]:
        """The code and field of the one error."""
        answer = await self.ask(document, input=input)
        [error] = next(iter(answer["data"].values()))["userErrors"]
        return error["code"], error["field"]


@pytest.fixture
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


@pytest.fixture
async def brands(served: Served, db: Database, clock: FixedClock) -> tuple[Client, Client, Client]:
    """An advertiser and a promoter, both in the directory, and a stranger who is not."""
    made = []
    for name in ("Orchid Lab", "Morning Club", "Stranger"):
        actor, token = await committed_brand(db, clock, name=name)
        made.append(Client(served, actor, token))
    says = {"roles": ["ADVERTISER", "PROMOTER"], "categories": ["beauty/skin"], "regions": ["CN-SH"]}
    for client in made[:2]:
        await client.do(PROFILE, headline="soft skin", audienceBand="FROM_1K", **says)
    return made[0], made[1], made[2]


def terms(rate_ppm: int = 100_000, **more: Any) -> dict[str, Any]:
    return {"rules": [{"ratePpm": rate_ppm}], **more}


async def public_offer(merchant: Client, *, budget: str = "25.00", **given: Any) -> tuple[str, str]:
    """(campaign, offer): running, public, published."""
    made = await merchant.do(CREATE, name="spring", currencyCode="CNY", budget={"amount": budget, **YUAN})
    campaign = made["campaign"]["id"]
    await merchant.do(ACTIVATE, id=campaign)
    content = {"name": "Cream at ten per cent", "summary": "for dry skin", "terms": given or terms()}
    offer = (await merchant.do(NEW_OFFER, campaignId=campaign, content=content, visibility="PUBLIC"))["offer"]
    await merchant.do(PUBLISH, id=offer["id"], contentHash=offer["draft"]["contentHash"])
    return campaign, offer["id"]


async def agreed(merchant: Client, promoter: Client, offer: str) -> str:
    applied = (await promoter.do(APPLY, offerId=offer, message="we fit"))["invitation"]
    opened = await merchant.do(ACCEPT, id=applied["id"])
    for signer in (merchant, promoter):
        await signer.do(SIGN, id=opened["agreement"]["id"], contentHash=opened["contentHash"])
    return str(opened["agreement"]["id"])


async def test_two_brands_who_never_met_find_each_other_and_the_budget_is_kept(
    brands: tuple[Client, Client, Client], db: Database, clock: FixedClock
) -> None:
    merchant, promoter, _ = brands
    campaign, offer = await public_offer(merchant)

    wanted = {"category": "beauty", "region": "CN-SH", "rateAtLeastPpm": 100_000, "text": "cream"}
    found = (await promoter.ask(FIND, filter=wanted))["data"]["partnerOffers"]
    assert [(node["id"], node["advertiser"]["name"], node["draft"]) for node in found["nodes"]] == [
        (offer, "Orchid Lab", None)
    ]
    assert (found["totalCount"], found["nodes"][0]["campaign"]["budget"]) == (1, None)

    agreement = await agreed(merchant, promoter, offer)
    seen = await promoter.ask(f"query ($id: ID!) {{ agreement(id: $id) {{ {AGREEMENT} }} }}", id=agreement)
    told = seen["data"]["agreement"]
    assert (told["status"], told["campaign"]["id"], told["offer"]["id"], told["offerVersion"]) == (
        "ACTIVE", campaign, offer, 1,
    )  # fmt: skip
    assert told["inForce"]["offerVersion"] == 1

    earned = await sell(db, clock, merchant, promoter, agreement, [20_000, 10_000, 10_000])
    # 10 % of ¥200 and of ¥100 are ¥30, the budget ¥25: 2,000, then the 500 that are left, then nothing.
    assert earned == [2_000, 500, 0]
    mine = await merchant.ask(f"query ($id: ID!) {{ campaign(id: $id) {{ {CAMPAIGN} }} }}", id=campaign)
    kept = mine["data"]["campaign"]
    assert (kept["budgetUsedUp"], kept["budget"]) == (
        True,
        {
            "limit": {"amount": "25.00"}, "reserved": {"amount": "25.00"}, "spent": {"amount": "0.00"},
            "left": {"amount": "0.00"}, "mode": "TRUNCATE",
        },
    )  # fmt: skip
    theirs = (await promoter.ask(PROMOTER_SIDE, id=campaign))["data"]["campaign"]
    assert theirs == {"status": "ACTIVE", "budgetUsedUp": True, "budget": None}
    assert await merchant.refused(UPDATE, id=campaign, budget={"amount": "24.99", **YUAN}) == (
        "BUDGET_BELOW_COMMITTED", ["budget"],
    )  # fmt: skip
    raised = (await merchant.do(UPDATE, id=campaign, budget={"amount": "26.00", **YUAN}))["campaign"]
    assert (raised["budgetUsedUp"], raised["budget"]["left"]["amount"]) == (False, "1.00")


async def sell(
    db: Database, clock: FixedClock, merchant: Client, promoter: Client, agreement: str, bases: list[int]
) -> list[int]:
    """Commission of orders of one line each, through a link of the agreement."""
    async with db.unit_of_work(SYSTEM) as session:
        community = await audiences.community(session, promoter.actor, clock)
        placement = await audiences.placement(session, promoter.actor, clock, community)
        rows = await service.create_link(
            session, promoter.actor, agreement_id=AgreementId.parse(agreement), placement_id=placement,
            destination="https://shop.example.com/", policy=make.POLICY, clock=clock,
        )  # fmt: skip
        token = await make.click(session, rows, clock.now())
        earned = []
        for basis in bases:
            line = LineForAttribution(OrderLineId.new(), ProductId.new(), "s", "beauty/skin", 1, basis)
            order = OrderForAttribution(
                OrderId.new(), merchant.actor.brand_id, "CNY", clock.now(), [line], touch_tokens=[token],
                paid_at=clock.now(),
            )  # fmt: skip
            done = await service.attribute(session, order, signer=make.SIGNER, clock=clock)
            earned.append(sum(each.commission_minor for each in done.lines))
    return earned


async def test_a_new_version_reaches_an_agreement_only_when_both_signed_it(
    brands: tuple[Client, Client, Client], clock: FixedClock
) -> None:
    merchant, promoter, _ = brands
    _, offer = await public_offer(merchant)
    agreement = await agreed(merchant, promoter, offer)
    better = {"name": "Cream at twelve", "terms": terms(120_000)}
    draft = (await merchant.do(CHANGE_OFFER, id=offer, content=better))["offer"]
    assert (draft["current"]["version"], draft["draft"]["terms"]["rules"]) == (1, [{"ratePpm": 120_000}])
    assert await merchant.refused(PUBLISH, id=offer, contentHash="0" * 64) == ("OFFER_DRAFT_CHANGED", None)
    out = (await merchant.do(PUBLISH, id=offer, contentHash=draft["draft"]["contentHash"]))["offer"]
    assert [version["version"] for version in out["versions"]] == [2, 1]

    [proposal] = (await merchant.do(PROPOSE, offerId=offer))["proposals"]
    assert (proposal["agreement"]["id"], proposal["error"]) == (agreement, None)
    assert proposal["agreement"]["inForce"]["terms"]["rules"] == [{"ratePpm": 100_000}]
    for signer in (promoter, merchant):
        signed = (await signer.do(SIGN, id=agreement, contentHash=proposal["contentHash"]))["agreement"]
    assert signed["inForce"]["offerVersion"] == 1
    clock.advance(timedelta(days=7))
    seen = await merchant.ask(f"query ($id: ID!) {{ agreement(id: $id) {{ {AGREEMENT} }} }}", id=agreement)
    in_force = seen["data"]["agreement"]["inForce"]
    assert (in_force["offerVersion"], in_force["terms"]["rules"]) == (2, [{"ratePpm": 120_000}])
    assert await promoter.refused(PROPOSE, offerId=offer) == ("OFFER_NOT_FOUND", ["offerId"])


async def test_every_clause_of_an_offer_is_read_back(brands: tuple[Client, Client, Client]) -> None:
    merchant, _, _ = brands
    _, offer = await public_offer(
        merchant,
        rules=[{"ratePpm": 0, "scope": "CATEGORY", "scopeId": "beauty", "fixed": {"amount": "5.00", **YUAN}}],
        fixedCapPpm=200_000,
        noticeDays=14,
        checkoutTouchEarns=True,
        sources={
            "paidAllowed": False,
            "bannedHosts": ["B.example.com", "a.example.com"],
            "onBreach": "INVALID",
        },
        disputes={"openDays": 45, "answerDays": 7},
    )
    answer = await merchant.ask(f"query ($id: ID!) {{ offer(id: $id) {{ {OFFER} }} }}", id=offer)
    assert answer["data"]["offer"]["current"]["terms"] == {
        "noticeDays": 14,
        "fixedCapPpm": 200_000,
        "checkoutTouchEarns": True,
        "allowSelfPurchase": False,
        "rules": [
            {
                "ratePpm": 0, "scope": "CATEGORY", "scopeId": "beauty",
                "fixed": {"amount": "5.00", "currencyCode": "CNY"},
            }
        ],
        "sources": {"paidAllowed": False, "bannedHosts": ["a.example.com", "b.example.com"], "onBreach": "INVALID"},
        "disputes": {"openDays": 45, "answerDays": 7},
    }  # fmt: skip


async def test_what_the_api_refuses_it_refuses_by_code(brands: tuple[Client, Client, Client]) -> None:
    merchant, promoter, stranger = brands
    campaign, offer = await public_offer(merchant)
    assert await stranger.refused(APPLY, offerId=offer) == ("NOT_IN_DIRECTORY", None)
    assert await merchant.refused(CREATE, name="", currencyCode="CNY") == ("BAD_CAMPAIGN", ["name"])
    assert await merchant.refused(CREATE, name="x", currencyCode="XXX") == ("UNKNOWN_CURRENCY", None)
    assert await merchant.refused(ACTIVATE, id=campaign) == ("CAMPAIGN_IN_ANOTHER_STATE", None)
    assert await stranger.refused(PAUSE, id=campaign) == ("CAMPAIGN_NOT_FOUND", ["id"])
    content = {"name": "x", "terms": terms()}
    assert await stranger.refused(NEW_OFFER, campaignId=campaign, content=content) == (
        "CAMPAIGN_NOT_FOUND", ["campaignId"],
    )  # fmt: skip
    assert await merchant.refused(PUBLISH, id=offer) == ("NOTHING_TO_PUBLISH", None)
    to = {"advertiserId": merchant.id, "promoterBrandId": promoter.id, "terms": terms()}
    assert await promoter.refused(DRAFT, **to, campaignId=campaign) == ("CAMPAIGN_NOT_FOUND", ["campaignId"])
    await merchant.do(RETIRE, id=offer)
    assert await promoter.refused(APPLY, offerId=offer) == ("OFFER_NOT_FOUND", ["offerId"])
    assert await merchant.refused(INVITE, offerId=offer, promoterBrandId=promoter.id) == (
        "OFFER_IN_ANOTHER_STATE", None,
    )  # fmt: skip
    assert codes_of(await stranger.ask(FIND, filter={"category": "No"})) == ["BAD_PARTNER_PROFILE"]


async def test_drafts_are_written_sent_and_answered(brands: tuple[Client, Client, Client]) -> None:
    merchant, promoter, _ = brands
    to = {"advertiserId": merchant.id, "promoterBrandId": promoter.id}
    draft = (await merchant.do(DRAFT, **to, terms=terms()))["invitation"]
    assert (draft["status"], draft["sentAt"], draft["sentByMe"]) == ("DRAFT", None, True)
    hidden = await promoter.ask("query ($id: ID!) { invitation(id: $id) { id } }", id=draft["id"])
    assert codes_of(hidden) == ["INVITATION_NOT_FOUND"]
    await merchant.do(REDRAFT, id=draft["id"], terms=terms(110_000))
    sent = (await merchant.do(SEND, id=draft["id"]))["invitation"]
    assert (sent["status"], sent["terms"]["rules"]) == ("SENT", [{"ratePpm": 110_000}])
    opened = await promoter.do(ACCEPT, id=draft["id"])
    assert opened["agreement"]["campaign"] is None
    assert await merchant.refused(SEND, id=draft["id"]) == ("INVITATION_NOT_OPEN", None)


async def test_an_agreement_ends_after_its_notice_and_so_does_a_campaign(
    brands: tuple[Client, Client, Client], clock: FixedClock
) -> None:
    merchant, promoter, _ = brands
    campaign, offer = await public_offer(merchant)
    agreement = await agreed(merchant, promoter, offer)
    weeks = (clock.now() + timedelta(days=7)).isoformat(timespec="microseconds").replace("+00:00", "Z")

    given = (await promoter.do(END_AGREEMENT, id=agreement, reason="enough"))["agreement"]
    assert (given["status"], given["endsAt"], given["endedBy"], given["endReason"]) == (
        "ACTIVE", weeks, promoter.id, "enough",
    )  # fmt: skip
    paused = (await merchant.do(PAUSE, id=campaign, reason="stock"))["campaign"]
    assert (paused["status"], paused["running"]) == ("PAUSED", False)
    assert (await merchant.do(RESUME, id=campaign))["campaign"]["running"]
    ending = (await merchant.do(END, id=campaign))["campaign"]
    assert (ending["status"], ending["endsAt"]) == ("ACTIVE", weeks)


async def test_pages_of_offers_and_campaigns_cost_a_handful_of_statements(
    brands: tuple[Client, Client, Client], db: Database, clock: FixedClock
) -> None:
    merchant, promoter, _ = brands
    async with db.unit_of_work(SYSTEM) as session:
        for _ in range(25):
            campaign_id = await make.campaign(session, merchant.actor, clock, budget_minor=10_000)
            await make.offer(session, merchant.actor, clock, campaign_id, visibility=OfferVisibility.PUBLIC)
    own = f"{{ offers(first: 20) {{ nodes {{ {OFFER} }} }} }}"
    campaigns = f"{{ campaigns(first: 20) {{ nodes {{ {CAMPAIGN} advertiser {{ name }} }} }} }}"
    for client, document, field, most in (
        (promoter, FIND.replace("totalCount", ""), "partnerOffers", 7),
        (merchant, own, "offers", 7),
        (merchant, campaigns, "campaigns", 4),
    ):
        await client.ask(document)
        with statements_of(db) as seen:
            answer = await client.ask(document)
        assert len(answer["data"][field]["nodes"]) == 20, answer
        assert len(seen) <= most, seen
