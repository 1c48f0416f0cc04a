"""PaymentIntents and charges: every verb, every state, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import stripe

INTENTS = "payment_intent_unexpected_state"


async def test_created_updated_confirmed_and_listed(both: Any) -> None:
    v1 = both.v1
    intent = await both.opened(transfer_group=both.fresh(), metadata={"order": "O1", "x": "y"})
    assert (intent.status, intent.amount_received) == ("requires_payment_method", 0)
    changed = await v1.payment_intents.update_async(
        intent.id, {"amount": 9_000, "description": "Tea", "metadata": {"x": "", "z": "1"}}
    )
    assert (changed.amount, changed.metadata.to_dict()) == (9_000, {"order": "O1", "z": "1"})
    done = await v1.payment_intents.confirm_async(
        intent.id, {"payment_method": "pm_card_visa", "expand": ["latest_charge.balance_transaction"]}
    )
    charge = done.latest_charge
    assert (done.status, done.amount_received, charge.amount_captured) == ("succeeded", 9_000, 9_000)
    assert charge.balance_transaction.net == 9_000 - charge.balance_transaction.fee
    assert charge.transfer_group == intent.transfer_group
    assert (await v1.payment_intents.retrieve_async(intent.id)).status == "succeeded"
    listed = await v1.payment_intents.list_async({"limit": 3, "created": {"gte": intent.created}})
    assert intent.id in [each.id for each in listed.data]
    charges = await v1.charges.list_async({"transfer_group": intent.transfer_group})
    assert [each.id for each in charges.data] == [charge.id]
    noted = await v1.charges.update_async(charge.id, {"metadata": {"a": "b"}})
    assert noted.metadata.to_dict()["a"] == "b"


@pytest.mark.parametrize("amount", [10_388, 4_000])
async def test_captured_later_whole_or_in_part(both: Any, amount: int) -> None:
    intent = await both.paid(capture_method="manual")
    assert (intent.status, intent.amount_capturable) == ("requires_capture", 10_388)
    over = await both.refused(both.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 10_389}))
    assert (over.http_status, over.param) == (400, "amount_to_capture")
    done = await both.v1.payment_intents.capture_async(intent.id, {"amount_to_capture": amount})
    assert (done.status, done.amount_received, done.amount_capturable) == ("succeeded", amount, 0)
    again = await both.refused(both.v1.payment_intents.capture_async(intent.id, {}))
    assert (again.http_status, again.code) == (400, INTENTS)
    charge = await both.v1.charges.retrieve_async(done.latest_charge)
    assert (charge.amount_captured, charge.amount_refunded) == (amount, 10_388 - amount)


async def test_cancelled_before_and_after_authorisation_but_not_when_paid(both: Any) -> None:
    intents = both.v1.payment_intents
    for intent in (await both.opened(), await both.paid(capture_method="manual")):
        gone = await intents.cancel_async(intent.id, {"cancellation_reason": "abandoned"})
        assert (gone.status, gone.cancellation_reason) == ("canceled", "abandoned")
        for call in (intents.cancel_async(gone.id, {}), intents.capture_async(gone.id, {})):
            assert (await both.refused(call)).code == INTENTS
    paid = await both.paid()
    assert (await both.refused(intents.cancel_async(paid.id, {}))).code == INTENTS
    assert (await both.refused(intents.update_async(paid.id, {"amount": 5_000}))).code == INTENTS
    assert (
        await both.refused(intents.confirm_async(paid.id, {"payment_method": "pm_card_visa"}))
    ).code == INTENTS


@pytest.mark.parametrize(
    ("card", "code", "decline_code"),
    [
        ("pm_card_visa_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ],
)
async def test_a_decline_is_a_402_and_the_intent_can_be_paid_otherwise(
    both: Any, card: str, code: str, decline_code: str
) -> None:
    intent = await both.opened()
    failed = await both.refused(both.v1.payment_intents.confirm_async(intent.id, {"payment_method": card}))
    assert isinstance(failed, stripe.CardError)
    assert (failed.http_status, failed.code) == (402, code)
    now = await both.v1.payment_intents.retrieve_async(intent.id, {"expand": ["latest_charge"]})
    assert now.status == "requires_payment_method"
    assert now.last_payment_error.code == code
    assert now.last_payment_error.decline_code in {decline_code, None}
    assert (now.latest_charge.status, now.latest_charge.failure_code) == ("failed", code)
    done = await both.v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_visa"})
    assert done.status == "succeeded"


async def test_three_d_secure_asks_for_an_action_or_fails_where_none_is_possible(both: Any) -> None:
    card = {"payment_method": "pm_card_threeDSecure2Required"}
    redirects = {"automatic_payment_methods": {"enabled": True}}
    asked = await both.v1.payment_intents.confirm_async(
        (await both.opened(**redirects)).id, {**card, "return_url": "https://example.com/back"}
    )
    assert (asked.status, asked.next_action.type) == ("requires_action", "redirect_to_url")
    offline = await both.refused(
        both.v1.payment_intents.confirm_async(
            (await both.opened()).id, {**card, "error_on_requires_action": True}
        )
    )
    assert (offline.http_status, offline.code) == (402, "authentication_required")


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"currency": "usd"}, "parameter_missing", "amount"),
        ({"amount": 1_000}, "parameter_missing", "currency"),
        ({"amount": -5, "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": "ten", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": "10.5", "currency": "usd"}, "parameter_invalid_integer", "amount"),
        ({"amount": 10, "currency": "usd"}, "amount_too_small", None),
        ({"amount": 1_000, "currency": "zzz"}, None, "currency"),
        ({"amount": 1_000, "currency": "usd", "colour": "red"}, "parameter_unknown", "colour"),
        ({"amount": 1_000, "currency": "usd", "capture_method": "later"}, None, "capture_method"),
        ({"amount": 1_000, "currency": "usd", "customer": ""}, "parameter_invalid_empty", "customer"),
        (
            {"amount": 1_000, "currency": "usd", "payment_method": "pm_absent"},
            "resource_missing",
            "payment_method",
        ),
        ({"amount": 1_000, "currency": "usd", "customer": "cus_absent"}, "resource_missing", "customer"),
        ({"amount": 1_000, "currency": "usd", "application_fee_amount": 5}, None, "application_fee_amount"),
        ({"amount": 1_000, "currency": "usd", "metadata": {"k" * 41: "v"}}, None, None),
        ({"amount": 1_000, "currency": "usd", "metadata": {"k": "v" * 501}}, None, None),
        ({"amount": 1_000, "currency": "usd", "metadata": {f"k{n}": "v" for n in range(51)}}, None, None),
        ({"amount": 1_000, "currency": "usd", "expand": ["nothing"]}, None, None),
        ({"amount": 1_000, "currency": "usd", "expand": ["latest_charge.a.b.c.d"]}, None, None),
    ],
)
async def test_unknown_missing_and_mistyped_parameters_are_refused(
    both: Any, params: dict[str, Any], code: str | None, param: str | None
) -> None:
    error = await both.refused(both.v1.payment_intents.create_async(params))
    assert isinstance(error, stripe.InvalidRequestError)
    assert error.http_status == 400
    assert code is None or error.code == code
    assert param is None or error.param == param


@pytest.mark.parametrize(("currency", "amount"), [("jpy", 10_388), ("krw", 10_388), ("kwd", 10_380)])
async def test_currencies_without_and_with_three_decimals_are_charged_in_their_units(
    both: Any, currency: str, amount: int
) -> None:
    paid = await both.paid(amount, currency=currency)
    assert (paid.status, paid.amount_received, paid.currency) == ("succeeded", amount, currency)


async def test_metadata_is_fifty_keys_at_most_after_an_update_too(both: Any) -> None:
    intent = await both.opened(metadata={f"k{n}": "v" for n in range(50)})
    update = both.v1.payment_intents.update_async
    assert (await both.refused(update(intent.id, {"metadata": {"more": "v"}}))).http_status == 400
    same = await update(intent.id, {"metadata": {"k0": "", "more": "v"}})
    assert len(same.metadata.to_dict()) == 50


async def test_lists_are_walked_both_ways_by_cursors(both: Any) -> None:
    made = [(await both.opened(5_000 + n)).id for n in range(4)]
    newest_first = made[::-1]
    intents = both.v1.payment_intents
    page = await intents.list_async({"limit": 2})
    assert ([each.id for each in page.data], page.has_more) == (newest_first[:2], True)
    older = await intents.list_async({"limit": 2, "starting_after": page.data[-1].id})
    assert [each.id for each in older.data] == newest_first[2:4]
    newer = await intents.list_async({"limit": 2, "ending_before": older.data[0].id})
    assert [each.id for each in newer.data] == newest_first[:2]
    for wrong in ({"limit": 0}, {"limit": 101}, {"starting_after": "pi_absent"}):
        assert (await both.refused(intents.list_async(wrong))).http_status == 400


async def test_what_is_absent_is_a_404_and_a_wrong_key_a_401(both: Any) -> None:
    absent = await both.refused(both.v1.payment_intents.retrieve_async("pi_absent"))
    assert (absent.http_status, absent.code) == (404, "resource_missing")
    base: Any = {"api": both.base} if both.base else None
    stranger = stripe.StripeClient(
        "sk_test_wrong", base_addresses=base, http_client=stripe.HTTPXClient(), max_network_retries=0
    )
    error = await both.refused(stranger.v1.payment_intents.retrieve_async("pi_absent"))
    assert isinstance(error, stripe.AuthenticationError)
    assert error.http_status == 401


async def test_a_key_replays_its_first_answer_errors_included_and_belongs_to_one_body(both: Any) -> None:
    create, key = both.v1.payment_intents.create_async, both.fresh()
    body = {"amount": 4_200, "currency": "usd", "automatic_payment_methods": {"enabled": True}}
    first = await create(body, {"idempotency_key": key})
    again = await create(body, {"idempotency_key": key})
    assert (again.id, again.last_response.headers.get("idempotent-replayed")) == (first.id, "true")
    other = await both.refused(create({**body, "amount": 4_201}, {"idempotency_key": key}))
    assert isinstance(other, stripe.IdempotencyError)
    assert other.http_status == 400

    paid, refund_key = await both.paid(), both.fresh()
    refund = {"payment_intent": paid.id, "amount": 99_999_999}
    for _ in range(2):
        error = await both.refused(both.v1.refunds.create_async(refund, {"idempotency_key": refund_key}))
        assert error.http_status == 400


async def test_twelve_equal_requests_at_once_make_one_intent(both: Any) -> None:
    create, key = both.v1.payment_intents.create_async, both.fresh()
    body = {"amount": 4_200, "currency": "usd", "automatic_payment_methods": {"enabled": True}}
    answers = await asyncio.gather(
        *(create(body, {"idempotency_key": key}) for _ in range(12)), return_exceptions=True
    )
    made = [each for each in answers if not isinstance(each, BaseException)]
    assert len({each.id for each in made}) == 1
    for error in answers:
        if isinstance(error, BaseException):
            assert isinstance(error, stripe.StripeError)
            assert error.http_status in {409, 429}
