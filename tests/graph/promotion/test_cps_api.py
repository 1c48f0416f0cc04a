"""CPS through the brand API as clients use it: HTTP, tokens, the real application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import BrandId, CommunityId, LinkId, OrderId, OrderLineId, ProductId, ProposalId, TouchId
from infra.db.session import Database
from marketplace.promotion import service
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from marketplace.promotion.touches.clicks import Click
from marketplace.promotion.touches.touch_token import TouchSigner
from services.api.app import create_app
from tests.factories import catalog
from tests.factories.brands import committed_brand
from tests.factories.supply import supplier
from tests.fixtures.asking import gateways
from tests.fixtures.statements import statements_of

ERRORS = "userErrors { code message field facts }"
COMMUNITY = f"""mutation ($input: CommunityCreateInput!) {{ communityCreate(input: $input) {{
  community {{ id name memberCount }} {ERRORS} }} }}"""
MEMBERS = f"""mutation ($input: CommunityMembersAddInput!) {{ communityMembersAdd(input: $input) {{
  added already newContacts contactIds rowErrors {{ row code }} {ERRORS} }} }}"""
PLACEMENT = f"""mutation ($input: PlacementCreateInput!) {{ placementCreate(input: $input) {{
  placement {{ id kind }} {ERRORS} }} }}"""
INVITE = f"""mutation ($input: InvitationSendInput!) {{ invitationSend(input: $input) {{
  invitation {{ id status sentByMe advertiser {{ name }} promoterBrand {{ name }}
    terms {{ feePpm rules {{ ratePpm scope scopeId }} }} }} {ERRORS} }} }}"""
COUNTER = f"""mutation ($input: InvitationCounterInput!) {{ invitationCounter(input: $input) {{
  invitation {{ id supersedes status }} {ERRORS} }} }}"""
ACCEPT = f"""mutation ($input: InvitationAnswerInput!) {{ invitationAccept(input: $input) {{
  contentHash agreement {{ id status waiting {{ version contentHash signatures {{ brandId }} }} }} {ERRORS} }} }}"""
SIGN = f"""mutation ($input: AgreementSignInput!) {{ agreementSign(input: $input) {{
  agreement {{ id status currentVersion inForce {{ version
    terms {{ windowS rules {{ ratePpm }} }} }} }} {ERRORS} }} }}"""
LINK = f"""mutation ($input: LinkCreateInput!) {{ linkCreate(input: $input) {{
  link {{ id code url qrSvgUrl qrSvg status destination clicks {{ clicks }} agreement {{ id }}
    community {{ name }} placement {{ kind }} }} {ERRORS} }} }}"""
DISABLE = (
    f"mutation ($input: LinkDisableInput!) {{ linkDisable(input: $input) {{ link {{ status }} {ERRORS} }} }}"
)
PROPOSE = f"""mutation ($input: ProductsProposeInput!) {{ productsPropose(input: $input) {{ proposals {{
  id lane scorePpm rank product {{ titleEn }} community {{ name }} agreement {{ id }}
  reason {{ members tags {{ tag membersWith liftPpm declared }} tagsPpm againPpm togetherPpm commissionPpm
    commissionFixed {{ amount }} }} }}
  {ERRORS} }} }}"""
PROPOSE_COMMUNITIES = f"""mutation ($input: CommunitiesProposeInput!) {{ communitiesPropose(input: $input) {{
  proposals {{ communityId community {{ name memberCount }} }} {ERRORS} }} }}"""
FROM_PROPOSAL = f"""mutation ($input: LinkCreateFromProposalInput!) {{ linkCreateFromProposal(input: $input) {{
  link {{ id product {{ id }} agreementId }} {ERRORS} }} }}"""
EXPLAIN = """query ($id: ID!) { explainAttribution(orderId: $id) { verified inputHash amountsHash resultHash
  touches { id weightPpm rejected } lines { commission { amount currencyCode minorUnits } status
  shares { role payee earned { minorUnits } } } } }"""
SECRET = "development-only-secret-do-not-use"


class Client:
    """A brand with its token."""

    def __init__(self, http: httpx.AsyncClient, actor: Actor, token: str) -> None:
        self._http, self.actor, self._token = http, actor, token

    @property
    def id(self) -> str:
        return str(self.actor.brand_id)

    async def ask(self, document: str, **variables: Any) -> dict[str, Any]:
        answer = await self._http.post(
            "/graphql",
            json={"query": document, "variables": variables},
            headers={"authorization": f"Bearer {self._token}"},
        )
        return dict(answer.json())

    async def do(self, document: str, **input: Any) -> dict[str, Any]:
        """The payload of the document's one mutation."""
        answer = await self.ask(document, input=input)
        assert "errors" not in answer, answer
        [payload] = answer["data"].values()
        return dict(payload)


