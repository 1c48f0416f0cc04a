"""Returns, disputes, debts and terms through the interfaces their users have; one delivered order of two creams.

Figures as in tests/marketplace/orders/test_returning.py: one unit of ¥100.00 with 13 % tax inside is 8,850 + 1,151.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId
from infra.db.session import Database
from marketplace.brands.models import TenantKind
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement import service
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.parties import party_account, provider_account
from tests.factories.brands import signed_up
from tests.factories.filled_market import FilledMarket, filled_market
from tests.factories.ledger import horizon_passed
from tests.factories.settlement import dispute_of
from tests.fixtures.http import Served, codes_of, serving

ERRORS = "userErrors { code field facts }"
RETURN = "returns { id status refundIds lines { orderLineId quantity received accepted restocked } }"
RETURNS = "{ returns { nodes { id lines { accepted restocked } } } }"
ANNOUNCE = f"mutation ($i: ReturnAnnounceInput!) {{ returnAnnounce(input: $i) {{ {RETURN} {ERRORS} }} }}"
WITHDRAW = f"mutation ($i: ReturnWithdrawInput!) {{ returnWithdraw(input: $i) {{ {RETURN} {ERRORS} }} }}"
LINES = "query ($id: ID!) { order(id: $id) { lines { id } refunds { id amount { minorUnits } status } } }"
REFUND = f"""mutation ($i: RefundCreateInput!) {{ refundCreate(input: $i) {{
  refund {{ id amount {{ minorUnits }} }} {ERRORS} }} }}"""
CHARGED_BACK = "query ($id: ID!) { order(id: $id) { refunded { minorUnits } chargedBack { minorUnits } } }"
DISPUTES = """{ disputes { nodes { id stage orderIds amount { minorUnits } frozen { minorUnits } evidenceDueAt
  evidence { status final fields } } } }"""
EVIDENCE = f"""mutation ($i: DisputeEvidenceGiveInput!) {{ disputeEvidenceGive(input: $i) {{
  dispute {{ id evidence {{ status final fields }} }} {ERRORS} }} }}"""
CONCEDE = (
    f"mutation ($i: DisputeConcedeInput!) {{ disputeConcede(input: $i) {{ dispute {{ id }} {ERRORS} }} }}"
)
ABSORB = (
    f"mutation ($i: DisputeAbsorbInput!) {{ disputeAbsorb(input: $i) {{ dispute {{ stage }} {ERRORS} }} }}"
)
OWED = """query ($p: ID) { receivables(payeeId: $p) { nodes { payeeId owed { amount minorUnits } ageDays
  debts { kind rule orderId open { minorUnits } } } } }"""
ASK = f"mutation ($i: WriteOffAskInput!) {{ writeOffAsk(input: $i) {{ writeOff {{ id status }} {ERRORS} }} }}"
DECIDE = f"mutation ($i: WriteOffDecideInput!) {{ writeOffDecide(input: $i) {{ writeOff {{ status }} {ERRORS} }} }}"
POLICY = f"mutation ($i: SettlementPolicySetInput!) {{ settlementPolicySet(input: $i) {{ {ERRORS} }} }}"
TERMS = f"""mutation ($i: SettlementTermsSetInput!) {{ settlementTermsSet(input: $i) {{
  terms {{ cycle timeZone legalName reservePpm }} {ERRORS} }} }}"""
CONTEST = "contest { id status claimed { minorUnits } granted { minorUnits } against } userErrors { code }"
OPEN = f"mutation ($i: StatementContestOpenInput!) {{ statementContestOpen(input: $i) {{ {CONTEST} }} }}"
ANSWER = (
    f"mutation ($i: StatementContestAnswerInput!) {{ statementContestAnswer(input: $i) {{ {CONTEST} }} }}"
)
ESCALATE = (
    f"mutation ($i: StatementContestEscalateInput!) {{ statementContestEscalate(input: $i) {{ {CONTEST} }} }}"
)
RULE = f"mutation ($i: StatementContestRuleInput!) {{ statementContestRule(input: $i) {{ {CONTEST} }} }}"
FUNDS = """{ platformFunds(currencyCode: "CNY") { minorUnits }
  reconciliationHealth { provider } reconciliationRuns { nodes { id } } unmatchedRows { nodes { id } } }"""


@dataclass
class Books:
    served: Served
    db: Database
    clock: FixedClock
    market: FilledMarket
    operator: str
    keys: int = 0

    @property
    def order_id(self) -> OrderId:
        """The delivered one."""
        return self.market.orders[0]

    async def ask(self, document: str, token: str | None = None, **input: Any) -> dict[str, Any]:
        self.keys += 1
        given = {"i": {"idempotencyKey": f"key-{self.keys}", **input}} if "$i:" in document else input
        return await self.served.brand(document, given, token=token or self.market.merchant_token)

    async def payload(self, document: str, token: str | None = None, **input: Any) -> dict[str, Any]:
        """Of a mutation that is done."""
        answer = await self.ask(document, token, **input)
        assert codes_of(answer) == [], answer
        (found,) = answer["data"].values()
        payload: dict[str, Any] = found
        return payload

    async def line_id(self) -> str:
        answer = await self.served.brand(LINES, {"id": str(self.order_id)}, token=self.market.merchant_token)
        return str(answer["data"]["order"]["lines"][0]["id"])

    async def dispute(self, status: str, amount_minor: int) -> None:
        """What the provider says of the delivered order's charge now."""
        async with self.db.unit_of_work(SYSTEM) as session:
            charge = await session.execute(
                text("SELECT charge_id FROM split_orders WHERE order_id = :id"), {"id": self.order_id}
            )
            facts = dispute_of(charge.scalar_one(), status=status, amount_minor=amount_minor)
            await apply_dispute(session, facts, provider="stripe", now=self.clock.now())


