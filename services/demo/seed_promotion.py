"""Seeding, audiences and CPS: communities with members, agreements signed by both, tracked links."""

from __future__ import annotations

from typing import Any

from services.demo.http_clients import GraphQL, Refused
from services.demo.market import Agreement, Brand, Community, Link, Member
from services.demo.seed_brands import Seeder, payout_account
from services.demo.seed_offers import published_offer
from services.demo.seed_reach import found_partner

_BATCH = 500
_COMMUNITIES = """
query communities { communities(first: 100) { nodes { id name placements { id name } } } }
"""
_NEW_COMMUNITY = """
mutation community($input: CommunityCreateInput!) {
  communityCreate(input: $input) { community { id placements { id name } } userErrors { code message field } }
}
"""
_MEMBERS = """
mutation members($input: CommunityMembersAddInput!) {
  communityMembersAdd(input: $input) { added already rowErrors { row code message } userErrors { code message } }
}
"""
_PLACEMENT = """
mutation placement($input: PlacementCreateInput!) {
  placementCreate(input: $input) { placement { id } userErrors { code message field } }
}
"""
_PROMOTERS = "query promoters { promoters(first: 100) { nodes { id name } } }"
_NEW_PROMOTER = """
mutation promoter($input: PromoterCreateInput!) {
  promoterCreate(input: $input) { promoter { id } userErrors { code message field } }
}
"""
_AGREEMENTS = """
query agreements {
  agreements(first: 100) { nodes { id advertiserId promoterBrandId status waiting { contentHash } } }
}
"""
_INVITATIONS = """
query invitations {
  invitations(first: 100) { nodes { id status advertiser { id } promoterBrand { id } } }
}
"""
_INVITE = """
mutation invite($input: OfferInviteInput!) {
  offerInvite(input: $input) { invitation { id } userErrors { code message field } }
}
"""
_ACCEPT = """
mutation accept($input: InvitationAnswerInput!) {
  invitationAccept(input: $input) { agreement { id } contentHash userErrors { code message field } }
}
"""
_SIGN = """
mutation sign($input: AgreementSignInput!) {
  agreementSign(input: $input) { agreement { id status } userErrors { code message field } }
}
"""
_PROPOSE = """
mutation propose($input: ProductsProposeInput!) {
  productsPropose(input: $input) { proposals { id productId } userErrors { code message field } }
}
"""
_LINK = """
mutation link($input: LinkCreateInput!) {
  linkCreate(input: $input) { link { id code } userErrors { code message field } }
}
"""
_LINK_FROM_PROPOSAL = """
mutation link($input: LinkCreateFromProposalInput!) {
  linkCreateFromProposal(input: $input) { link { id code } userErrors { code message field } }
}
"""


async def seed_community(seeder: Seeder, community: Community) -> None:
    """The community, its two placements and its members; importing members again changes nothing."""
    if f"community:{community.key}" in seeder.notes:
        return
    api = seeder.of(community.brand)
    known = {found["name"]: found for found in (await api(_COMMUNITIES))["communities"]["nodes"]}
    made = known.get(community.name)
    if made is None:
        given = {
            "name": community.name, "channel": community.channel.upper(), "locale": community.locale,
            "region": community.region, "tags": list(community.tags), "declaredSize": len(community.members),
        }  # fmt: skip
        made = (await api.mutate(_NEW_COMMUNITY, input=given))["community"]
    for start in range(0, len(community.members), _BATCH):
        rows = [_member(member, community) for member in community.members[start : start + _BATCH]]
        done = await api.mutate(_MEMBERS, input={"communityId": made["id"], "members": rows})
        if done["rowErrors"]:
            raise Refused(
                "communityMembersAdd", [e["code"] for e in done["rowErrors"]], str(done["rowErrors"][:3])
            )
    placements = {found["name"]: found["id"] for found in made["placements"]}
    notes = {}
    for index, (kind, name) in enumerate(community.placements):
        if name not in placements:
            slot = {"communityId": made["id"], "kind": kind.upper(), "name": name}
            placements[name] = (await api.mutate(_PLACEMENT, input=slot))["placement"]["id"]
        notes[f"placement:{community.key}:{index}"] = placements[name]
    seeder.notes.update({**notes, f"community:{community.key}": made["id"]})


def _member(member: Member, community: Community) -> dict[str, Any]:
    person = member.person
    return {
        "identifiers": [
            {"kind": "EMAIL", "value": person.email},
            {"kind": "PHONE", "value": person.phone},
            {"kind": "CUSTOMER", "value": person.customer},
        ],
        "tags": list(member.tags), "tier": member.tier, "points": member.points,
        "country": community.region, "currency": "CNY" if community.region == "CN" else "EUR",
    }  # fmt: skip


