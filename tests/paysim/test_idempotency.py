"""One key, one effect; the stored answer afterwards, errors included."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

INTENT = {"amount": 4_200, "currency": "usd"}


def intents(paysim: Any) -> int:
    count: int = paysim.admin("GET", "/state")["objects"].get("payment_intent", 0)
    return count


def test_the_same_key_and_body_replay_the_first_answer(paysim: Any) -> None:
    before = intents(paysim)
    first = paysim.post("/v1/payment_intents", key="same", **INTENT)
    again = paysim.post("/v1/payment_intents", key="same", **INTENT)

    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"]
    assert intents(paysim) == before + 1


def test_the_same_key_with_another_body_or_path_is_refused(paysim: Any) -> None:
    paysim.post("/v1/payment_intents", key="other", **INTENT)

    body = paysim.refused("/v1/payment_intents", key="other", amount=4_201, currency="usd")
    path = paysim.refused("/v1/accounts", key="other", country="US")

    assert (body["status"], body["type"]) == (400, "idempotency_error")
    assert (path["status"], path["type"]) == (400, "idempotency_error")


def test_twelve_equal_requests_at_once_have_one_effect(paysim: Any) -> None:
    before = intents(paysim)
    with ThreadPoolExecutor(12) as pool:
        answers = list(
            pool.map(lambda _: paysim.post("/v1/payment_intents", key="race", **INTENT), range(12))
        )

    assert intents(paysim) == before + 1
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 1


def test_a_key_in_flight_answers_409(paysim: Any) -> None:
    # Whichever comes first holds the key for so long; the other meets it, unless the machine held it up for longer.
    for seconds in (1, 5, 25):
        key = f"slow-{seconds}"
        paysim.fault("delay_response", match={"key": key}, seconds=seconds)
        with ThreadPoolExecutor(2) as pool:
            both = list(
                pool.map(lambda key: paysim.post("/v1/payment_intents", key=key, **INTENT), [key] * 2)
            )
        conflicts = [answer for answer in both if answer.status_code == 409]
        if conflicts:
            break

    assert sorted(answer.status_code for answer in both) == [200, 409]
    assert conflicts[0].json()["error"]["code"] == "idempotency_key_in_use"


def test_errors_are_stored_once_the_endpoint_began(paysim: Any) -> None:
    declined = {**INTENT, "confirm": "true", "payment_method": "pm_card_chargeDeclined"}
    first = paysim.post("/v1/payment_intents", key="declined", **declined)
    again = paysim.post("/v1/payment_intents", key="declined", **declined)
    assert (first.status_code, again.content) == (402, first.content)

    paysim.fault("server_error", match={"key": "broken"})
    broken = paysim.post("/v1/payment_intents", key="broken", **INTENT)
    replayed = paysim.post("/v1/payment_intents", key="broken", **INTENT)
    assert (broken.status_code, replayed.status_code) == (500, 500)
    assert replayed.headers["idempotent-replayed"] == "true"
    assert replayed.headers["stripe-should-retry"] == "false"


def test_refusals_before_the_endpoint_began_are_not_stored(paysim: Any) -> None:
    assert paysim.post("/v1/payment_intents", key="typo", amount="x", currency="usd").status_code == 400
    paysim.fault("rate_limit", match={"key": "typo"})
    assert paysim.post("/v1/payment_intents", key="typo", **INTENT).status_code == 429
    assert paysim.post("/v1/payment_intents", key="typo", **INTENT).status_code == 200


def test_keys_are_forgotten_after_a_day(paysim: Any) -> None:
    first = paysim.post("/v1/payment_intents", key="old", **INTENT).json()["id"]
    paysim.clock.advance(timedelta(hours=23, minutes=59))
    assert paysim.post("/v1/payment_intents", key="old", **INTENT).json()["id"] == first
    paysim.clock.advance(timedelta(minutes=2))
    assert paysim.post("/v1/payment_intents", key="old", **INTENT).json()["id"] != first


async def test_a_lost_response_is_answered_on_retry_without_a_second_effect(
    paysim: Any, gateway: Any
) -> None:
    before = intents(paysim)
    paysim.fault("drop_response", match={"path": "/v1/payment_intents"})

    intent = await gateway.create_intent(order_ref="O7", amount_minor=4_200, currency="USD", key="lost")

    assert intent.amount_minor == 4_200
    assert intents(paysim) == before + 1