@pytest.fixture
async def books(db: Database, clock: FixedClock) -> AsyncIterator[Books]:
    async with serving(db, clock) as served:
        market = await filled_market(db, clock, served)
        async with db.unit_of_work(SYSTEM) as session:
            operator = await signed_up(session, clock, TenantKind.PLATFORM, name="Lianyu")
        yield Books(served, db, clock, market, operator.token)


async def test_a_return_goes_from_the_merchant_to_the_supplier_to_a_refund(books: Books) -> None:
    line_id = await books.line_id()
    announced = await books.payload(
        ANNOUNCE, orderId=str(books.order_id), lines=[{"orderLineId": line_id, "quantity": 1}]
    )
    (made,) = announced["returns"]
    assert (made["status"], made["lines"][0]["quantity"]) == ("ANNOUNCED", 1)

    supplier, token = books.served.supplier, books.market.supplier_token
    listed = (await supplier("GET", "/returns", token=token)).json()["items"]
    assert [each["id"] for each in listed] == [made["id"]]
    units = [{"order_line_id": line_id, "quantity": 1}]
    received = await supplier("POST", f"/returns/{made['id']}/receive", {"lines": units}, token=token)
    assert received.json() == {"id": made["id"], "status": "received"}
    decided = await supplier(
        "POST", f"/returns/{made['id']}/inspect", {"accepted": units}, token=token, key="once"
    )
    assert (decided.status_code, len(decided.json()["refund_ids"])) == (200, 1)
    again = await supplier(
        "POST", f"/returns/{made['id']}/inspect", {"accepted": units}, token=token, key="once"
    )
    assert again.json() == decided.json()

    order = await books.ask(LINES, id=str(books.order_id))
    (refund,) = order["data"]["order"]["refunds"]
    assert (refund["id"], refund["amount"]["minorUnits"]) == (decided.json()["refund_ids"][0], "10001")
    (seen,) = (await books.ask(RETURNS))["data"]["returns"]["nodes"]
    assert seen["lines"] == [{"accepted": 1, "restocked": 1}]