@pytest.fixture
async def http(db: Database, clock: FixedClock) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(gateways(db, clock))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
        yield client


@pytest.fixture
async def brands(http: httpx.AsyncClient, db: Database, clock: FixedClock) -> tuple[Client, Client, Client]:
    """Merchant, promoter, stranger."""
    made = []
    for name in ("Orchid Lab", "Morning Club", "Stranger"):
        actor, token = await committed_brand(db, clock, name=name)
        made.append(Client(http, actor, token))
    return made[0], made[1], made[2]


def _terms(rate: int = 100_000) -> dict[str, Any]:
    return {"rules": [{"ratePpm": rate}], "windowS": 86_400}


async def _agreed(merchant: Client, promoter: Client) -> str:
    sent = await merchant.do(INVITE, advertiserId=merchant.id, promoterBrandId=promoter.id, terms=_terms())
    opened = await promoter.do(ACCEPT, id=sent["invitation"]["id"])
    for signer in (merchant, promoter):
        signed = await signer.do(SIGN, id=opened["agreement"]["id"], contentHash=opened["contentHash"])
    assert signed["agreement"]["status"] == "ACTIVE"
    return str(opened["agreement"]["id"])


async def _slot(promoter: Client, **facts: Any) -> tuple[str, str]:
    community = await promoter.do(COMMUNITY, name="早安护肤", channel="WECOM_GROUP", **facts)
    community_id = community["community"]["id"]
    placement = await promoter.do(PLACEMENT, communityId=community_id, kind="POST", name="evening")
    return community_id, placement["placement"]["id"]


async def test_from_the_invitation_to_a_signed_agreement(brands: tuple[Client, Client, Client]) -> None:
    merchant, promoter, _ = brands
    sent = await merchant.do(INVITE, advertiserId=merchant.id, promoterBrandId=promoter.id, terms=_terms())
    assert sent["invitation"]["sentByMe"]
    assert sent["invitation"]["promoterBrand"]["name"] == "Morning Club"
    assert sent["invitation"]["terms"]["feePpm"] == 50_000
    counter = await promoter.do(COUNTER, id=sent["invitation"]["id"], terms=_terms(150_000))
    assert counter["invitation"]["supersedes"] == sent["invitation"]["id"]
    gone = await promoter.do(ACCEPT, id=sent["invitation"]["id"])
    assert gone["userErrors"][0]["code"] == "INVITATION_NOT_OPEN"
    assert gone["userErrors"][0]["facts"]["current"] == "DECLINED"

    opened = await merchant.do(ACCEPT, id=counter["invitation"]["id"])
    agreement = opened["agreement"]
    assert (agreement["status"], agreement["waiting"]["version"]) == ("PENDING_SIGNATURE", 1)
    tampered = await merchant.do(SIGN, id=agreement["id"], contentHash="0" * 64)
    assert tampered["userErrors"][0]["code"] == "CONTENT_HASH_MISMATCH"
    one = await merchant.do(SIGN, id=agreement["id"], contentHash=opened["contentHash"])
    assert one["agreement"]["inForce"] is None
    both = await promoter.do(SIGN, id=agreement["id"], contentHash=opened["contentHash"])
    assert both["agreement"]["inForce"] == {
        "version": 1,
        "terms": {"windowS": 86_400, "rules": [{"ratePpm": 150_000}]},
    }


LIMITS = """mutation ($input: InvitationSendInput!) { invitationSend(input: $input) { invitation { terms {
  caps { scope mode period fallbackRatePpm amount { minorUnits currencyCode } }
  tiers { mode period tiers { ratePpm fromBasis { minorUnits } } } } } userErrors { code field } } }"""


