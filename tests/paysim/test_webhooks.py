"""Deliveries: signed, well-formed, at least once, and every way they can go wrong on purpose."""

from __future__ import annotations

import time
from typing import Any

import stripe


def test_every_step_is_announced_signed_by_the_virtual_clock(
    paysim: Any, receiver: Any, contract: Any
) -> None:
    intent = paysim.paid(5_000)
    paysim.ok("/v1/refunds", payment_intent=intent["id"])
    announced = {
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "refund.created",
        "charge.refunded",
    }
    for type in announced:
        receiver.wait(type)

    assert {event["type"] for event in receiver.events()} == announced
    for signature, raw in receiver.deliveries:
        assert stripe.WebhookSignature.verify_header(raw, signature, "whsec_suite")
        assert signature.startswith(f"t={int(paysim.clock.now().timestamp())},v1=")
    for event in receiver.events():
        assert contract.problems(event) == []
    stored = paysim.get(f"/v1/events/{receiver.events()[0]['id']}").json()
    assert contract.problems(stored) == []
    listed = paysim.get("/v1/events", type="charge.refunded", limit=1).json()
    assert listed["data"][0]["data"]["object"]["payment_intent"] == intent["id"]


def test_a_refused_delivery_is_tried_again_until_it_is_taken(paysim: Any, receiver: Any) -> None:
    refusals = iter([500, 503, 400])
    receiver.answer = lambda event: next(refusals, 200) if event["type"] == "payment_intent.created" else 200
    paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")

    tries = receiver.wait("payment_intent.created", count=4)
    assert len({event["id"] for event in tries}) == 1
    time.sleep(0.5)
    assert len(receiver.events("payment_intent.created")) == 4


def test_held_dropped_duplicated_and_delayed_webhooks(paysim: Any, receiver: Any) -> None:
    paysim.fault("webhook_hold", match={"event": "charge.*"})
    paysim.fault("webhook_drop", match={"event": "payment_intent.created"})
    paysim.fault("webhook_duplicate", match={"event": "payment_intent.succeeded"}, copies=3)
    paysim.paid(5_000)

    receiver.wait("payment_intent.succeeded", count=3)
    time.sleep(0.3)
    assert {event["type"] for event in receiver.events()} == {"payment_intent.succeeded"}
    assert paysim.admin("POST", "/webhooks/release")["released"] == 1
    receiver.wait("charge.succeeded")

    paysim.fault("webhook_delay", match={"event": "payment_intent.created"}, seconds=0.6)
    before = time.monotonic()
    paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")
    receiver.wait("payment_intent.created")
    assert time.monotonic() - before >= 0.6


def test_shuffled_webhooks_arrive_all_in_another_order(paysim: Any, receiver: Any) -> None:
    paysim.fault("webhook_shuffle", count=None, seconds=1.0)
    # Ten draws from one second keep their order once in 10! runs, where ten calls take no time; where they take
    # three seconds, once in forty.
    for _ in range(8):
        receiver.deliveries.clear()
        made = [paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")["id"] for _ in range(10)]
        arrived = [
            event["data"]["object"]["id"] for event in receiver.wait("payment_intent.created", count=10)
        ]
        assert sorted(arrived) == sorted(made)
        if arrived != made:
            break
    assert arrived != made


def test_an_endpoint_of_its_own_gets_only_what_it_asked_for(paysim: Any, receiver: Any) -> None:
    endpoint = paysim.ok(
        "/v1/webhook_endpoints", url=receiver.url, **{"enabled_events[]": "payment_intent.canceled"}
    )
    intent = paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")
    paysim.ok(f"/v1/payment_intents/{intent['id']}/cancel")

    receiver.wait("payment_intent.canceled", count=2)
    signed_by_endpoint = [
        raw for signature, raw in receiver.deliveries if _verifies(raw, signature, endpoint["secret"])
    ]
    assert len(signed_by_endpoint) == 1


def _verifies(raw: bytes, signature: str, secret: str) -> bool:
    try:
        return bool(stripe.WebhookSignature.verify_header(raw, signature, secret))
    except stripe.SignatureVerificationError:
        return False