async def test_what_comes_back_whole_is_in_the_history_of_the_shelf(books: Books) -> None:
    line_id, supplier, token = await books.line_id(), books.served.supplier, books.market.supplier_token
    lines = [{"orderLineId": line_id, "quantity": 2}]
    (made,) = (await books.payload(ANNOUNCE, orderId=str(books.order_id), lines=lines))["returns"]
    (shelf,) = (await supplier("GET", "/stock", token=token)).json()["items"]
    units = {"order_line_id": line_id, "quantity": 2}
    await supplier("POST", f"/returns/{made['id']}/receive", {"lines": [units]}, token=token)
    for damaged, status in ((3, 422), (1, 200), (1, 409)):
        body = {"accepted": [{**units, "damaged": damaged}]}
        answer = await supplier("POST", f"/returns/{made['id']}/inspect", body, token=token)
        assert answer.status_code == status, answer.text

    (after,) = (await supplier("GET", "/stock", token=token)).json()["items"]
    assert after["on_hand"] == shelf["on_hand"] + 1
    where = f"location_id={shelf['location_id']}&variant_id={shelf['variant_id']}"
    history = (await supplier("GET", f"/stock/movements?{where}&limit=2", token=token)).json()
    newest, before = history["items"]
    assert (newest["kind"], newest["delta"], newest["source"]) == ("return_in", 1, "return")
    assert newest["event_id"].startswith(made["id"])
    assert (before["kind"], before["delta"]) == ("ship", -2)
    assert history["next_cursor"] is not None
    wrong = await supplier("GET", f"/stock/movements?{where}&cursor=bad", token=token)
    assert (wrong.status_code, wrong.json()["code"]) == (422, "BAD_PAGE")


async def test_what_a_lost_dispute_took_is_no_refund_and_is_told_to_the_merchant(books: Books) -> None:
    async def told(token: str) -> tuple[str, str | None]:
        found = (await books.ask(CHARGED_BACK, token, id=str(books.order_id)))["data"]["order"]
        back = found["chargedBack"]
        return found["refunded"]["minorUnits"], back and back["minorUnits"]

    await books.dispute("needs_response", 4_000)
    assert await told(books.market.merchant_token) == ("0", "0")
    await books.dispute("lost", 4_000)
    assert await told(books.market.merchant_token) == ("0", "4000")
    assert await told(books.operator) == ("0", "4000")
    assert await told(books.market.promoter_token) == ("0", None)  # the brand that sold it
    await books.dispute("won", 4_000)
    assert await told(books.market.merchant_token) == ("0", "0")


async def test_what_cannot_come_back_is_told_and_an_announcement_is_withdrawn(books: Books) -> None:
    line_id = await books.line_id()
    three = [{"orderLineId": line_id, "quantity": 3}]
    refused = await books.ask(ANNOUNCE, orderId=str(books.order_id), lines=three)
    assert codes_of(refused) == ["RETURN_EXCEEDS_DELIVERED"]

    lines = [{"orderLineId": line_id, "quantity": 2}]
    (made,) = (await books.payload(ANNOUNCE, orderId=str(books.order_id), lines=lines))["returns"]
    (gone,) = (await books.payload(WITHDRAW, id=made["id"]))["returns"]
    assert gone["status"] == "WITHDRAWN"
    assert codes_of(await books.ask(WITHDRAW, id=made["id"])) == ["RETURN_NOT_OPEN"]
    late = await books.served.supplier(
        "POST", f"/returns/{made['id']}/receive", {"lines": [{"order_line_id": line_id, "quantity": 1}]},
        token=books.market.supplier_token,
    )  # fmt: skip
    assert (late.status_code, late.json()["code"]) == (409, "RETURN_NOT_OPEN")