async def test_caps_and_tiers_are_offered_and_read_back(brands: tuple[Client, Client, Client]) -> None:
    merchant, promoter, _ = brands
    cny = {"currencyCode": "CNY"}
    to = {"advertiserId": merchant.id, "promoterBrandId": promoter.id}
    terms = {
        **_terms(),
        "caps": [
            {"scope": "ORDER", "amount": {"amount": "50.00", **cny}},
            {
                "scope": "PROMOTER",
                "amount": {"amount": "900.00", **cny},
                "mode": "ALL_OR_NOTHING",
                "period": "WEEK",
            },
        ],
        "tiers": {
            "tiers": [
                {"fromBasis": {"amount": "0", **cny}, "ratePpm": 80_000},
                {"fromBasis": {"amount": "10000.00", **cny}, "ratePpm": 120_000},
            ],
            "mode": "MARGINAL",
        },
    }

    offered = (await merchant.do(LIMITS, **to, terms=terms))["invitation"]["terms"]

    assert [(cap["scope"], cap["mode"], cap["amount"]["minorUnits"]) for cap in offered["caps"]] == [
        ("ORDER", "TRUNCATE", "5000"), ("PROMOTER", "ALL_OR_NOTHING", "90000"),
    ]  # fmt: skip
    assert [(t["fromBasis"]["minorUnits"], t["ratePpm"]) for t in offered["tiers"]["tiers"]] == [
        ("0", 80_000), ("1000000", 120_000),
    ]  # fmt: skip
    terms["tiers"] = {"tiers": [{"fromBasis": {"amount": "1.00", **cny}, "ratePpm": 80_000}]}
    refused = await merchant.do(LIMITS, **to, terms=terms)
    assert refused["userErrors"][0]["code"] == "BAD_TERMS"


async def test_terms_that_cannot_be_are_refused_by_field(brands: tuple[Client, Client, Client]) -> None:
    merchant, promoter, stranger = brands
    to = {"advertiserId": merchant.id, "promoterBrandId": promoter.id}
    for terms, field in (
        (_terms(900_001), "ratePpm"),
        (_terms() | {"feePpm": 1}, "feePpm"),
        (_terms() | {"windowS": 60}, "windowS"),
        (_terms() | {"rules": []}, "rules"),
    ):
        refused = await merchant.do(INVITE, **to, terms=terms)
        assert refused["userErrors"][0]["code"] == "BAD_TERMS"
        assert refused["userErrors"][0]["field"] == [field]
    refused = await stranger.do(INVITE, **to, terms=_terms())
    assert refused["userErrors"][0]["code"] == "NOT_A_PARTY"
    nobody = await merchant.do(
        INVITE, advertiserId=merchant.id, promoterBrandId=str(BrandId.new()), terms=_terms()
    )
    assert nobody["userErrors"][0]["code"] == "BRAND_NOT_FOUND"
    malformed = await merchant.do(INVITE, advertiserId="x", promoterBrandId=promoter.id, terms=_terms())
    assert malformed["userErrors"][0]["code"] == "MALFORMED_ID"


async def test_members_go_in_by_row_and_come_out_as_numbers(brands: tuple[Client, Client, Client]) -> None:
    _, promoter, stranger = brands
    community_id, _ = await _slot(promoter)
    rows = [
        {"identifiers": [{"kind": "PHONE", "value": "13800138000"}], "tags": ["护肤"]},
        {"identifiers": [{"kind": "EMAIL", "value": "not an address"}]},
    ]
    done = await promoter.do(MEMBERS, communityId=community_id, members=rows)
    again = await promoter.do(MEMBERS, communityId=community_id, members=rows)
    assert (done["added"], again["added"], again["already"]) == (1, 0, 1)
    assert done["rowErrors"] == [{"row": 2, "code": "MALFORMED_IDENTIFIER"}]
    seen = await promoter.ask(
        "query ($id: ID!) { community(id: $id) { memberCount memberTags { tag members contacts } } }",
        id=community_id,
    )
    assert seen["data"]["community"] == {
        "memberCount": 1,
        "memberTags": [{"tag": "护肤", "members": 1, "contacts": 1}],
    }
    refused = await stranger.do(MEMBERS, communityId=community_id, members=rows)
    assert refused["userErrors"][0]["code"] == "COMMUNITY_NOT_FOUND"


