"""The partner directory through the brand API: HTTP, tokens, the real application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from marketplace.promotion.directory.recording import count_records
from tests.factories import directory as make
from tests.factories import promotion
from tests.factories.brands import committed_brand, committed_supplier
from tests.fixtures.http import Served, codes_of, serving
from tests.fixtures.statements import statements_of

UPSERT = """mutation ($input: PartnerProfileUpsertInput!) { partnerProfileUpsert(input: $input) {
  profile { version status headline rateMaxPpm } userErrors { code field facts } } }"""
WITHDRAW = """mutation ($input: PartnerProfileWithdrawInput!) { partnerProfileWithdraw(input: $input) {
  profile { version status } userErrors { code } } }"""
PARTNERS = """query ($filter: PartnerFilterInput, $first: Int! = 20, $after: String) {
  partners(filter: $filter, first: $first, after: $after) { totalCount pageInfo { hasNextPage endCursor } nodes {
  id name headline roles categories regions audienceBand rateMinPpm rateMaxPpm version
  asAdvertiser { conversionPpm refundPpm disputePpm punctualPpm ordersFrom partnersFrom }
  asPromoter { ordersFrom audienceCounted } history { version rateMaxPpm } } } }"""
PARTNER = "query ($id: ID!) { partner(id: $id) { id name history { version rateMaxPpm } } }"
OWN = "{ ownPartnerProfile { current { version status } counts { role clicks orders partners } } }"
SAYS = {
    "headline": "温和护肤", "roles": ["ADVERTISER", "PROMOTER"], "categories": ["beauty/skin"], "regions": ["CN-SH"],
    "audienceBand": "FROM_10K", "rateMinPpm": 80_000, "rateMaxPpm": 150_000,
}  # fmt: skip


@pytest.fixture
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


async def _do(served: Served, token: str, document: str, **input: Any) -> dict[str, Any]:
    answer = await served.brand(document, {"input": input}, token=token)
    assert "errors" not in answer, answer
    [payload] = answer["data"].values()
    return dict(payload)


async def test_a_brand_lists_itself_is_found_invited_and_leaves(
    served: Served, db: Database, clock: FixedClock
) -> None:
    actor, token = await committed_brand(db, clock, name="Orchid Lab 兰花")
    _, reader = await committed_brand(db, clock, name="Morning Club")
    done = await _do(served, token, UPSERT, **SAYS, version=0)
    assert done["profile"] == {
        "version": 1,
        "status": "LISTED",
        "headline": "温和护肤",
        "rateMaxPpm": 150_000,
    }
    changed = await _do(served, token, UPSERT, **(SAYS | {"rateMaxPpm": 200_000}), version=1)
    assert changed["profile"]["version"] == 2
    late = await _do(served, token, UPSERT, **SAYS, version=1)
    assert late["userErrors"] == [
        {"code": "PARTNER_PROFILE_CHANGED", "field": None, "facts": {"expected": 1, "current": 2}}
    ]

    asked = {"filter": {"text": "兰花", "category": "beauty", "region": "CN", "rateAtLeastPpm": 100_000}}
    found = (await served.brand(PARTNERS, asked, token=reader))["data"]["partners"]
    [partner] = found["nodes"]
    assert (found["totalCount"], partner["id"], partner["name"]) == (
        1,
        str(actor.brand_id),
        "Orchid Lab 兰花",
    )
    assert partner["history"] == [
        {"version": 2, "rateMaxPpm": 200_000},
        {"version": 1, "rateMaxPpm": 150_000},
    ]
    assert partner["asAdvertiser"] is None
    one = await served.brand(PARTNER, {"id": partner["id"]}, token=reader)
    assert one["data"]["partner"]["name"] == "Orchid Lab 兰花"
    me = (await served.brand("{ me { id } }", token=reader))["data"]["me"]["id"]
    invite = """mutation ($input: InvitationSendInput!) { invitationSend(input: $input) {
      invitation { status } userErrors { code } } }"""
    to = {"advertiserId": partner["id"], "promoterBrandId": me, "terms": {"rules": [{"ratePpm": 150_000}]}}
    assert (await _do(served, reader, invite, **to))["invitation"]["status"] == "SENT"

    assert (await _do(served, token, WITHDRAW))["profile"] == {"version": 3, "status": "WITHDRAWN"}
    gone = await served.brand(PARTNER, {"id": partner["id"]}, token=reader)
    assert codes_of(gone) == ["PARTNER_NOT_FOUND"]
    empty = (await served.brand(PARTNERS, {}, token=reader))["data"]["partners"]
    assert (empty["totalCount"], empty["nodes"]) == (0, [])


async def test_the_record_is_seen_in_rates_and_by_oneself_in_counts(
    served: Served, db: Database, clock: FixedClock
) -> None:
    merchant, token = await committed_brand(db, clock, name="Orchid Lab")
    _, reader = await committed_brand(db, clock, name="Reader")
    await _do(served, token, UPSERT, **SAYS)
    for _ in range(3):
        seller, _ = await committed_brand(db, clock)
        async with db.unit_of_work(SYSTEM) as session:
            market = await promotion.market(session, merchant, seller, clock)
            await make.sales(session, market, clock, clicks=100, orders=10, refunded=1)
    async with db.unit_of_work(SYSTEM) as session:
        await count_records(session, clock.now())

    [partner] = (await served.brand(PARTNERS, {}, token=reader))["data"]["partners"]["nodes"]
    assert partner["asAdvertiser"] == {
        "conversionPpm": 100_000, "refundPpm": 100_000, "disputePpm": 0, "punctualPpm": None, "ordersFrom": 30,
        "partnersFrom": 3,
    }  # fmt: skip
    own = (await served.brand(OWN, token=token))["data"]["ownPartnerProfile"]
    assert own == {
        "current": {"version": 1, "status": "LISTED"},
        "counts": [{"role": "ADVERTISER", "clicks": 300, "orders": 30, "partners": 3}],
    }


async def test_errors_name_the_field_and_no_supplier_reads_the_directory(
    served: Served, db: Database, clock: FixedClock
) -> None:
    _, token = await committed_brand(db, clock)
    _, supplier = await committed_supplier(db, clock)
    bad = await _do(served, token, UPSERT, **(SAYS | {"regions": ["China"]}))
    assert (bad["userErrors"][0]["code"], bad["userErrors"][0]["field"]) == (
        "BAD_PARTNER_PROFILE",
        ["regions"],
    )
    assert codes_of(await served.brand(PARTNERS, {"filter": {"category": "Beauty"}}, token=token)) == [
        "BAD_PARTNER_PROFILE"
    ]
    assert codes_of(await served.brand(PARTNERS, {"after": "x"}, token=token)) == ["BAD_PAGE"]
    assert codes_of(await served.brand(PARTNERS, {}, token=supplier)) == ["MISSING_SCOPE"]
    assert codes_of(await served.brand(UPSERT, {"input": SAYS}, token=supplier)) == ["MISSING_SCOPE"]


async def test_a_page_of_partners_takes_at_most_four_statements(
    served: Served, db: Database, clock: FixedClock
) -> None:
    _, reader = await committed_brand(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        for number in range(30):
            brand, _ = await committed_brand(db, clock)
            await make.listed(session, brand, clock, headline=f"护肤 {number}")
    await served.brand(PARTNERS, {}, token=reader)
    for filter in ({}, {"text": "护肤 nonsense"}):
        with statements_of(db) as seen:
            answer = await served.brand(
                PARTNERS.replace("totalCount", ""), {"filter": filter, "first": 20}, token=reader
            )
        assert len(answer["data"]["partners"]["nodes"]) == 20
        assert len(seen) <= 4, seen