async def test_a_refund_of_a_lines_value_and_of_some_shipping(books: Books) -> None:
    line_id = await books.line_id()
    value = {"orderLineId": line_id, "quantity": 0, "goods": {"amount": "10.00", "currencyCode": "CNY"}}

    goods = await books.payload(
        REFUND, orderId=str(books.order_id), lines=[value], cause="PRICE_PROTECTION", reference="call 7"
    )
    # 1,000 without tax; of the tax of 2,301 on 17,699 its part, half up: 130.
    assert goods["refund"]["amount"]["minorUnits"] == "1130"
    twice = await books.ask(REFUND, orderId=str(books.order_id), lines=[value], reference="call 7")
    assert codes_of(twice) == ["REFUND_ALREADY_REQUESTED"]
    own_pocket = await books.ask(
        REFUND, orderId=str(books.order_id), goodwill=True, amount={"amount": "1.00", "currencyCode": "CNY"}
    )
    assert codes_of(own_pocket) == ["GOODWILL_IS_THE_PLATFORMS"]


async def test_a_merchant_answers_a_dispute_and_sees_what_is_frozen(books: Books) -> None:
    await books.dispute("needs_response", 10_000)

    (seen,) = (await books.ask(DISPUTES))["data"]["disputes"]["nodes"]
    assert (seen["stage"], seen["orderIds"]) == ("OPEN", [str(books.order_id)])
    assert seen["amount"]["minorUnits"] == "10000"
    assert 0 < int(seen["frozen"]["minorUnits"]) < 10_000

    unknown = await books.ask(EVIDENCE, disputeId="du_1", fields=[{"name": "excuse", "value": "x"}])
    assert codes_of(unknown) == ["EVIDENCE_INVALID"]
    fields = [{"name": "shipping_tracking_number", "value": "PRIVATE0"}]
    given = await books.payload(EVIDENCE, disputeId="du_1", fields=fields)
    assert given["dispute"]["evidence"] == [
        {"status": "QUEUED", "final": True, "fields": {"shipping_tracking_number": "PRIVATE0"}}
    ]
    assert codes_of(await books.ask(EVIDENCE, disputeId="du_1", fields=fields)) == ["EVIDENCE_SUBMITTED"]
    assert codes_of(await books.ask(CONCEDE, books.market.promoter_token, disputeId="du_1")) == [
        "DISPUTE_NOT_FOUND"
    ]
    refused = await books.ask(REFUND, orderId=str(books.order_id), everything=True)
    assert codes_of(refused) == ["ORDER_DISPUTED"]


async def test_a_debt_is_seen_with_its_reason_and_given_up_by_two_people(books: Books) -> None:
    merchant = str(books.market.shop.promotion.merchant.brand_id)
    async with books.db.unit_of_work(SYSTEM) as session:
        second = await signed_up(session, books.clock, TenantKind.PLATFORM, name="Lianyu Two")
        # Everything released and paid out: what a lost dispute takes is owed then.
        await session.execute(text("UPDATE split_parts SET due_at = '2026-01-01' WHERE due_at IS NOT NULL"))
    # No provider is here to ask for a refund.
    await books.served.work(without=frozenset({"orders.refund_requested"}))
    await _release_and_pay_out(books)
    await books.dispute("lost", 10_000)

    (owed,) = (await books.ask(OWED, p=merchant))["data"]["receivables"]["nodes"]
    amount = int(owed["owed"]["minorUnits"])
    assert amount > 0
    assert {(debt["rule"], debt["orderId"]) for debt in owed["debts"]} == {("R9c", str(books.order_id))}
    assert sum(int(debt["open"]["minorUnits"]) for debt in owed["debts"]) == amount

    asked: dict[str, Any] = {
        "payeeId": merchant,
        "amount": {"amount": owed["owed"]["amount"], "currencyCode": "CNY"},
    }
    assert codes_of(await books.ask(ASK, **asked, reason="gone")) == ["MISSING_SCOPE"]
    assert codes_of(await books.ask(ASK, books.operator, **asked, reason=" ")) == ["REASON_MISSING"]
    write_off = (await books.payload(ASK, books.operator, **asked, reason="gone"))["writeOff"]
    assert write_off["status"] == "ASKED"
    alone = await books.ask(DECIDE, books.operator, id=write_off["id"], approve=True)
    assert codes_of(alone) == ["APPROVER_MUST_DIFFER"]
    done = await books.payload(DECIDE, second.token, id=write_off["id"], approve=True)
    assert done["writeOff"]["status"] == "APPROVED"
    assert (await books.ask(OWED, p=merchant))["data"]["receivables"]["nodes"] == []


