"""money.md §6, notices of payments: forged, repeated, lost and too early, each test is named for its row."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from core.ids import OrderId
from marketplace.brands import service as brands
from marketplace.orders import paying
from tests.conftest import TestDatabase
from tests.fixtures.buying import signed
from tests.fixtures.http import state_of
from tests.services.api.conftest import Paying

REFUND = """mutation ($i: RefundCreateInput!) { refundCreate(input: $i) {
  refund { id status amount { amount } } userErrors { code } } }"""


async def test_forged_or_old_signature_of_a_payment(paying_shopper: Paying, postgres: TestDatabase) -> None:
    shopper = paying_shopper
    _, intent = await shopper.placed()
    signature, raw = shopper.pay(intent)
    before, now = await state_of(postgres), shopper.clock.now().timestamp()

    for body, header in (
        (raw, None),
        (raw, ""),
        (raw, "t=1"),
        (raw, "nonsense"),
        (raw, signed(raw, now, "whsec_of_another_endpoint")),
        (raw, signed(raw, now - 301)),
        (raw, signed(raw, now + 301)),
        (raw.replace(b'"succeeded"', b'"failed"'), signature),
        (b"", signed(b"", now)),
        (b"[]", signed(b"[]", now)),
        (b"not json", signed(b"not json", now)),
        (b'{"id": "evt_1"}', signed(b'{"id": "evt_1"}', now)),
    ):
        answer = await shopper.tell(body, header)
        assert (answer.status_code, answer.json()["error"]) == (400, "WEBHOOK_REJECTED"), (body[:40], header)
    big = b" " * (512 * 1024 + 1)
    assert (await shopper.tell(big, signed(big, now))).status_code == 413
    assert await state_of(postgres) == before


async def test_webhook_twice_five_at_once_after_three_days_of_a_payment(paying_shopper: Paying) -> None:
    shopper = paying_shopper
    _, intent = await shopper.placed()
    signature, raw = shopper.pay(intent)
    answers = await asyncio.gather(*(shopper.tell(raw, signature) for _ in range(5)))
    await shopper.served.work()
    shopper.clock.advance(timedelta(days=3))
    answers.append(await shopper.tell(raw, signed(raw, shopper.clock.now().timestamp())))
    await shopper.served.work()

    assert {answer.status_code for answer in answers} == {200}

    assert await shopper.one("SELECT count(*) FROM provider_events") == 1
    assert await shopper.one("SELECT count(*) FROM payments WHERE status = 'paid'") == 1
    assert await shopper.one("SELECT count(*) FROM outbox WHERE name = 'orders.payment_captured'") == 1
    assert await shopper.one("SELECT count(*) FROM failed_messages") == 0
    await shopper.books_hold()


async def test_webhook_never_arrives_of_a_payment(
    paying_shopper: Paying,
) -> None:
    shopper = paying_shopper
    _, intent = await shopper.placed()
    shopper.pay(intent)
    shopper.clock.advance(timedelta(minutes=31))

    assert await sweep_checkouts(shopper) == 1
    await shopper.served.work()

    assert await shopper.one("SELECT payment_status FROM orders") == "paid"
    assert await shopper.sellable() == 4
    assert await sweep_checkouts(shopper) == 0
    await shopper.books_hold()


async def test_out_of_order_refund_requested_before_capture(
    paying_shopper: Paying, postgres: TestDatabase
) -> None:
    shopper = paying_shopper
    _, intent = await shopper.placed()
    signature, raw = shopper.pay(intent)  # paid at the provider, not yet told
    token = await merchant_token(shopper)
    order = await shopper.one("SELECT id FROM orders")
    given = {"orderId": str(OrderId.of(order)), "idempotencyKey": "r1", "everything": True}
    before = await state_of(postgres, without=frozenset({"api_tokens"}))

    refused = await shopper.served.brand(REFUND, {"i": given}, token=token)
    assert refused["data"]["refundCreate"]["userErrors"] == [{"code": "ORDER_NOT_PAID"}]
    assert await state_of(postgres, without=frozenset({"api_tokens"})) == before

    assert (await shopper.tell(raw, signature)).status_code == 200
    await shopper.served.work()
    for _ in range(2):  # the same key: one refund
        made = await shopper.served.brand(REFUND, {"i": given}, token=token)
        assert made["data"]["refundCreate"]["userErrors"] == []
    await shopper.served.work()
    refunds = shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]
    assert [refund["amount"] for refund in refunds] == [10_500]
    other = await shopper.served.brand(REFUND, {"i": {**given, "idempotencyKey": "r2"}}, token=token)
    assert other["data"]["refundCreate"]["userErrors"][0]["code"] == "NOTHING_TO_REFUND"
    await shopper.books_hold()


async def merchant_token(shopper: Paying) -> str:
    async with shopper.db.unit_of_work(shopper.shop.promotion.merchant) as session:
        issued = await brands.issue_token(
            session, shopper.shop.promotion.merchant, name="t", scopes=["orders:read", "orders:write"],
            expires_at=None, clock=shopper.clock,
        )  # fmt: skip
    return issued.token


async def sweep_checkouts(shopper: Paying) -> int:
    gateways = shopper.served.gateways
    return await paying.sweep_checkouts(gateways.db, payments=gateways.payments, clock=gateways.clock)
