"""Payment intents and charges: the states, the refusals, the fee."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import stripe


async def test_a_confirmed_intent_becomes_a_charge_with_its_fee(client: stripe.StripeClient) -> None:
    created = await client.v1.payment_intents.create_async(
        {"amount": 10_388, "currency": "usd", "transfer_group": "O1", "metadata": {"order": "O1"}}
    )
    assert created.status == "requires_payment_method"

    paid = await client.v1.payment_intents.confirm_async(
        created.id,
        {"payment_method": "pm_card_visa", "expand": ["latest_charge.balance_transaction"]},
    )

    assert paid.status == "succeeded"
    assert paid.amount_received == 10_388
    charge: Any = paid.latest_charge
    assert (charge.transfer_group, charge.metadata["order"]) == ("O1", "O1")
    transaction = charge.balance_transaction
    # 2.9 % of 10,388 is 301.252; with the fixed 30 that is 331.252, half up 331.
    assert (transaction.amount, transaction.fee, transaction.net) == (10_388, 331, 10_057)
    assert transaction.status == "pending"
    assert transaction.available_on - transaction.created == 2 * 86_400


def test_a_declined_card_leaves_a_failed_charge_and_an_intent_to_try_again(paysim: Any) -> None:
    answer = paysim.post(
        "/v1/payment_intents",
        amount=5_000,
        currency="usd",
        confirm="true",
        payment_method="pm_card_chargeDeclinedInsufficientFunds",
    )
    error = answer.json()["error"]

    assert answer.status_code == 402
    assert (error["type"], error["code"], error["decline_code"]) == (
        "card_error",
        "card_declined",
        "insufficient_funds",
    )
    intent = paysim.get(f"/v1/payment_intents/{error['payment_intent']['id']}").json()
    assert intent["status"] == "requires_payment_method"
    assert intent["last_payment_error"]["decline_code"] == "insufficient_funds"
    assert paysim.get(f"/v1/charges/{error['charge']}").json()["status"] == "failed"

    again = paysim.ok(f"/v1/payment_intents/{intent['id']}/confirm", payment_method="pm_card_visa")
    assert again["status"] == "succeeded"


def test_three_d_secure_asks_for_a_redirect_and_the_page_completes_it(paysim: Any) -> None:
    intent = paysim.ok(
        "/v1/payment_intents",
        amount=5_000,
        currency="usd",
        confirm="true",
        payment_method="pm_card_threeDSecure2Required",
        return_url="https://shop.test/done?o=1",
    )
    assert intent["status"] == "requires_action"
    page = intent["next_action"]["redirect_to_url"]["url"]

    assert "3ds" in page
    assert httpx.get(page, trust_env=False).status_code == 200
    done = httpx.post(page, data={"action": "complete"}, trust_env=False)

    assert done.status_code == 303
    assert done.headers["location"].startswith("https://shop.test/done?o=1&payment_intent=" + intent["id"])
    assert "redirect_status=succeeded" in done.headers["location"]
    assert paysim.get(f"/v1/payment_intents/{intent['id']}").json()["status"] == "succeeded"


def test_refusing_three_d_secure_fails_the_payment(paysim: Any) -> None:
    intent = paysim.ok(
        "/v1/payment_intents",
        amount=5_000,
        currency="usd",
        confirm="true",
        payment_method="pm_card_threeDSecure2Required",
    )
    page = intent["next_action"]["redirect_to_url"]["url"]
    httpx.post(page, data={"action": "fail"}, trust_env=False)

    after = paysim.get(f"/v1/payment_intents/{intent['id']}").json()
    assert after["status"] == "requires_payment_method"
    assert after["last_payment_error"]["code"] == "payment_intent_authentication_failure"


def test_manual_capture_takes_part_and_releases_the_rest(paysim: Any) -> None:
    intent = paysim.ok(
        "/v1/payment_intents",
        amount=5_000,
        currency="usd",
        confirm="true",
        payment_method="pm_card_visa",
        capture_method="manual",
    )
    assert (intent["status"], intent["amount_capturable"]) == ("requires_capture", 5_000)

    over = paysim.refused(f"/v1/payment_intents/{intent['id']}/capture", amount_to_capture=5_001)
    assert over["code"] == "amount_too_large"

    captured = paysim.ok(f"/v1/payment_intents/{intent['id']}/capture", amount_to_capture=3_000)
    assert (captured["status"], captured["amount_received"]) == ("succeeded", 3_000)
    charge = paysim.get(f"/v1/charges/{captured['latest_charge']}").json()
    assert (charge["amount_captured"], charge["amount_refunded"]) == (3_000, 2_000)

    twice = paysim.refused(f"/v1/payment_intents/{intent['id']}/capture")
    assert twice["code"] == "payment_intent_unexpected_state"
    assert twice["status"] == 400


def test_an_intent_is_cancelled_once_and_never_after_success(paysim: Any) -> None:
    open_intent = paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")
    cancelled = paysim.ok(f"/v1/payment_intents/{open_intent['id']}/cancel", cancellation_reason="abandoned")
    assert (cancelled["status"], cancelled["cancellation_reason"]) == ("canceled", "abandoned")

    for id in (open_intent["id"], paysim.paid()["id"]):
        refused = paysim.refused(f"/v1/payment_intents/{id}/cancel")
        assert refused["code"] == "payment_intent_unexpected_state"
        assert refused["payment_intent"]["id"] == id


def test_confirming_twice_or_without_a_card_is_refused(paysim: Any) -> None:
    bare = paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")
    missing = paysim.refused(f"/v1/payment_intents/{bare['id']}/confirm")
    assert (missing["status"], missing["code"]) == (400, "payment_intent_unexpected_state")

    twice = paysim.refused(
        f"/v1/payment_intents/{paysim.paid()['id']}/confirm", payment_method="pm_card_visa"
    )
    assert "already succeeded" in twice["message"]


def test_an_update_changes_an_open_intent_only(paysim: Any) -> None:
    intent = paysim.ok("/v1/payment_intents", amount=5_000, currency="usd", **{"metadata[a]": "1"})
    changed = paysim.ok(
        f"/v1/payment_intents/{intent['id']}",
        amount=6_000,
        **{"metadata[a]": "", "metadata[b]": "2"},
    )
    assert (changed["amount"], changed["metadata"]) == (6_000, {"b": "2"})

    refused = paysim.refused(f"/v1/payment_intents/{paysim.paid()['id']}", amount=1_000)
    assert refused["code"] == "payment_intent_unexpected_state"


@pytest.mark.parametrize(
    ("form", "code", "param"),
    [
        ({"currency": "usd"}, "parameter_missing", "amount"),
        ({"amount": "100"}, "parameter_missing", "currency"),
        ({"amount": "100", "currency": "usd", "colour": "red"}, "parameter_unknown", "colour"),
        ({"amount": "ten", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": "10.5", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": "-5", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": "0", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": "", "currency": "usd"}, "parameter_invalid_empty", "amount"),
        ({"amount": "49", "currency": "usd"}, "amount_too_small", "amount"),
        ({"amount": "999999999999", "currency": "usd"}, "amount_too_large", "amount"),
        ({"amount": "100", "currency": "zzz"}, None, "currency"),
        ({"amount": "100", "currency": "usd", "capture_method": "later"}, None, "capture_method"),
        ({"amount": "100", "currency": "usd", "confirm": "maybe"}, None, "confirm"),
        (
            {"amount": "100", "currency": "usd", "shipping[name]": "Li"},
            "parameter_missing",
            "shipping[address]",
        ),
        (
            {
                "amount": "100",
                "currency": "usd",
                "automatic_payment_methods[enabled]": "true",
                "automatic_payment_methods[x]": "1",
            },
            "parameter_unknown",
            "automatic_payment_methods[x]",
        ),
        (
            {"amount": "100", "currency": "usd", "payment_method": "pm_nope"},
            "resource_missing",
            "payment_method",
        ),
    ],
)
def test_bad_parameters_are_refused_by_name(
    paysim: Any, form: dict[str, str], code: str | None, param: str
) -> None:
    refused = paysim.refused("/v1/payment_intents", **form)

    assert (refused["status"], refused["type"]) == (400, "invalid_request_error")
    assert (refused.get("code"), refused["param"]) == (code, param)


def test_wrong_keys_and_unknown_things(paysim: Any) -> None:
    assert paysim.get("/v1/balance", auth="sk_test_other").status_code == 401
    assert paysim.get("/v1/balance", auth="").status_code == 401
    publishable = paysim.get("/v1/balance", auth="pk_test_suite")
    assert (publishable.status_code, publishable.json()["error"]["code"]) == (403, "secret_key_required")
    absent = paysim.get("/v1/payment_intents/pi_absent")
    assert (absent.status_code, absent.json()["error"]["code"]) == (404, "resource_missing")
    unknown = paysim.get("/v1/nothing")
    assert unknown.status_code == 404
    assert "Unrecognized request URL (GET: /v1/nothing)" in unknown.json()["error"]["message"]


def test_a_browser_confirms_with_the_publishable_key_and_the_client_secret(paysim: Any) -> None:
    intent = paysim.ok("/v1/payment_intents", amount=5_000, currency="usd")
    path = f"/v1/payment_intents/{intent['id']}"
    forged = paysim.post(
        f"{path}/confirm", auth="pk_test_suite", client_secret="x", payment_method="pm_card_visa"
    )
    assert forged.status_code == 400
    assert paysim.get(path, auth="pk_test_suite").status_code == 400

    seen = paysim.get(path, auth="pk_test_suite", client_secret=intent["client_secret"]).json()
    assert seen["status"] == "requires_payment_method"
    assert "metadata" not in seen
    paid = paysim.post(
        f"{path}/confirm",
        auth="pk_test_suite",
        client_secret=intent["client_secret"],
        payment_method="pm_card_visa",
    )
    assert paid.json()["status"] == "succeeded"


def test_the_pay_page_speaks_the_visitors_language_and_takes_the_payment(paysim: Any) -> None:
    intent = paysim.ok("/v1/payment_intents", amount=12_300, currency="cny", description="Tea <set>")
    page = f"{paysim.url}/pay/{intent['id']}"
    query = {"client_secret": intent["client_secret"], "return_url": "https://shop.test/back"}

    chinese = httpx.get(page, params=query, headers={"accept-language": "zh-CN,zh;q=0.9"}, trust_env=False)
    english = httpx.get(page, params=query, headers={"accept-language": "en"}, trust_env=False)
    assert "付款" in chinese.text
    assert "Payment" in english.text
    assert "CN¥123.00" in english.text
    assert "Tea &lt;set&gt;" in english.text
    assert httpx.get(page, params={"client_secret": "wrong"}, trust_env=False).status_code == 404

    declined = httpx.post(page, data={**query, "action": "decline"}, trust_env=False)
    assert (declined.status_code, "Your card was declined." in declined.text) == (402, True)
    secure = httpx.post(page, data={**query, "action": "three_ds"}, trust_env=False)
    assert "/3ds/" in secure.headers["location"]
    back = httpx.post(secure.headers["location"], data={"action": "complete"}, trust_env=False)
    assert back.headers["location"].startswith("https://shop.test/back?payment_intent=")
    assert paysim.get(f"/v1/payment_intents/{intent['id']}").json()["status"] == "succeeded"