async def _release_and_pay_out(books: Books) -> None:
    """The merchant's money leaves the books, as a payout would take it."""
    while await service.release_due(books.db, clock=books.clock):
        pass
    merchant = str(books.market.shop.promotion.merchant.brand_id)
    account = party_account(Code.AVAILABLE, merchant, "CNY")
    async with books.db.unit_of_work(SYSTEM) as session:
        held = (await ledger.hold(session, [account]))[account]
        legs = (
            debit(account, held),
            credit(provider_account(Code.PROVIDER_AVAILABLE, "stripe", "CNY"), held),
        )
        journal = Journal("payout:by-hand", "payout_settled", legs, books.clock.now())
        await ledger.post(session, journal, now=books.clock.now())


async def test_terms_a_party_sets_and_terms_the_platform_sets(books: Books) -> None:
    merchant = str(books.market.shop.promotion.merchant.brand_id)

    named = await books.payload(
        TERMS, currencyCode="CNY", legalName="山茶里有限公司", timeZone="Asia/Shanghai"
    )
    assert (named["terms"]["legalName"], named["terms"]["timeZone"]) == ("山茶里有限公司", "Asia/Shanghai")
    assert codes_of(await books.ask(TERMS, currencyCode="CNY", cycle="WEEKLY")) == ["MISSING_SCOPE"]
    other = str(books.market.shop.promotion.promoter.brand_id)
    assert codes_of(await books.ask(TERMS, currencyCode="CNY", payeeId=other, legalName="x")) == [
        "MISSING_SCOPE"
    ]
    held = await books.payload(
        TERMS, books.operator, currencyCode="CNY", payeeId=merchant, cycle="WEEKLY", reservePpm=100_000,
        reserveDays=30,
    )  # fmt: skip
    assert (held["terms"]["cycle"], held["terms"]["reservePpm"]) == ("WEEKLY", 100_000)
    bad = await books.ask(TERMS, currencyCode="CNY", timeZone="Mars/Olympus")
    assert codes_of(bad) == ["UNKNOWN_TIME_ZONE"]


async def test_the_operators_reads_and_policies_are_the_operators(books: Books) -> None:
    shut = await books.ask(FUNDS)
    assert set(codes_of(shut)) == {"MISSING_SCOPE"}
    seen = await books.ask(FUNDS, books.operator)
    assert codes_of(seen) == []
    await books.payload(POLICY, books.operator, absorption={"upToMinor": 500}, recovery={"afterDays": 7})
    negative = await books.ask(POLICY, books.operator, absorption={"upToMinor": -1})
    assert codes_of(negative) == ["POLICY_INVALID"]
    assert codes_of(await books.ask(POLICY, absorption={"upToMinor": 1})) == ["MISSING_SCOPE"]
    nothing = await books.ask(
        ABSORB, books.operator, disputeId="du_1", orderId=str(books.order_id), reason="kind"
    )
    assert codes_of(nothing) == ["DISPUTE_NOT_LOST"]