async def test_a_stranger_sees_nothing_of_two_brands_business(brands: tuple[Client, Client, Client]) -> None:
    merchant, promoter, stranger = brands
    agreement = await _agreed(merchant, promoter)
    community_id, placement = await _slot(promoter)
    link = (
        await promoter.do(
            LINK, agreementId=agreement, placementId=placement, destination="https://shop.example.com/"
        )
    )["link"]
    for document, id in (
        ("query ($id: ID!) { agreement(id: $id) { id } }", agreement),
        ("query ($id: ID!) { link(id: $id) { id } }", link["id"]),
        ("query ($id: ID!) { community(id: $id) { id } }", community_id),
        ("query ($id: ID!) { link(id: $id) { id } }", str(LinkId.new())),
        ("query ($id: ID!) { proposal(id: $id) { id } }", str(ProposalId.new())),
        ("query ($id: ID!) { community(id: $id) { id } }", str(CommunityId.new())),
        ("query ($id: ID!) { explainAttribution(orderId: $id) { verified } }", str(OrderId.new())),
    ):
        answer = await stranger.ask(document, id=id)
        assert answer["data"] is None
        assert answer["errors"][0]["extensions"]["code"].endswith("_NOT_FOUND")
    lists = await stranger.ask(
        "{ invitations { nodes { id } } agreements { totalCount } links { totalCount } communities { totalCount } }"
    )
    assert lists["data"] == {
        "invitations": {"nodes": []},
        "agreements": {"totalCount": 0},
        "links": {"totalCount": 0},
        "communities": {"totalCount": 0},
    }
    refused = await stranger.do(DISABLE, id=link["id"])
    assert refused["userErrors"][0]["code"] == "LINK_NOT_FOUND"


async def test_a_link_has_an_address_a_picture_and_honest_counts(
    brands: tuple[Client, Client, Client],
) -> None:
    merchant, promoter, _ = brands
    agreement = await _agreed(merchant, promoter)
    _, placement = await _slot(promoter)
    to = {"agreementId": agreement, "placementId": placement}
    link = (await promoter.do(LINK, **to, destination="https://shop.example.com/cream"))["link"]
    assert link["url"].endswith(f"/l/{link['code']}")
    assert link["qrSvgUrl"] == link["url"] + ".svg"
    assert link["qrSvg"].startswith("<?xml")
    assert link["clicks"]["clicks"] == 0
    for bad in ("javascript:alert(1)", "http://evil.example.com/", "https://10.0.0.1/"):
        refused = await promoter.do(LINK, **to, destination=bad)
        assert refused["userErrors"][0]["code"] == "BAD_DESTINATION"
    assert (await promoter.do(DISABLE, id=link["id"]))["link"]["status"] == "DISABLED"
    # The merchant sees its partner's link, where it is placed, and may not switch it off.
    seen = await merchant.ask(
        "{ links { nodes { code community { name memberCount } placement { kind } } } }"
    )
    assert seen["data"]["links"]["nodes"] == [
        {
            "code": link["code"],
            "community": {"name": "早安护肤", "memberCount": None},
            "placement": {"kind": "POST"},
        }
    ]


