"""The gateway port over Stripe's client: what it sends, what it returns, which error means what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
import stripe

from core.clock import FixedClock
from infra.payments.errors import (
    IdempotencyMismatch,
    PaymentDeclined,
    ProviderRefused,
    ProviderUnavailable,
    WebhookRejected,
)
from infra.payments.gateway import IntentStatus, PaymentGateway
from infra.payments.stripe_gateway import StripeGateway, verify_webhook

SECRET = "whsec_unit"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


async def bought(gateway: PaymentGateway, order: str, amount_minor: int = 10_388) -> Any:
    intent = await gateway.create_intent(
        order_ref=order, amount_minor=amount_minor, currency="USD", key=f"{order}:intent"
    )
    return await gateway.confirm_intent(intent.id, payment_method="pm_card_visa", key=f"{order}:confirm")


async def test_an_order_is_paid_refunded_and_its_transactions_are_listed(
    gateway: StripeGateway, paysim: Any
) -> None:
    paid = await bought(gateway, "O1")
    assert (paid.status, paid.amount_received_minor, paid.currency) == (IntentStatus.SUCCEEDED, 10_388, "USD")
    assert (paid.transfer_group, paid.metadata["order_ref"]) == ("O1", "O1")

    charge = await gateway.retrieve_charge(paid.latest_charge_id)
    assert charge.balance_transaction is not None
    assert (charge.balance_transaction.fee_minor, charge.balance_transaction.net_minor) == (331, 10_057)

    refund = await gateway.refund(charge_or_intent=paid.id, amount_minor=4_770, key="O1:refund:1")
    assert (refund.status, refund.amount_minor, refund.charge_id) == ("succeeded", 4_770, charge.id)
    assert await gateway.retrieve_refund(refund.id) == refund
    assert await gateway.find_refunds(paid.id) == [refund]
    listed = [row async for row in gateway.balance_transactions(created_from=charge.created_at)]
    assert [(row.type, row.net_minor) for row in listed] == [("refund", -4_770), ("charge", 10_057)]
    assert not [row async for row in gateway.balance_transactions(created_to=charge.created_at)]


async def test_a_card_is_told_apart_by_a_digest_under_the_platforms_secret(paysim: Any) -> None:
    async def instruments(secret: str) -> list[str | None]:
        made = StripeGateway(
            secret_key="sk_test_suite", webhook_secret=SECRET, api_base=paysim.url, instrument_secret=secret
        )
        try:
            return [(await made.retrieve_charge(charge["id"])).instrument for charge in (first, again, other)]
        finally:
            await made.close()

    first, other = (paysim.get(f"/v1/charges/{paysim.paid()['latest_charge']}").json() for _ in range(2))
    card = first["payment_method"]
    intent = paysim.ok("/v1/payment_intents", amount=1_000, currency="usd")
    paid = paysim.ok(f"/v1/payment_intents/{intent['id']}/confirm", payment_method=card)
    again = {"id": paid["latest_charge"]}

    one, the_same, another = await instruments("ours")
    assert one == the_same != another
    assert first["payment_method_details"]["card"]["fingerprint"] not in str(one)
    assert not {one, another} & set(await instruments("theirs"))
    assert await instruments("") == [None, None, None]


async def test_a_party_is_paid_and_pays_back(gateway: StripeGateway, paysim: Any) -> None:
    paysim.funded(50_000)
    account = await gateway.create_account(party_ref="P1", country="US", key="P1", individual=True)
    assert account.transfers_active
    assert account.metadata == {"party_ref": "P1"}
    link = await gateway.account_link(
        account.id, refresh_url="https://l.test/a", return_url="https://l.test/b", key="P1:link"
    )
    assert link.url.startswith(paysim.url)

    sent: dict[str, Any] = {"destination": account.id, "amount_minor": 1_731, "currency": "USD"}
    transfer = await gateway.transfer(**sent, key="B1:P1", transfer_group="B1")
    assert await gateway.transfer(**sent, key="B1:P1", transfer_group="B1") == transfer
    assert await gateway.find_transfers("B1") == [transfer]
    assert (await gateway.balance(account=account.id)).available == {"USD": 1_731}

    reversal = await gateway.reverse_transfer(transfer.id, amount_minor=308, key="B1:P1:rev")
    assert await gateway.find_reversals(transfer.id) == [reversal]
    assert (await gateway.retrieve_transfer(transfer.id)).amount_reversed_minor == 308
    assert (await gateway.balance(account=account.id)).available == {"USD": 1_423}


async def test_twelve_equal_transfers_at_once_pay_once(gateway: StripeGateway, paysim: Any) -> None:
    paysim.funded(50_000)
    account = await gateway.create_account(party_ref="P2", country="US", key="P2")
    calls = (
        gateway.transfer(
            destination=account.id, amount_minor=900, currency="USD", key="B2:P2", transfer_group="B2"
        )
        for _ in range(12)
    )
    answers = await asyncio.gather(*calls, return_exceptions=True)

    # Whoever met the first one in flight retried; one that met it every time only knows nothing.
    assert {answer.id for answer in answers if not isinstance(answer, BaseException)} == {
        (await gateway.find_transfers("B2"))[0].id
    }
    assert all(isinstance(a, ProviderUnavailable) for a in answers if isinstance(a, BaseException))
    assert (await gateway.balance(account=account.id)).available == {"USD": 900}


async def test_every_kind_of_no_has_its_own_error(gateway: StripeGateway, paysim: Any) -> None:
    intent = await gateway.create_intent(order_ref="O3", amount_minor=5_000, currency="USD", key="O3")
    with pytest.raises(PaymentDeclined) as declined:
        await gateway.confirm_intent(intent.id, payment_method="pm_card_chargeDeclinedLostCard", key="O3:c")
    assert declined.value.decline_code == "lost_card"
    assert (await gateway.retrieve_intent(intent.id)).last_error_code == "lost_card"

    with pytest.raises(IdempotencyMismatch):
        await gateway.create_intent(order_ref="O3", amount_minor=5_001, currency="USD", key="O3")
    with pytest.raises(ProviderRefused) as refused:
        await gateway.transfer(
            destination="acct_absent", amount_minor=1, currency="USD", key="t", transfer_group="g"
        )
    assert (refused.value.provider_code, refused.value.param) == ("resource_missing", "destination")
    account = await gateway.create_account(party_ref="P3", country="US", key="P3")
    with pytest.raises(ProviderRefused) as short:
        await gateway.transfer(
            destination=account.id, amount_minor=10**9, currency="USD", key="t2", transfer_group="g"
        )
    assert short.value.provider_code == "balance_insufficient"

    paysim.fault("server_error", match={"key": "O4"})
    for _ in range(2):
        with pytest.raises(ProviderUnavailable) as unknown:
            await gateway.create_intent(order_ref="O4", amount_minor=5_000, currency="USD", key="O4")
        assert (unknown.value.outcome_unknown, unknown.value.http_status) == (True, 500)
    paysim.fault("rate_limit", count=5, match={"key": "O5"})
    with pytest.raises(ProviderUnavailable) as busy:
        await gateway.create_intent(order_ref="O5", amount_minor=5_000, currency="USD", key="O5")
    assert not busy.value.outcome_unknown


async def test_nobody_listening_is_an_unknown_outcome() -> None:
    gateway = StripeGateway(
        secret_key="sk_test_x", webhook_secret=SECRET, api_base="http://127.0.0.1:9", max_network_retries=0
    )
    with pytest.raises(ProviderUnavailable) as unknown:
        await gateway.retrieve_intent("pi_1")
    assert unknown.value.outcome_unknown
    await gateway.close()


async def test_a_dispute_and_an_event_are_read(gateway: StripeGateway, paysim: Any, receiver: Any) -> None:
    paid = await bought(gateway, "O6")
    opened = paysim.admin("POST", "/disputes", charge=paid.id)
    dispute = await gateway.retrieve_dispute(opened["id"])
    assert (dispute.amount_minor, dispute.fee_minor, dispute.status) == (10_388, 1_500, "needs_response")

    receiver.wait("charge.dispute.created")
    signature, raw = next(found for found in receiver.deliveries if b"charge.dispute.created" in found[1])
    event = gateway.verify_webhook(raw, signature, clock=paysim.clock)
    assert (event.type, event.object_id) == ("charge.dispute.created", dispute.id)
    assert (await gateway.retrieve_event(event.id)).object_id == dispute.id


async def test_evidence_a_verdict_and_accepting_a_loss(gateway: StripeGateway, paysim: Any) -> None:
    paid = await bought(gateway, "O20")
    opened = paysim.admin("POST", "/disputes", charge=paid.id, amount=4_000)
    (dispute,) = await gateway.find_disputes(paid.id)
    assert (dispute.id, dispute.withdrawn_minor, dispute.fee_minor, dispute.is_inquiry) == (
        opened["id"],
        4_000,
        1_500,
        False,
    )
    assert dispute.evidence_due_at == dispute.created_at + timedelta(days=9)
    stored = await gateway.submit_evidence(
        dispute.id, evidence={"customer_name": "Li"}, submit=False, key="O20:e1"
    )
    assert (stored.status, stored.evidence_submissions) == ("needs_response", 0)
    won = await gateway.submit_evidence(
        dispute.id, evidence={"uncategorized_text": "winning_evidence"}, key="O20:e2"
    )
    assert (won.status, won.withdrawn_minor) == ("won", 0)
    assert [row.reporting_category for row in won.transactions] == ["dispute", "dispute_reversal"]
    with pytest.raises(ProviderRefused):
        await gateway.submit_evidence(dispute.id, evidence={"receipt": "x"}, key="O20:e3")

    second = paysim.admin("POST", "/disputes", charge=paid.id, amount=1_000, inquiry=True)
    asked = await gateway.retrieve_dispute(second["id"])
    assert (asked.is_inquiry, asked.withdrawn_minor, asked.fee_minor) == (True, 0, 0)
    third = paysim.admin("POST", "/disputes", charge=paid.id, amount=500)
    assert (await gateway.close_dispute(third["id"], key="O20:c")).status == "lost"
    since = [each.id async for each in gateway.disputes(created_from=dispute.created_at)]
    assert since[:3] == [third["id"], second["id"], dispute.id]


async def test_payouts_of_the_platform_and_of_an_account(gateway: StripeGateway, paysim: Any) -> None:
    paysim.funded(100_000)
    account = await gateway.create_account(party_ref="P30", country="US", key="P30")
    await gateway.transfer(
        destination=account.id, amount_minor=2_000, currency="USD", key="B30", transfer_group="B30"
    )
    terms: dict[str, Any] = {"amount_minor": 2_000, "currency": "USD", "key": "po30", "account": account.id}
    theirs = await gateway.create_payout(**terms)
    assert (await gateway.create_payout(**terms)).id == theirs.id
    assert (theirs.status, theirs.automatic, theirs.reconciled) == ("pending", False, False)
    with pytest.raises(ProviderRefused):
        await gateway.retrieve_payout(theirs.id)
    assert [each.id async for each in gateway.payouts(account=account.id)] == [theirs.id]
    rows = [row.type async for row in gateway.balance_transactions(account=account.id)]
    assert rows == ["payout", "payment"]

    own = await gateway.create_payout(
        amount_minor=1_000, currency="USD", key="po31", metadata={"po": "31"}, description="ours"
    )
    row = await gateway.retrieve_balance_transaction(own.balance_transaction_id or "")
    assert (row.type, row.net_minor, row.source_id) == ("payout", -1_000, own.id)
    gone = await gateway.cancel_payout(own.id, key="po31:x")
    assert gone.status == "canceled"
    assert [each.id async for each in gateway.payouts(status="canceled")] == [own.id]

    made = paysim.admin("POST", "/payouts/automatic")
    paysim.clock.advance(timedelta(days=3))
    arrived = await gateway.retrieve_payout(made["id"])
    assert (arrived.status, arrived.automatic, arrived.reconciled) == ("paid", True, True)
    covered = [row async for row in gateway.balance_transactions(payout=made["id"])]
    assert sum(row.net_minor for row in covered) == 0
    failed = paysim.admin("POST", f"/payouts/{made['id']}/fail", code="account_closed")
    again = await gateway.retrieve_payout(failed["id"])
    assert (again.status, again.failure_code) == ("failed", "account_closed")


async def test_notices_that_never_came_can_be_asked_for(gateway: StripeGateway, paysim: Any) -> None:
    paid = await bought(gateway, "O32")
    wanted = ["charge.succeeded", "payment_intent.succeeded"]
    found = [
        event
        async for event in gateway.events(created_from=paid.created_at, types=wanted)
        if event.object_id in {paid.id, paid.latest_charge_id}
    ]
    assert {event.type for event in found} == set(wanted)
    paysim.fault("refund_action")
    refund = await gateway.refund(
        charge_or_intent=paid.id, amount_minor=500, key="O32:r", reason="requested_by_customer"
    )
    assert (await gateway.cancel_refund(refund.id, key="O32:rx")).status == "canceled"


async def test_cancelling_and_the_pay_page(gateway: StripeGateway, paysim: Any) -> None:
    intent = await gateway.create_intent(order_ref="O8", amount_minor=5_000, currency="USD", key="O8")
    page = gateway.pay_page_url(intent.id, intent.client_secret, return_url="https://shop.test/back")
    assert page is not None
    assert page.startswith(f"{paysim.url}/pay/{intent.id}?client_secret=")
    assert (await gateway.cancel_intent(intent.id, key="O8:x")).status is IntentStatus.CANCELED
    assert gateway.capabilities().pools_funds


def signed(body: bytes, at: datetime, secret: str = SECRET) -> str:
    header: str = stripe.WebhookSignature.generate_signature_header(
        body.decode(), secret, int(at.timestamp())
    )
    return header


EVENT = json.dumps(
    {
        "id": "evt_1",
        "object": "event",
        "type": "charge.succeeded",
        "created": 1_772_442_000,
        "data": {"object": {"id": "ch_1", "object": "charge"}},
    }
).encode()


@pytest.mark.parametrize(
    ("raw", "header"),
    [
        (EVENT, None),
        (EVENT, ""),
        (EVENT, "nonsense"),
        (EVENT, signed(EVENT, NOW, "whsec_other")),
        (EVENT.replace(b"ch_1", b"ch_2"), signed(EVENT, NOW)),
        (EVENT, signed(EVENT, NOW - timedelta(seconds=301))),
        (EVENT, signed(EVENT, NOW + timedelta(seconds=301))),
        (b"\xff\xfe", "t=1,v1=00"),
        (b"[]", signed(b"[]", NOW)),
        (b'{"id": "evt_1"}', signed(b'{"id": "evt_1"}', NOW)),
    ],
)
def test_forged_stale_and_malformed_webhooks_are_rejected(raw: bytes, header: str | None) -> None:
    with pytest.raises(WebhookRejected):
        verify_webhook(raw, header, secret=SECRET, clock=FixedClock(NOW))


def test_a_webhook_is_as_old_as_our_clock_says() -> None:
    event = verify_webhook(
        EVENT, signed(EVENT, NOW), secret=SECRET, clock=FixedClock(NOW + timedelta(seconds=299))
    )
    assert (event.id, event.object_type, event.object_id) == ("evt_1", "charge", "ch_1")


class Recorder:
    """A provider that only remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: dict[str, dict[str, Any]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        path = head.split(" ")[1]
        self.sent[path] = nested((await reader.readexactly(length)).decode())
        body = b'{"error": {"message": "no", "type": "invalid_request_error"}}'
        writer.write(
            b"HTTP/1.1 400 No\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
        )
        await writer.drain()
        writer.close()


def nested(form: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(form):
        *parents, leaf = name.replace("]", "").split("[")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = int(value) if value.isdigit() else {"true": True, "false": False}.get(value, value)
    return tree


@pytest.fixture
async def recorder() -> AsyncIterator[tuple[Recorder, StripeGateway]]:
    recorder = Recorder()
    server = await asyncio.start_server(recorder.serve, "127.0.0.1", 0)
    base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    gateway = StripeGateway(
        secret_key="sk_test_x", webhook_secret=SECRET, api_base=base, max_network_retries=0
    )
    yield recorder, gateway
    await gateway.close()
    server.close()


@pytest.mark.shared
async def test_every_request_body_is_one_stripe_accepts(recorder: Any, contract: Any) -> None:
    record, gateway = recorder
    order = {"order_ref": "O1", "description": "Tea", "metadata": {"brand": "b"}}
    sent = {"amount_minor": 5, "currency": "USD"}
    payee = {"destination": "acct_1", "transfer_group": "G", "source_transaction": "ch_1"}
    links = {"refresh_url": "https://l.test/a", "return_url": "https://l.test/b"}
    calls = [
        gateway.create_intent(**order, **sent, key="1"),
        gateway.confirm_intent("pi_1", payment_method="pm_1", return_url="https://l.test", key="2"),
        gateway.cancel_intent("pi_1", key="3"),
        gateway.refund(charge_or_intent="pi_1", amount_minor=5, metadata={"a": "b"}, key="4"),
        gateway.create_account(party_ref="P", country="US", email="a@b.test", key="5"),
        gateway.account_link("acct_1", **links, key="6"),
        gateway.transfer(**payee, **sent, metadata={"a": "b"}, key="7"),
        gateway.reverse_transfer("tr_1", amount_minor=5, metadata={"a": "b"}, key="8"),
        gateway.create_payout(**sent, metadata={"a": "b"}, description="ours", key="9"),
        gateway.submit_evidence("du_1", evidence={"customer_name": "Li"}, submit=False, key="10"),
        gateway.cancel_payout("po_1", key="11"),
    ]
    for call in calls:
        with pytest.raises(ProviderRefused):
            await call

    params = {
        "/v1/payment_intents": "PaymentIntentCreateParams",
        "/v1/payment_intents/pi_1/confirm": "PaymentIntentConfirmParams",
        "/v1/payment_intents/pi_1/cancel": "PaymentIntentCancelParams",
        "/v1/refunds": "RefundCreateParams",
        "/v1/accounts": "AccountCreateParams",
        "/v1/account_links": "AccountLinkCreateParams",
        "/v1/transfers": "TransferCreateParams",
        "/v1/transfers/tr_1/reversals": "TransferReversalCreateParams",
        "/v1/payouts": "PayoutCreateParams",
        "/v1/disputes/du_1": "DisputeUpdateParams",
        "/v1/payouts/po_1/cancel": "PayoutCancelParams",
    }
    assert record.sent.keys() == params.keys()
    for path, body in record.sent.items():
        assert contract.request_problems(params[path], body) == [], path