async def test_a_statement_comes_in_three_forms_to_its_party_alone(books: Books) -> None:
    found = await books.ask("{ statements { nodes { id hash } } }")
    (statement,) = found["data"]["statements"]["nodes"]
    merchant = {"authorization": f"Bearer {books.market.merchant_token}"}

    document = await books.served.api.get(f"/statements/{statement['id']}.json", headers=merchant)
    assert hashlib.sha256(document.content).hexdigest() == statement["hash"]
    lines = await books.served.api.get(f"/statements/{statement['id']}.csv", headers=merchant)
    assert lines.text.startswith("section,entry,journal,")
    printed = await books.served.api.get(f"/statements/{statement['id']}.pdf", headers=merchant)
    assert (printed.headers["content-type"], printed.content[:5]) == ("application/pdf", b"%PDF-")

    stranger = {"authorization": f"Bearer {books.market.promoter_token}"}
    for headers, path, status in (
        (stranger, f"{statement['id']}.json", 404), ({}, f"{statement['id']}.json", 401),
        (merchant, f"{statement['id']}.xls", 404), (merchant, "nonsense.pdf", 422),
    ):  # fmt: skip
        answer = await books.served.api.get(f"/statements/{path}", headers=headers)
        assert answer.status_code == status, path


async def test_a_line_of_a_statement_is_contested_answered_and_ruled(books: Books) -> None:
    promoter, token = books.market.shop.promotion.promoter.brand_id, books.market.promoter_token
    await horizon_passed(books.db)
    async with books.db.unit_of_work(SYSTEM) as session:
        closed = await service.close_statement(
            session, str(promoter), currency="CNY", period_from=books.clock.now() - timedelta(days=2),
            period_to=books.clock.now(), now=books.clock.now(),
        )  # fmt: skip
    entries = await books.ask("{ ledgerEntries(first: 50) { nodes { id kind } } }", token)
    entry = next(e["id"] for e in entries["data"]["ledgerEntries"]["nodes"] if e["kind"] == "capture")
    asked: dict[str, Any] = {"statementId": str(closed.id), "entry": entry, "reason": "15 %, not 10"}
    claim: dict[str, Any] = {"claimed": {"amount": "2.00", "currencyCode": "CNY"}}

    stranger = await books.ask(OPEN, **asked, **claim)
    assert codes_of(stranger) == ["STATEMENT_NOT_FOUND"]
    contest = (await books.payload(OPEN, token, **asked, **claim))["contest"]
    merchant = str(books.market.shop.promotion.merchant.brand_id)
    assert (contest["status"], contest["claimed"]["minorUnits"], contest["against"]) == (
        "OPEN",
        "200",
        merchant,
    )
    assert codes_of(await books.ask(OPEN, token, **asked, **claim)) == ["ALREADY_CONTESTED"]
    assert codes_of(await books.ask(ESCALATE, token, id=contest["id"], escalation="no")) == ["CONTEST_MOVED"]

    answered = await books.payload(ANSWER, id=contest["id"], accept=False, reply="10 % was agreed")
    assert answered["contest"]["status"] == "ADVERTISER_REPLY"
    escalated = await books.payload(ESCALATE, token, id=contest["id"], escalation="see version 2")
    assert escalated["contest"]["status"] == "ESCALATED"
    half: dict[str, Any] = {"granted": {"amount": "1.00", "currencyCode": "CNY"}, "ruling": "half"}
    assert codes_of(await books.ask(RULE, id=contest["id"], **half)) == ["MISSING_SCOPE"]
    ruled = await books.payload(RULE, books.operator, id=contest["id"], **half)
    assert (ruled["contest"]["status"], ruled["contest"]["granted"]["minorUnits"]) == ("RULED", "100")
    listed = await books.ask("{ statementContests { nodes { id status } } }")
    assert listed["data"]["statementContests"]["nodes"] == [{"id": contest["id"], "status": "RULED"}]


async def test_a_supplier_prints_its_statement(books: Books) -> None:
    supplier, token = books.served.supplier, books.market.supplier_token
    (statement,) = (await supplier("GET", "/settlements", token=token)).json()["items"]

    printed = await supplier("GET", f"/settlements/{statement['id']}/statement.pdf", token=token)

    assert (printed.status_code, printed.content[:5]) == (200, b"%PDF-")