async def test_from_a_proposal_to_a_link_in_one_mutation(
    brands: tuple[Client, Client, Client], db: Database, clock: FixedClock
) -> None:
    merchant, promoter, stranger = brands
    async with db.unit_of_work(SYSTEM) as session:
        made = await catalog.product(session, merchant.actor, clock, tags=["cats"], title_en="Cat tree")
        await supplier(
            session, clock, stock=dict.fromkeys(made.variants, 3), brand_id=merchant.actor.brand_id
        )
    agreement = await _agreed(merchant, promoter)
    community_id, placement = await _slot(promoter, tags=["cats"])

    found = await promoter.do(PROPOSE, communityId=community_id, first=5)
    [proposal] = found["proposals"]
    assert (proposal["product"]["titleEn"], proposal["agreement"]["id"]) == ("Cat tree", agreement)
    # Nobody has joined yet: the declared tag alone counts 30 %, half of it by weight, and 5 % of the 10 % commission.
    assert proposal["reason"]["tagsPpm"] == 300_000
    assert proposal["scorePpm"] == 150_000 + 5_000
    link = await promoter.do(
        FROM_PROPOSAL,
        proposalId=proposal["id"],
        placementId=placement,
        destination="https://shop.example.com/cat",
    )
    assert link["link"]["product"]["id"] == str(made.id)
    other_way = await merchant.do(PROPOSE_COMMUNITIES, productId=str(made.id))
    assert other_way["proposals"] == [
        {"communityId": community_id, "community": {"name": "早安护肤", "memberCount": None}}
    ]
    refused = await stranger.do(
        FROM_PROPOSAL, proposalId=proposal["id"], placementId=placement, destination="https://x.example.com/"
    )
    assert refused["userErrors"][0]["code"] == "PROPOSAL_NOT_FOUND"
    refused = await stranger.do(PROPOSE, communityId=community_id)
    assert refused["userErrors"][0]["code"] == "COMMUNITY_NOT_FOUND"


async def test_two_brands_get_the_same_explanation_of_an_order(
    brands: tuple[Client, Client, Client], db: Database, clock: FixedClock
) -> None:
    merchant, promoter, stranger = brands
    agreement = await _agreed(merchant, promoter)
    _, placement = await _slot(promoter)
    link = (
        await promoter.do(
            LINK, agreementId=agreement, placementId=placement, destination="https://shop.example.com/"
        )
    )["link"]
    touch, signer = TouchId.new(), TouchSigner(SECRET)
    at, line_id = clock.now(), OrderLineId.new()
    line = LineForAttribution(line_id, ProductId.new(), "sku", "beauty", 1, 10_000)
    order = OrderForAttribution(
        OrderId.new(), merchant.actor.brand_id, "CNY", at + timedelta(hours=1), [line],
        touch_tokens=[signer.token(touch, LinkId.parse(link["id"]), at)],
    )  # fmt: skip
    async with db.unit_of_work(SYSTEM) as session:
        await service.record_clicks(
            session,
            [
                Click(
                    touch,
                    LinkId.parse(link["id"]),
                    None,
                    merchant.actor.brand_id,
                    promoter.actor.brand_id,
                    at,
                )
            ],
        )
        await service.attribute(session, order, signer=signer, clock=clock)

    told = [(await each.ask(EXPLAIN, id=str(order.order_id)))["data"] for each in (merchant, promoter)]

    assert told[0] == told[1]
    explained = told[0]["explainAttribution"]
    assert explained["verified"]
    assert explained["touches"] == [{"id": str(touch), "weightPpm": 1_000_000, "rejected": None}]
    [commission] = explained["lines"]
    assert commission["commission"] == {"amount": "10.00", "currencyCode": "CNY", "minorUnits": "1000"}
    assert [(s["role"], s["earned"]["minorUnits"]) for s in commission["shares"]] == [
        ("PROMOTER_BRAND", "950"),
        ("PLATFORM", "50"),
    ]
    hidden = await stranger.ask(EXPLAIN, id=str(order.order_id))
    assert hidden["errors"][0]["extensions"]["code"] == "DECISION_NOT_FOUND"


async def test_a_list_of_links_takes_as_many_statements_as_one(
    brands: tuple[Client, Client, Client], db: Database
) -> None:
    merchant, promoter, _ = brands
    agreement = await _agreed(merchant, promoter)
    _, placement = await _slot(promoter)
    document = """{ links(first: 50) { nodes { code clicks { clicks } agreement { id versions { version } }
      community { name } placement { name } } } }"""
    counts = []
    for _ in range(2):
        for _ in range(4):
            await promoter.do(
                LINK, agreementId=agreement, placementId=placement, destination="https://shop.example.com/"
            )
        with statements_of(db) as seen:
            assert "errors" not in await promoter.ask(document)
        counts.append(len(seen))
    assert counts[0] == counts[1] <= 9
