"""Disputes: opened by a card, a switch or the admin; won, lost or accepted."""

from __future__ import annotations

from typing import Any


def test_a_dispute_withdraws_amount_and_fee_and_winning_returns_the_amount(paysim: Any) -> None:
    intent = paysim.paid(10_388)
    dispute = paysim.admin("POST", "/disputes", charge=intent["id"], reason="product_not_received")
    withdrawn = dispute["balance_transactions"][0]
    assert (withdrawn["amount"], withdrawn["fee"], withdrawn["net"]) == (-10_388, 1_500, -11_888)
    assert (withdrawn["type"], withdrawn["reporting_category"]) == ("adjustment", "dispute")
    assert paysim.refused("/v1/refunds", payment_intent=intent["id"])["code"] == "charge_disputed"

    won = paysim.ok(f"/v1/disputes/{dispute['id']}", **{"evidence[uncategorized_text]": "winning_evidence"})
    assert won["status"] == "won"
    assert [row["net"] for row in won["balance_transactions"]] == [-11_888, 10_388]
    twice = paysim.post(f"/v1/disputes/{dispute['id']}/close")
    assert twice.status_code == 400


def test_the_dispute_card_opens_one_by_itself_and_closing_loses_it(paysim: Any, receiver: Any) -> None:
    intent = paysim.paid(5_000, payment_method="pm_card_createDispute")
    found = paysim.get("/v1/disputes", payment_intent=intent["id"]).json()["data"]
    assert [row["status"] for row in found] == ["needs_response"]

    assert paysim.ok(f"/v1/disputes/{found[0]['id']}/close")["status"] == "lost"
    receiver.wait("charge.dispute.closed")
    types = {event["type"] for event in receiver.events()}
    assert {"charge.dispute.created", "charge.dispute.funds_withdrawn", "charge.dispute.closed"} <= types
    assert "charge.dispute.funds_reinstated" not in types