async def seed_promoters(seeder: Seeder, brand: Brand) -> None:
    """The people who promote for a brand, each with an account to be paid to."""
    if f"promoters:{brand.key}" in seeder.notes:
        return
    api = seeder.of(brand.key)
    known = {found["name"]: found["id"] for found in (await api(_PROMOTERS))["promoters"]["nodes"]}
    notes = {}
    for index, person in enumerate(brand.promoters):
        if person.name not in known:
            given = {
                "name": person.name, "kind": person.kind.upper(),
                "identifiers": [{"kind": "EMAIL", "value": person.email}],
            }  # fmt: skip
            known[person.name] = (await api.mutate(_NEW_PROMOTER, input=given))["promoter"]["id"]
        id = known[person.name]
        for currency in ("CNY", "EUR"):
            await payout_account(api, f"{id}:{currency}", currency, promoter=id)
        notes[f"promoter:{brand.key}:{index}"] = id
    seeder.notes.update({**notes, f"promoters:{brand.key}": True})


async def seed_agreement(seeder: Seeder, agreement: Agreement) -> None:
    """The advertiser finds its partner in the directory and invites it with an offer; accepted, and signed by both.
    Goes on where it was left."""
    key = f"agreement:{agreement.advertiser}:{agreement.promoter}"
    if key in seeder.notes:
        return
    advertiser, promoter = seeder.of(agreement.advertiser), seeder.of(agreement.promoter)
    pair = (seeder.notes[f"id:{agreement.advertiser}"], seeder.notes[f"id:{agreement.promoter}"])
    found = await _agreement_of(advertiser, pair)
    if found is None:
        invitation = await _open_invitation(advertiser, pair)
        if invitation is None:
            partner = await found_partner(advertiser, seeder.market.by_brand[agreement.promoter])
            given = {
                "offerId": await published_offer(seeder, agreement),
                "promoterBrandId": partner,
                "message": "一起卖得更好。Let us sell better together.",
            }
            sent = await advertiser.mutate(_INVITE, input=given)
            invitation = sent["invitation"]["id"]
        await promoter.mutate(_ACCEPT, input={"id": invitation})
        found = await _agreement_of(advertiser, pair)
        assert found is not None
    for api in (promoter, advertiser):
        if found["status"] == "ACTIVE":
            break
        signature = {"id": found["id"], "contentHash": found["waiting"]["contentHash"]}
        try:
            await api.mutate(_SIGN, input=signature)
        except Refused as refusal:
            if refusal.codes != ["ALREADY_SIGNED"]:
                raise
    seeder.notes.update({key: found["id"]})


async def _agreement_of(api: GraphQL, pair: tuple[str, str]) -> dict[str, Any] | None:
    nodes = (await api(_AGREEMENTS))["agreements"]["nodes"]
    matching = (node for node in nodes if (node["advertiserId"], node["promoterBrandId"]) == pair)
    return next(matching, None)


async def _open_invitation(api: GraphQL, pair: tuple[str, str]) -> str | None:
    for node in (await api(_INVITATIONS))["invitations"]["nodes"]:
        sides = (node["advertiser"] or {}).get("id"), (node["promoterBrand"] or {}).get("id")
        if node["status"] == "SENT" and sides == pair:
            return str(node["id"])
    return None


async def seed_links(seeder: Seeder, community: Community) -> None:
    """The community's links: of a product, from matching's own proposal where it makes one."""
    mine = [
        (index, link) for index, link in enumerate(seeder.market.links) if link.community == community.key
    ]
    open_ones = [(index, link) for index, link in mine if f"link:{index}" not in seeder.notes]
    if not open_ones:
        return
    api = seeder.of(community.brand)
    wanted = {"communityId": seeder.notes[f"community:{community.key}"], "first": 50}
    proposals = {
        proposal["productId"]: proposal["id"]
        for proposal in (await api.mutate(_PROPOSE, input=wanted))["proposals"]
    }
    for index, link in open_ones:
        made, proposed = await _link(seeder, api, link, proposals)
        seeder.notes.update(
            {f"link:{index}": made["code"], f"linkid:{index}": made["id"], f"proposed:{index}": proposed}
        )


async def _link(
    seeder: Seeder, api: GraphQL, link: Link, proposals: dict[str, str]
) -> tuple[dict[str, str], bool]:
    notes = seeder.notes
    given: dict[str, Any] = {
        "placementId": notes[f"placement:{link.community}:{link.placement}"],
        "destination": f"https://{link.advertiser}.example.com/{link.product}",
        "promoterId": None if link.person is None else notes[f"promoter:{link.promoter}:{link.person}"],
    }
    product = notes[f"product:{link.product}"] if link.product else None
    if product in proposals:
        given["proposalId"] = proposals[str(product)]
        made = await api.mutate(_LINK_FROM_PROPOSAL, input=given)
        return made["link"], True
    given |= {"agreementId": notes[f"agreement:{link.advertiser}:{link.promoter}"], "productId": product}
    made = await api.mutate(_LINK, input=given)
    return made["link"], False
