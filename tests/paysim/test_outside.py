"""What only the outside world does: inquiries, partial disputes, automatic payouts, made-up rows, late money."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest


def available(paysim: Any, currency: str = "usd") -> int:
    body = paysim.get("/v1/balance").json()
    return sum(row["amount"] for row in body["available"] if row["currency"] == currency)


def admin(paysim: Any, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": "Bearer ak_suite"}
    return httpx.post(f"{paysim.url}/_paysim{path}", json=body, headers=headers, trust_env=False)


def test_an_inquiry_moves_nothing_until_it_is_escalated(paysim: Any, receiver: Any) -> None:
    intent, before = paysim.paid(10_388), available(paysim)
    inquiry = paysim.admin("POST", "/disputes", charge=intent["id"], inquiry=True)
    assert (inquiry["status"], inquiry["balance_transactions"]) == ("warning_needs_response", [])
    assert inquiry["is_charge_refundable"]
    assert available(paysim) == before
    assert paysim.ok("/v1/refunds", payment_intent=intent["id"], amount=388)["amount"] == 388

    now = paysim.admin("POST", f"/disputes/{inquiry['id']}/escalate")
    assert (now["status"], now["balance_transactions"][0]["net"]) == ("needs_response", -11_888)
    assert paysim.refused("/v1/refunds", payment_intent=intent["id"])["code"] == "charge_disputed"
    won = paysim.admin("POST", f"/disputes/{inquiry['id']}/close", status="won", fee_back=True)
    assert [row["net"] for row in won["balance_transactions"]] == [-11_888, 11_888]
    assert available(paysim) == before - 388
    types = [event["type"] for event in receiver.wait("charge.dispute.closed")]
    assert types == ["charge.dispute.closed"]


def test_a_closed_inquiry_leaves_the_charge_as_it_was(paysim: Any) -> None:
    intent = paysim.paid(5_000)
    inquiry = paysim.admin("POST", "/disputes", charge=intent["id"], inquiry=True)
    assert paysim.ok(f"/v1/disputes/{inquiry['id']}/close")["status"] == "warning_closed"
    assert paysim.ok("/v1/refunds", payment_intent=intent["id"])["amount"] == 5_000


def test_several_disputes_of_one_charge_never_exceed_it(paysim: Any) -> None:
    intent = paysim.paid(10_000)
    first = paysim.admin("POST", "/disputes", charge=intent["id"], amount=4_000)
    second = paysim.admin("POST", "/disputes", charge=intent["id"], amount=6_000, fee=0)
    assert admin(paysim, "/disputes", charge=intent["id"], amount=1).status_code == 400
    assert [row["fee"] for row in second["balance_transactions"]] == [0]
    paysim.admin("POST", f"/disputes/{first['id']}/close", status="won")
    assert paysim.refused("/v1/refunds", payment_intent=intent["id"], amount=1)["code"] == "charge_disputed"
    paysim.admin("POST", f"/disputes/{second['id']}/close", status="won")
    assert paysim.ok("/v1/refunds", payment_intent=intent["id"])["amount"] == 10_000


def test_evidence_is_taken_once_and_not_after_its_last_day(paysim: Any) -> None:
    slow, quick = (
        paysim.admin("POST", "/disputes", charge=paysim.paid(5_000)["id"], **options)
        for options in ({"lapses": True}, {})
    )
    path = f"/v1/disputes/{quick['id']}"
    assert paysim.ok(path, **{"evidence[receipt]": "r", "submit": "false"})["status"] == "needs_response"
    assert paysim.ok(path, submit="true")["status"] == "under_review"
    assert paysim.refused(path, **{"evidence[receipt]": "s"})["param"] == "evidence"
    assert paysim.refused(path, **{"evidence[receipt]": "x" * 20_001})["status"] == 400
    paysim.clock.advance(timedelta(days=10))
    lapsed = paysim.get(f"/v1/disputes/{slow['id']}").json()
    assert (lapsed["status"], lapsed["evidence_details"]["past_due"]) == ("lost", True)
    assert paysim.get(path).json()["status"] == "under_review"


def test_disputes_and_warnings_come_by_themselves_where_a_switch_says_so(paysim: Any, receiver: Any) -> None:
    paysim.fault("dispute", match={"amount": "7777"}, reason="product_not_received", amount=7_000)
    paysim.fault("early_fraud", match={"amount": "7777"}, fraud_type="unauthorized_use_of_card")
    intent = paysim.paid(7_777)
    dispute = paysim.get("/v1/disputes", payment_intent=intent["id"]).json()["data"][0]
    assert (dispute["amount"], dispute["reason"]) == (7_000, "product_not_received")
    receiver.wait("radar.early_fraud_warning.created")
    url = f"{paysim.url}/v1/radar/early_fraud_warnings?payment_intent={intent['id']}"
    headers = {"authorization": "Bearer sk_test_suite"}
    (warning,) = httpx.get(url, headers=headers, trust_env=False).json()["data"]
    assert (warning["fraud_type"], warning["charge"]) == ("unauthorized_use_of_card", intent["latest_charge"])


def test_an_automatic_payout_lists_the_rows_it_is_made_of(paysim: Any, receiver: Any) -> None:
    paysim.funded(20_000)
    paysim.admin("POST", "/balance_transactions", type="stripe_fee", amount=-250, source="fee_1")
    held = available(paysim)
    payout = paysim.admin("POST", "/payouts/automatic")
    assert (payout["automatic"], payout["reconciliation_status"], payout["amount"]) == (
        True,
        "in_progress",
        held,
    )
    rows = paysim.get("/v1/balance_transactions", payout=payout["id"], limit=100).json()["data"]
    covered = {row["id"] for row in rows}
    assert sum(row["net"] for row in rows) == 0
    assert [row["net"] for row in rows if row["type"] == "payout"] == [-held]
    paysim.clock.advance(timedelta(hours=13))
    assert paysim.get(f"/v1/payouts/{payout['id']}").json()["status"] == "in_transit"
    assert paysim.refused(f"/v1/payouts/{payout['id']}/cancel")["status"] == 400
    paysim.clock.advance(timedelta(days=2))
    (told,) = receiver.wait("payout.reconciliation_completed")
    assert told["data"]["object"]["reconciliation_status"] == "completed"
    assert receiver.wait("payout.updated")
    # What comes later belongs to the next one.
    paysim.funded(50_000)
    left = available(paysim)
    later = paysim.admin("POST", "/payouts/automatic")
    rows = paysim.get("/v1/balance_transactions", payout=later["id"], limit=100).json()["data"]
    assert (later["amount"], sum(row["net"] for row in rows)) == (left, 0)
    assert not {row["id"] for row in rows} & covered


@pytest.mark.parametrize(
    ("type", "amount", "category"),
    [
        ("stripe_fee", -250, "fee"),
        ("tax_fee", -15, "tax"),
        ("reserve_transaction", -4_000, "risk_reserved_funds"),
        ("adjustment", 700, "other_adjustment"),
        ("topup", 10_000, "topup"),
    ],
)
def test_rows_nobody_called_for_are_rows_like_others(
    paysim: Any, type: str, amount: int, category: str
) -> None:
    before = available(paysim)
    row = paysim.admin("POST", "/balance_transactions", type=type, amount=amount, source="x")
    assert (row["reporting_category"], row["net"]) == (category, amount)
    assert available(paysim) == before + amount
    found = paysim.get("/v1/balance_transactions", source="x", type=type).json()["data"]
    assert row["id"] in [each["id"] for each in found]


def test_rows_that_make_no_sense_are_refused(paysim: Any) -> None:
    for wrong in (
        {"type": "gift", "amount": 1},
        {"type": "topup", "amount": 0},
        {"type": "topup", "amount": "1"},
    ):
        assert admin(paysim, "/balance_transactions", **wrong).status_code == 400


def test_a_charge_in_another_currency_settles_with_its_rate(paysim: Any) -> None:
    # money.md R10: EUR 90.00 at 1.08 is USD 97.20; the fee is 2.9 % + 0.30 of it: 3.1188 → 3.12.
    paysim.admin("POST", "/fx", eur={"to": "usd", "rate": "1.08"})
    intent = paysim.paid(9_000, "eur")
    paysim.admin("POST", "/fx")
    row = paysim.get("/v1/balance_transactions", source=intent["latest_charge"]).json()["data"][0]
    assert (row["amount"], row["currency"], row["exchange_rate"], row["fee"]) == (9_720, "usd", 1.08, 312)
    assert paysim.get(f"/v1/charges/{intent['latest_charge']}").json()["amount"] == 9_000


def test_money_can_be_late(paysim: Any) -> None:
    paysim.fault("late_availability", match={"amount": "8888"}, days=9)
    late, usual = paysim.paid(8_888), paysim.paid(8_889)
    rows = {
        intent["id"]: paysim.get("/v1/balance_transactions", source=intent["latest_charge"]).json()["data"][0]
        for intent in (late, usual)
    }
    waits = [rows[each["id"]]["available_on"] - rows[each["id"]]["created"] for each in (late, usual)]
    assert waits == [9 * 86_400, 2 * 86_400]


def test_a_refund_that_waits_for_the_payer_can_be_cancelled(paysim: Any, receiver: Any) -> None:
    intent, before = paysim.paid(5_000), available(paysim)
    paysim.fault("refund_action")
    refund = paysim.ok("/v1/refunds", payment_intent=intent["id"], amount=2_000)
    assert (refund["status"], available(paysim)) == ("requires_action", before - 2_000)
    gone = paysim.ok(f"/v1/refunds/{refund['id']}/cancel")
    assert (gone["status"], available(paysim)) == ("canceled", before)
    assert paysim.refused(f"/v1/refunds/{refund['id']}/cancel")["status"] == 400
    assert paysim.ok("/v1/refunds", payment_intent=intent["id"])["amount"] == 5_000


def test_transfers_reversals_and_payouts_can_be_refused_for_balance(paysim: Any) -> None:
    paysim.funded(200_000)
    account = paysim.account()["id"]
    form = {"amount": 1_000, "currency": "usd", "destination": account}
    paysim.fault("transfer_refusal", match={"account": account})
    assert paysim.refused("/v1/transfers", **form)["code"] == "balance_insufficient"
    transfer = paysim.ok("/v1/transfers", **form)
    paysim.fault("reversal_refusal", match={"account": account})
    path = f"/v1/transfers/{transfer['id']}/reversals"
    assert paysim.refused(path, amount=10)["code"] == "balance_insufficient"
    assert paysim.ok(path, amount=10)["amount"] == 10
    paysim.fault("payout_refusal")
    assert paysim.refused("/v1/payouts", amount=100, currency="usd")["code"] == "balance_insufficient"


def test_a_500_is_stored_under_its_key_or_not_as_the_switch_says(paysim: Any) -> None:
    form = {"amount": 4_200, "currency": "usd"}
    for stored, then in ((True, 500), (False, 200)):
        paysim.fault("server_error", match={"operation": "intents.create"}, stored=stored)
        answers = [paysim.post("/v1/payment_intents", key=f"k{stored}", **form).status_code for _ in range(2)]
        assert answers == [500, then]


def test_an_authorisation_nobody_captures_expires_after_a_week(paysim: Any, receiver: Any) -> None:
    intent = paysim.paid(5_000, capture_method="manual")
    paysim.clock.advance(timedelta(days=7, seconds=1))
    now = paysim.get(f"/v1/payment_intents/{intent['id']}").json()
    assert (now["status"], now["cancellation_reason"]) == ("canceled", "automatic")
    receiver.wait("charge.expired")


def test_the_last_of_three_decimals_is_not_charged(paysim: Any) -> None:
    assert paysim.refused("/v1/payment_intents", amount=10_381, currency="kwd")["param"] == "amount"
    assert paysim.paid(10_380, "kwd")["status"] == "succeeded"


def test_an_impossible_version_is_refused(paysim: Any) -> None:
    headers = {"authorization": "Bearer sk_test_suite", "stripe-version": "tomorrow"}
    assert httpx.get(f"{paysim.url}/v1/balance", headers=headers, trust_env=False).status_code == 400
