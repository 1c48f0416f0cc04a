"""Every call through Stripe's own client; the transport holds each answer against the contract."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import stripe


async def test_every_call_of_the_money_path(client: stripe.StripeClient, paysim: Any) -> None:
    v1 = client.v1
    intent = await v1.payment_intents.create_async(
        {"amount": 90_000, "currency": "usd", "capture_method": "manual", "transfer_group": "O1"}
    )
    await v1.payment_intents.update_async(intent.id, {"description": "Tea", "metadata": {"a": "b"}})
    await v1.payment_intents.confirm_async(intent.id, {"payment_method": "pm_card_bypassPending"})
    captured = await v1.payment_intents.capture_async(intent.id, {"amount_to_capture": 80_000})
    assert (captured.status, captured.metadata["a"]) == ("succeeded", "b")
    assert (await v1.payment_intents.list_async({"limit": 1})).data[0].id == intent.id
    method: Any = captured.payment_method
    assert (await v1.payment_methods.retrieve_async(method)).type == "card"

    charges = await v1.charges.list_async({"payment_intent": intent.id, "expand": ["data.refunds"]})
    refund = await v1.refunds.create_async({"payment_intent": intent.id, "amount": 1_000})
    charge = await v1.charges.retrieve_async(charges.data[0].id, {"expand": ["refunds", "payment_intent"]})
    assert charge.refunds is not None
    assert [row.id for row in charge.refunds.data] == [refund.id]
    assert (await v1.refunds.retrieve_async(refund.id, {"expand": ["charge"]})).amount == 1_000
    assert len((await v1.refunds.list_async({"charge": charge.id})).data) == 1

    account = await v1.accounts.create_async(
        {
            "country": "DE",
            "capabilities": {"transfers": {"requested": True}, "card_payments": {"requested": True}},
            "controller": {"fees": {"payer": "application"}, "losses": {"payments": "application"}},
            "business_type": "company",
            "business_profile": {"name": "Tee GmbH", "url": "https://tee.test"},
            "settings": {"payouts": {"schedule": {"interval": "manual"}}},
        }
    )
    assert (account.charges_enabled, account.default_currency) == (True, "eur")
    await v1.accounts.update_async(account.id, {"metadata": {"party": "P1"}})
    newest: Any = (await v1.accounts.list_async({"limit": 1})).data[0]
    assert newest.metadata["party"] == "P1"
    await v1.account_links.create_async(
        {
            "account": account.id,
            "type": "account_onboarding",
            "refresh_url": "https://l.test/a",
            "return_url": "https://l.test/b",
        }
    )

    transfer = await v1.transfers.create_async(
        {"amount": 5_000, "currency": "usd", "destination": account.id, "transfer_group": "O1"}
    )
    full = await v1.transfers.retrieve_async(
        transfer.id,
        {"expand": ["balance_transaction", "destination", "destination_payment.balance_transaction"]},
    )
    payment: Any = full.destination_payment
    assert (payment.id[:3], payment.balance_transaction.net) == ("py_", 5_000)
    reversal = await v1.transfers.reversals.create_async(transfer.id, {"amount": 500})
    assert (await v1.transfers.reversals.retrieve_async(transfer.id, reversal.id)).amount == 500
    assert len((await v1.transfers.reversals.list_async(transfer.id)).data) == 1
    assert len((await v1.transfers.list_async({"destination": account.id})).data) == 1

    theirs: Any = {"stripe_account": account.id}
    assert (await v1.balance.retrieve_async({}, theirs)).available[0].amount == 4_500
    payout = await v1.payouts.create_async({"amount": 4_500, "currency": "usd"}, theirs)
    with pytest.raises(stripe.InvalidRequestError):
        await v1.payouts.retrieve_async(payout.id)
    paysim.clock.advance(timedelta(days=3))
    assert (await v1.payouts.retrieve_async(payout.id, {}, theirs)).status == "paid"
    assert (await v1.payouts.list_async({"status": "paid"}, theirs)).data[0].id == payout.id
    own = await v1.payouts.create_async({"amount": 1_000, "currency": "usd"})
    assert (await v1.payouts.cancel_async(own.id)).status == "canceled"

    rows = await v1.balance_transactions.list_async({"limit": 100, "expand": ["data.source"]})
    assert {"charge", "refund", "transfer", "transfer_refund", "payout", "payout_cancel"} <= {
        row.type for row in rows.data
    }
    assert (await v1.balance_transactions.retrieve_async(rows.data[0].id)).id == rows.data[0].id


async def test_disputes_events_and_endpoints(client: stripe.StripeClient, paysim: Any) -> None:
    v1 = client.v1
    intent = paysim.paid(5_000, payment_method="pm_card_createDispute")
    dispute = (
        await v1.disputes.list_async({"payment_intent": intent["id"], "expand": ["data.charge"]})
    ).data[0]
    await v1.disputes.update_async(dispute.id, {"evidence": {"customer_name": "Li"}, "submit": False})
    assert (await v1.disputes.retrieve_async(dispute.id)).evidence.customer_name == "Li"
    assert (await v1.disputes.close_async(dispute.id)).status == "lost"

    listed = await v1.events.list_async({"types": ["charge.dispute.closed", "charge.dispute.updated"]})
    assert [event.type for event in listed.data][:2] == ["charge.dispute.closed", "charge.dispute.updated"]
    assert (await v1.events.retrieve_async(listed.data[0].id)).data.object["status"] == "lost"

    endpoint = await v1.webhook_endpoints.create_async(
        {"url": "http://127.0.0.1:9/x", "enabled_events": ["payout.paid"]}
    )
    assert endpoint.secret
    assert (await v1.webhook_endpoints.retrieve_async(endpoint.id)).status == "enabled"
    assert (await v1.webhook_endpoints.delete_async(endpoint.id)).deleted
    assert endpoint.id not in [row.id for row in (await v1.webhook_endpoints.list_async()).data]


async def test_pages_are_walked_by_the_clients_own_iterator(client: stripe.StripeClient, paysim: Any) -> None:
    made = [paysim.ok("/v1/payment_intents", amount=5_000 + n, currency="usd")["id"] for n in range(7)]
    page = await client.v1.payment_intents.list_async({"limit": 3})
    walked = []
    async for intent in page.auto_paging_iter():
        walked.append(intent.id)
        if len(walked) == 7:
            break
    assert walked == made[::-1]
