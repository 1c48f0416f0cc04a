"""Refunds: slices, refusals, failures; the fee stays with the provider."""

from __future__ import annotations

from datetime import timedelta
from typing import Any


def balance(paysim: Any) -> tuple[int, int]:
    body = paysim.get("/v1/balance").json()
    by = {name: {row["currency"]: row["amount"] for row in body[name]} for name in ("available", "pending")}
    return by["available"].get("usd", 0), by["pending"].get("usd", 0)


def test_slices_empty_a_charge_exactly_and_nothing_more(paysim: Any) -> None:
    intent = paysim.paid(10_388)
    available, pending = balance(paysim)
    for part in (4_770, 5_000):
        refund = paysim.ok("/v1/refunds", payment_intent=intent["id"], amount=part)
        assert (refund["status"], refund["amount"]) == ("succeeded", part)

    over = paysim.refused("/v1/refunds", payment_intent=intent["id"], amount=619)
    assert (over["status"], over["param"]) == (400, "amount")
    assert over["message"] == "Refund amount ($6.19) is greater than unrefunded amount on charge ($6.18)"

    assert paysim.ok("/v1/refunds", charge=intent["latest_charge"])["amount"] == 618
    empty = paysim.refused("/v1/refunds", payment_intent=intent["id"])
    assert empty["code"] == "charge_already_refunded"
    charge = paysim.get(f"/v1/charges/{intent['latest_charge']}").json()
    assert (charge["amount_refunded"], charge["refunded"]) == (10_388, True)
    # The whole amount leaves what is available; the fee of 331 is not given back.
    assert balance(paysim) == (available - 10_388, pending)


def test_a_refund_needs_a_payment_that_happened(paysim: Any) -> None:
    unpaid = paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")
    assert (
        paysim.refused("/v1/refunds", payment_intent=unpaid["id"])["code"]
        == "payment_intent_unexpected_state"
    )
    assert paysim.refused("/v1/refunds", charge="ch_absent")["code"] == "resource_missing"
    assert paysim.refused("/v1/refunds", amount=5)["code"] == "parameter_missing"
    paid = paysim.paid()
    assert paysim.refused("/v1/refunds", payment_intent=paid["id"], amount=-1)["param"] == "amount"
    assert paysim.refused("/v1/refunds", payment_intent=paid["id"], reason="mood")["param"] == "reason"


def test_a_failed_refund_returns_the_money_and_says_why(paysim: Any, receiver: Any) -> None:
    intent = paysim.paid(10_000)
    before = balance(paysim)
    paysim.fault("refund_failure", after_s=60, pending=True)
    refund = paysim.ok("/v1/refunds", payment_intent=intent["id"], amount=4_000)
    assert refund["status"] == "pending"
    assert balance(paysim) == (before[0] - 4_000, before[1])

    paysim.clock.advance(timedelta(seconds=61))
    receiver.wait("refund.failed")
    failed = paysim.get(f"/v1/refunds/{refund['id']}").json()

    assert (failed["status"], failed["failure_reason"]) == ("failed", "lost_or_stolen_card")
    assert failed["failure_balance_transaction"].startswith("txn_")
    assert balance(paysim) == before
    assert paysim.get(f"/v1/charges/{intent['latest_charge']}").json()["amount_refunded"] == 0


def test_test_cards_settle_their_refunds_later(paysim: Any) -> None:
    fails = paysim.paid(payment_method="pm_card_refundFail")
    waits = paysim.paid(payment_method="pm_card_pendingRefund")
    failing = paysim.ok("/v1/refunds", payment_intent=fails["id"])
    waiting = paysim.ok("/v1/refunds", payment_intent=waits["id"])
    assert (failing["status"], waiting["status"]) == ("succeeded", "pending")

    paysim.clock.advance(timedelta(hours=2))
    assert paysim.get(f"/v1/refunds/{failing['id']}").json()["status"] == "failed"
    assert paysim.get(f"/v1/refunds/{waiting['id']}").json()["status"] == "succeeded"
