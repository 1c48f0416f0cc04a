"""Accounts, entries and their reasons as a brand asks for them; the figures are those of order O1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from core.actor import SYSTEM
from core.clock import FixedClock
from infra.db.session import Database
from tests.factories.brands import committed_brand
from tests.factories.settlement import Parties, captured_o1
from tests.fixtures.http import Served, codes_of, serving
from tests.fixtures.statements import statements_of

ACCOUNTS = """query ($codes: [Int!], $after: String) {
  ledgerAccounts(first: 1, after: $after, accountCodes: $codes) {
    nodes { id account accountCode owner balance { minorUnits currencyCode } } pageInfo { hasNextPage endCursor } } }"""
ENTRIES = """query ($only: LedgerEntryFilter) { ledgerEntries(first: 10, only: $only) {
  nodes { id kind accountCode orderId amount { minorUnits } } } }"""
EXPLAIN = """query ($id: ID!) { explainAmount(id: $id) { rule text entry { id amount { minorUnits } } journal { owner }
  lines { section orderLineId counterparty amount { minorUnits } gross { minorUnits } } } }"""


@pytest.fixture
async def served(db: Database, clock: FixedClock) -> AsyncIterator[Served]:
    async with serving(db, clock) as served:
        yield served


@pytest.fixture
async def merchant(db: Database, clock: FixedClock) -> tuple[Parties, str]:
    """A merchant with O1 captured, and its token."""
    actor, token = await committed_brand(db, clock)
    parties = Parties(merchant=actor.brand_id)
    async with db.unit_of_work(SYSTEM) as session:
        await captured_o1(session, clock, parties)
    return parties, token


async def entries(served: Served, token: str, **only: Any) -> list[dict[str, Any]]:
    answer = await served.brand(ENTRIES, {"only": only}, token=token)
    nodes: list[dict[str, Any]] = answer["data"]["ledgerEntries"]["nodes"]
    return nodes


async def test_a_merchant_reads_its_account_its_entry_and_the_reason(
    served: Served, merchant: tuple[Parties, str]
) -> None:
    parties, token = merchant

    accounts = await served.brand(ACCOUNTS, {}, token=token)
    (account,) = accounts["data"]["ledgerAccounts"]["nodes"]
    assert (account["account"], account["accountCode"]) == ("pending", 2000)
    assert account["balance"] == {"minorUnits": "3200", "currencyCode": "CNY"}

    (entry,) = await entries(served, token)
    assert (entry["kind"], entry["amount"]["minorUnits"]) == ("capture", "-3200")

    answer = await served.brand(EXPLAIN, {"id": entry["id"]}, token=token)
    explained = answer["data"]["explainAmount"]
    assert (explained["rule"], explained["entry"]["id"]) == ("R1", entry["id"])
    assert [each["owner"] for each in explained["journal"]] == [f"party:{parties.merchant}"]
    assert sorted((line["section"], int(line["amount"]["minorUnits"])) for line in explained["lines"]) == [
        ("commission_paid", -900), ("commission_paid", -450), ("platform_fee", -450), ("sales", 800),
        ("sales", 9000), ("supplier_cost", -4000), ("supplier_cost", -800),
    ]  # fmt: skip


async def test_entries_are_filtered(served: Served, merchant: tuple[Parties, str]) -> None:
    _, token = merchant
    (entry,) = await entries(served, token)

    assert await entries(served, token, kinds=["capture"], accountCodes=[2000]) == [entry]
    assert await entries(served, token, orderId=entry["orderId"]) == [entry]
    assert await entries(served, token, kinds=["refund_reserved"]) == []
    assert await entries(served, token, accountCodes=[2010]) == []
    assert await entries(served, token, postedTo="2020-01-01T00:00:00Z") == []


async def test_an_unknown_code_and_an_unknown_entry_are_told(
    served: Served, merchant: tuple[Parties, str]
) -> None:
    _, token = merchant

    assert codes_of(await served.brand(ACCOUNTS, {"codes": [1]}, token=token)) == ["LEDGER_ACCOUNT_CODE"]
    unknown = {"id": "jrn_01h00000000000000000000000/1"}
    assert codes_of(await served.brand(EXPLAIN, unknown, token=token)) == ["ENTRY_NOT_FOUND"]
    assert codes_of(await served.brand(EXPLAIN, {"id": "x"}, token=token)) == ["MALFORMED_ID"]


async def test_neither_list_nor_reason_takes_more_statements_than_they_say(
    served: Served, merchant: tuple[Parties, str], db: Database
) -> None:
    _, token = merchant
    (entry,) = await entries(served, token)

    with statements_of(db) as of_list:
        await entries(served, token)
    with statements_of(db) as of_reason:
        await served.brand(EXPLAIN, {"id": entry["id"]}, token=token)

    assert len(of_list) <= 2
    assert len(of_reason) <= 5
