"""The gateway port in front of either provider."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from infra.payments.errors import IdempotencyMismatch, PaymentDeclined, ProviderRefused
from infra.payments.gateway import IntentStatus, PaymentIntent
from infra.payments.stripe_gateway import StripeGateway

RETURN_URL = "https://example.com/back"


async def opened(gateway: StripeGateway, amount_minor: int = 10_388) -> tuple[PaymentIntent, str]:
    order = uuid.uuid4().hex
    intent = await gateway.create_intent(
        order_ref=order, amount_minor=amount_minor, currency="USD", key=f"{order}:intent"
    )
    return intent, order


async def paid(gateway: StripeGateway, amount_minor: int = 10_388) -> PaymentIntent:
    intent, order = await opened(gateway, amount_minor)
    return await gateway.confirm_intent(
        intent.id, payment_method="pm_card_visa", key=f"{order}:confirm", return_url=RETURN_URL
    )


async def test_a_card_is_charged_and_the_group_kept(either: StripeGateway) -> None:
    intent = await paid(either)
    assert (intent.status, intent.amount_received_minor) == (IntentStatus.SUCCEEDED, 10_388)
    assert intent.transfer_group == intent.metadata["order_ref"]
    charge = await either.retrieve_charge(intent.latest_charge_id or "")
    assert charge.balance_transaction is not None
    assert charge.balance_transaction.net_minor == 10_388 - charge.balance_transaction.fee_minor


async def test_a_decline_names_its_reason_and_leaves_the_intent_open(either: StripeGateway) -> None:
    intent, order = await opened(either)
    with pytest.raises(PaymentDeclined) as declined:
        await either.confirm_intent(
            intent.id,
            payment_method="pm_card_chargeDeclinedInsufficientFunds",
            key=f"{order}:confirm",
            return_url=RETURN_URL,
        )
    assert declined.value.decline_code == "insufficient_funds"
    assert (await either.retrieve_intent(intent.id)).status is IntentStatus.REQUIRES_PAYMENT_METHOD


async def test_three_d_secure_sends_the_payer_somewhere(either: StripeGateway) -> None:
    intent, order = await opened(either)
    waiting = await either.confirm_intent(
        intent.id,
        payment_method="pm_card_threeDSecure2Required",
        key=f"{order}:confirm",
        return_url=RETURN_URL,
    )
    assert waiting.status is IntentStatus.REQUIRES_ACTION
    assert waiting.next_action_url


async def test_refunds_stop_at_the_amount_paid(either: StripeGateway) -> None:
    intent = await paid(either)
    refund: dict[str, Any] = {"charge_or_intent": intent.id, "amount_minor": 10_000}
    first = await either.refund(**refund, key=f"{intent.id}:1")
    assert first.status in {"succeeded", "pending"}
    assert await either.refund(**refund, key=f"{intent.id}:1") == first
    with pytest.raises(ProviderRefused):
        await either.refund(**refund, key=f"{intent.id}:2")
    assert [found.id for found in await either.find_refunds(intent.id)] == [first.id]


async def test_a_key_belongs_to_one_body(either: StripeGateway) -> None:
    intent, order = await opened(either)
    again = await either.create_intent(
        order_ref=order, amount_minor=10_388, currency="USD", key=f"{order}:intent"
    )
    assert again.id == intent.id
    with pytest.raises(IdempotencyMismatch):
        await either.create_intent(order_ref=order, amount_minor=1_000, currency="USD", key=f"{order}:intent")


async def test_a_paid_intent_cannot_be_cancelled_an_open_one_can(either: StripeGateway) -> None:
    intent, order = await opened(either)
    assert (await either.cancel_intent(intent.id, key=f"{order}:x")).status is IntentStatus.CANCELED
    done = await paid(either)
    with pytest.raises(ProviderRefused) as refused:
        await either.cancel_intent(done.id, key=f"{done.id}:x")
    assert refused.value.provider_code == "payment_intent_unexpected_state"


async def test_what_does_not_exist_is_refused_by_name(either: StripeGateway) -> None:
    with pytest.raises(ProviderRefused) as absent:
        await either.retrieve_intent("pi_absent")
    assert (absent.value.provider_code, absent.value.http_status) == ("resource_missing", 404)
    with pytest.raises(ProviderRefused):
        await either.create_intent(order_ref="o", amount_minor=-5, currency="USD", key=uuid.uuid4().hex)
