"""A real payment provider's webhooks at the API: after the hold ran out, and what a supplier may do once paid.

Forged, repeated, lost and early notices: tests/supply/settlement/failures.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import FulfillmentOrderId
from marketplace.brands import service as brands
from marketplace.orders import late_payments, paying
from services.simulate.invariants import violations
from tests.factories import brands as brands_factory
from tests.services.api.conftest import Paying


async def came_late(shopper: Paying) -> str:
    """Paid after the hold ran out, and told twice: the intent. What was paid is refunded."""
    _, intent = await shopper.placed()
    assert await shopper.sellable() == 4
    shopper.clock.advance(timedelta(minutes=31))
    assert await give_up_what_ran_out(shopper) == 1
    assert await shopper.sellable() == 5
    signature, raw = shopper.pay(intent)  # before the provider was told to take it back

    for _ in range(2):
        assert (await shopper.tell(raw, signature)).status_code == 200
        await shopper.served.work()
    return intent


async def test_money_that_comes_after_the_hold_ran_out_goes_back(paying_shopper: Paying) -> None:
    shopper = paying_shopper
    intent = await came_late(shopper)

    assert await shopper.one("SELECT payment_status || fulfillment_status FROM orders") == "voidedcancelled"
    assert await shopper.one("SELECT count(*) FROM outbox WHERE name = 'orders.payment_came_late'") == 1
    refunds = shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]
    assert [(refund["amount"], refund["status"]) for refund in refunds] == [(10_500, "succeeded")]
    assert await shopper.sellable() == 5
    await shopper.books_hold()

    # The bank sends it back, twice: it is owed again, and sent again after one hour, and after two.
    for came_back in (1, 2):
        await _comes_back(shopper, refunds[0]["id"])
        refunds = shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]
        assert [refund["status"] for refund in refunds] == came_back * ["failed"]
        assert await shopper.one(_OWED) == 10_500
        assert await shopper.one("SELECT status FROM payments") == "paid"
        shopper.clock.advance(timedelta(hours=came_back, seconds=-30))
        assert await _given_back(shopper) == 0
        assert await shopper.one(_OWED) == 10_500
        shopper.clock.advance(timedelta(seconds=60))
        assert await _given_back(shopper) == 1
        refunds = shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]
        assert [refund["status"] for refund in refunds] == ["succeeded"] + came_back * ["failed"]
        assert await shopper.one(_LATE_REFUNDS) == f"{came_back + 1} {came_back}"
        assert await shopper.one(_OWED) == 0
        assert await shopper.one("SELECT status FROM payments") == "refunded"
        await shopper.books_hold()

    # Once more; and before it is time again somebody gives a part of it back at the provider.
    await _comes_back(shopper, refunds[0]["id"])
    made = shopper.provider.ok("/v1/refunds", payment_intent=intent, amount=4_000)
    signature, raw = shopper.heard("refund.created", made["id"])
    assert (await shopper.tell(raw, signature)).status_code == 200
    await shopper.served.work()
    assert await shopper.one(_OWED) == 6_500
    assert await shopper.one("SELECT status || refunded_minor FROM payments") == "partially_refunded4000"
    shopper.clock.advance(timedelta(hours=4))
    assert await _given_back(shopper) == 1
    refunds = shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]
    assert [refund["amount"] for refund in refunds if refund["status"] == "succeeded"] == [6_500, 4_000]
    assert await shopper.one(_OWED) == 0
    assert await _given_back(shopper) == 0
    await shopper.books_hold()


async def test_a_late_payment_that_the_customers_bank_takes_back_is_not_owed_besides(
    paying_shopper: Paying,
) -> None:
    shopper = paying_shopper
    intent = await came_late(shopper)
    (refund,) = shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]
    await _comes_back(shopper, refund["id"])
    dispute = shopper.provider.admin("POST", "/disputes", charge=refund["charge"])["id"]
    await _heard(shopper, "charge.dispute.funds_withdrawn", dispute)

    # While the bank holds the money nothing is sent, and nothing refused.
    shopper.clock.advance(timedelta(hours=1))
    assert await _given_back(shopper) == 1
    assert await shopper.one(_OWED) == 10_500
    assert len(shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]) == 1

    shopper.provider.admin("POST", f"/disputes/{dispute}/close", status="lost")
    await _heard(shopper, "charge.dispute.closed", dispute)
    shopper.clock.advance(timedelta(days=1))
    assert await _given_back(shopper) == 1
    assert (await shopper.one(_OWED), await shopper.one(_CHARGED_BACK)) == (0, None)
    assert await shopper.one("SELECT status || refunded_minor FROM payments") == "paid0"
    shopper.clock.advance(timedelta(days=2))
    assert await _given_back(shopper) == 0  # nothing is left to give back
    await _sound(shopper)

    shopper.provider.admin("POST", f"/disputes/{dispute}/close", status="won")
    await _heard(shopper, "charge.dispute.funds_reinstated", dispute)
    assert await shopper.one(_OWED) == 10_500
    assert await _given_back(shopper) == 1
    refunds = shopper.provider.get("/v1/refunds", payment_intent=intent).json()["data"]
    assert [each["status"] for each in refunds] == ["succeeded", "failed"]
    assert await shopper.one(_OWED) == 0
    assert await shopper.one("SELECT status || refunded_minor FROM payments") == "refunded10500"
    await _sound(shopper)


_CHARGED_BACK = "SELECT sum(balance_minor) FROM ledger_balances_now WHERE code = 5020"
_OWED = "SELECT sum(balance_minor) FROM ledger_balances_now WHERE code = 2100"
_LATE_REFUNDS = """SELECT count(*) FILTER (WHERE kind = 'refund_settled') || ' '
    || count(*) FILTER (WHERE kind = 'refund_voided') FROM ledger_journals WHERE idem LIKE 'late:%'"""


async def _comes_back(shopper: Paying, refund: str) -> None:
    """The notice comes twice."""
    shopper.provider.admin("POST", f"/refunds/{refund}/fail")
    signature, raw = shopper.heard("refund.failed", refund)
    for _ in range(2):
        assert (await shopper.tell(raw, signature)).status_code == 200
        await shopper.served.work()


async def _heard(shopper: Paying, type: str, about: str) -> None:
    signature, raw = shopper.heard(type, about)
    assert (await shopper.tell(raw, signature)).status_code == 200
    await shopper.served.work()


async def _sound(shopper: Paying) -> None:
    await shopper.books_hold()
    async with shopper.db.reading(SYSTEM) as session:
        assert await violations(session) == []


async def _given_back(shopper: Paying) -> int:
    gateways = shopper.served.gateways
    return await late_payments.sweep_late_payments(
        gateways.db, payments=gateways.payments, clock=gateways.clock
    )


async def give_up_what_ran_out(shopper: Paying) -> int:
    gateways = shopper.served.gateways
    return await paying.sweep_checkouts(gateways.db, payments=gateways.payments, clock=gateways.clock)


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
    # What attribution and fraud rules know the card by: 16 bytes under the platform's secret.
    assert await shopper.one("SELECT length(instrument_key) FROM payments") == 32

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
