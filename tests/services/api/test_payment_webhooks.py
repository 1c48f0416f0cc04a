"""Webhooks of a real payment provider: forged, old, replayed, out of order, and after the hold ran out."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import FulfillmentOrderId, OrderId
from infra.db.session import Database
from marketplace.brands import service as brands
from marketplace.orders import paying
from tests.conftest import TestDatabase
from tests.factories import brands as brands_factory
from tests.fixtures.http import state_of
from tests.paysim.conftest import WEBHOOK_SECRET
from tests.services.api.conftest import Paying

REFUND = """mutation ($i: RefundCreateInput!) { refundCreate(input: $i) {
  refund { id status amount { amount } } userErrors { code } } }"""


def signed(raw: bytes, at: float, secret: str = WEBHOOK_SECRET) -> str:
    mac = hmac.new(secret.encode(), f"{int(at)}.".encode() + raw, hashlib.sha256).hexdigest()
    return f"t={int(at)},v1={mac}"


async def test_forged_old_foreign_and_broken_notices_change_nothing(
    paying_shopper: Paying, postgres: TestDatabase
) -> None:
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


async def test_a_notice_replayed_is_stored_once_and_books_one_payment(paying_shopper: Paying) -> None:
    shopper = paying_shopper
    _, intent = await shopper.placed()
    signature, raw = shopper.pay(intent)
    for _ in range(3):
        assert (await shopper.tell(raw, signature)).status_code == 200
    await shopper.served.work()
    assert (await shopper.tell(raw, signature)).status_code == 200
    await shopper.served.work()

    assert await shopper.one("SELECT count(*) FROM provider_events") == 1
    assert await shopper.one("SELECT count(*) FROM payments WHERE status = 'paid'") == 1
    assert await shopper.one("SELECT count(*) FROM outbox WHERE name = 'orders.payment_captured'") == 1
    assert await shopper.one("SELECT count(*) FROM failed_messages") == 0
    await shopper.books_hold()


async def test_money_that_comes_after_the_hold_ran_out_goes_back(paying_shopper: Paying) -> None:
    shopper = paying_shopper
    _, intent = await shopper.placed()
    assert await shopper.sellable() == 4
    shopper.clock.advance(timedelta(minutes=31))
    assert await give_up_what_ran_out(shopper) == 1
    assert await shopper.sellable() == 5
    signature, raw = shopper.pay(intent)  # before the provider was told to take it back

    for _ in range(2):
        assert (await shopper.tell(raw, signature)).status_code == 200
        await shopper.served.work()

    assert await shopper.one("SELECT payment_status || fulfillment_status FROM orders") == "voidedcancelled"
    assert await shopper.one("SELECT count(*) FROM outbox WHERE name = 'orders.payment_came_late'") == 1
    refunds = shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]
    assert [(refund["amount"], refund["status"]) for refund in refunds] == [(10_500, "succeeded")]
    assert await shopper.sellable() == 5
    await shopper.books_hold()


async def test_a_payment_whose_notice_never_came_is_found_before_the_hold_is_given_up(
    paying_shopper: Paying,
) -> None:
    shopper = paying_shopper
    _, intent = await shopper.placed()
    shopper.pay(intent)
    shopper.clock.advance(timedelta(minutes=31))

    assert await give_up_what_ran_out(shopper) == 1
    await shopper.served.work()

    assert await shopper.one("SELECT payment_status FROM orders") == "paid"
    assert await shopper.sellable() == 4
    assert await give_up_what_ran_out(shopper) == 0
    await shopper.books_hold()


async def give_up_what_ran_out(shopper: Paying) -> int:
    gateways = shopper.served.gateways
    return await paying.sweep_checkouts(gateways.db, payments=gateways.payments, clock=gateways.clock)


async def test_a_refund_asked_before_the_capture_is_known_is_refused(
    paying_shopper: Paying, postgres: TestDatabase, db: Database
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


async def test_goods_are_accepted_shipped_and_delivered_in_this_order_only(paying_shopper: Paying) -> None:
    shopper = paying_shopper
    _, intent = await shopper.placed()
    fo = FulfillmentOrderId.of(await shopper.one("SELECT id FROM fulfillment_orders"))
    token = await supplier_token(shopper)

    async def tried(verb: str, body: dict[str, Any]) -> tuple[int, str, list[str]]:
        answer = await shopper.served.supplier("POST", f"/fulfillment-orders/{fo}/{verb}", body, token=token)
        told = answer.json()
        return answer.status_code, told.get("code", told.get("status")), told["allowed_actions"]

    parcel = {"carrier": "sf-express", "tracking_no": "SF1"}
    refused = (409, "FULFILLMENT_ACTION_NOT_ALLOWED")
    # Not paid: there is nothing a supplier may do.
    for verb, body in (("accept", {}), ("ship", parcel), ("deliver", {})):
        assert await tried(verb, body) == (*refused, [])
    signature, raw = shopper.pay(intent)
    assert (await shopper.tell(raw, signature)).status_code == 200
    await shopper.served.work()

    for verb, body in (("ship", parcel), ("deliver", {})):
        assert await tried(verb, body) == (*refused, ["accept", "accept_partial", "reject"])
    assert (await tried("accept", {}))[:2] == (200, "IN_PROGRESS")
    assert (await tried("deliver", {}))[:2] == refused
    assert (await tried("accept", {}))[:2] == refused
    assert (await tried("ship", parcel))[:2] == (200, "SHIPPED")
    assert (await tried("reject", {"reason": "CAPACITY"}))[:2] == refused
    assert (await tried("deliver", {}))[:2] == (200, "DELIVERED")
    assert await tried("deliver", {}) == (*refused, [])


_TENANT = text(
    "INSERT INTO tenants (id, kind, name, slug, status, country, currency, created_at) VALUES"
    " (:id, 'supplier', 'Hangzhou Works', 'hangzhou-works', 'active', 'CN', 'CNY', :now)"
)


async def supplier_token(shopper: Paying) -> str:
    supplier = brands_factory.supplier_actor(shopper.shop.source.supplier_id)
    async with shopper.db.unit_of_work(SYSTEM) as session:
        await session.execute(_TENANT, {"id": supplier.supplier_id, "now": shopper.clock.now()})
        issued = await brands.issue_token(
            session, supplier, name="t", scopes=["fulfillment:read", "fulfillment:write"], expires_at=None,
            clock=shopper.clock,
        )  # fmt: skip
    return issued.token
