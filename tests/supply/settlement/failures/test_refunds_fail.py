"""money.md §6, refunds: whatever is lost, repeated, too early or too late, the money moves once and adds up."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.actor import SYSTEM
from core.errors import Conflict
from core.money import Money
from infra.payments.errors import IdempotencyMismatch, ProviderUnavailable
from marketplace.orders import notices, refund_sending, refunding
from marketplace.orders.errors import RefundAlreadyRequested, RefundExceedsOrder, RefundNotFailed
from marketplace.orders.events import RefundRequested
from marketplace.orders.models import PaymentStatus, RefundCause, RefundKind, RefundStatus
from marketplace.orders.refunding import RefundLine, RefundShipping
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.errors import JournalKeyReused
from supply.ledger.journal import Journal, Leg, credit, debit
from supply.settlement import refunds as settlement
from supply.settlement.composition import RefundTooLarge
from supply.settlement.errors import NothingToRefund, RefundChanged
from supply.settlement.parties import platform_account
from supply.settlement.refunds import RefundPlan
from tests.fixtures.buying import Bought, bought, deaf
from tests.services.api.conftest import Paying

CNY = "CNY"


async def sweep(order: Bought) -> int:
    gateways = order.shopper.served.gateways
    return await refund_sending.sweep_refunds(
        gateways.db, payments=gateways.payments, clock=order.shopper.clock
    )


async def sweep_notices(order: Bought) -> int:
    gateways = order.shopper.served.gateways
    return await notices.sweep_notices(gateways.db, payments=gateways.payments, clock=order.shopper.clock)


async def test_response_lost_after_execution(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    paying_shopper.provider.fault("drop_response", count=2, match={"operation": "refunds.create"})

    await order.refund(everything=True)
    await order.work()

    assert order.at_provider() == [(10_500, "succeeded")]
    assert [r.status for r in await order.refunds()] == [RefundStatus.SUCCEEDED]
    await order.hold()


async def test_same_key_other_body_price_changed_between_tries(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    refund_id = await order.refund(amount=Money(1_000, CNY))
    async with paying_shopper.db.unit_of_work(SYSTEM) as session:
        plan = RefundPlan(refund_id, order.order_id, amount_minor=1_001)
        with pytest.raises(RefundChanged):  # before any call
            await settlement.reserve_refund(session, plan, now=paying_shopper.clock.now())
    again = Journal(
        f"refund:{refund_id}:reserve", "refund_reserved", _another_body(), paying_shopper.clock.now()
    )
    async with paying_shopper.db.unit_of_work(SYSTEM) as session:
        with pytest.raises(JournalKeyReused):  # SQLSTATE 23505
            await ledger.post(session, again, now=paying_shopper.clock.now())
    payments = paying_shopper.served.gateways.payments
    asked: dict[str, Any] = {"charge_or_intent": order.charge_id, "key": f"refund:{refund_id}"}
    await payments.refund(**asked, amount_minor=999)  # another body under the key we are about to use

    with pytest.raises(IdempotencyMismatch):
        await payments.refund(**asked, amount_minor=1_000)
    await order.work()

    assert order.at_provider() == [(999, "succeeded")]  # no retry went out under another key
    assert [r.status for r in await order.refunds()] == [RefundStatus.PENDING]
    assert (await order.trial())[Code.REFUND_PENDING] == -1_000


def _another_body() -> tuple[Leg, Leg]:
    return (
        debit(platform_account(Code.GOODWILL, CNY), 1),
        credit(platform_account(Code.FEE_REVENUE, CNY), 1),
    )


async def test_webhook_twice_five_at_once_after_three_days(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    paying_shopper.provider.fault("refund_failure", pending=True)
    await order.refund(everything=True)
    await order.work()
    assert [r.status for r in await order.refunds()] == [RefundStatus.PENDING]
    (pending,) = paying_shopper.provider.get("/v1/refunds", charge=order.charge_id).json()["data"]
    paying_shopper.provider.admin("POST", f"/refunds/{pending['id']}/succeed")
    (raw,) = order.notices("refund.updated")

    answers = await asyncio.gather(*(order.tell(raw) for _ in range(5)))
    await order.work()
    paying_shopper.clock.advance(timedelta(days=3))
    answers += [await order.tell(raw), await order.tell(raw)]
    await order.work()

    assert {answer.status_code for answer in answers} == {200}
    assert await paying_shopper.one("SELECT count(*) FROM provider_events WHERE type = 'refund.updated'") == 1
    assert await paying_shopper.one("SELECT count(*) FROM ledger_journals WHERE kind = 'refund_settled'") == 1
    assert [r.status for r in await order.refunds()] == [RefundStatus.SUCCEEDED]
    await order.hold()


async def test_out_of_order_refund_before_capture(paying_shopper: Paying) -> None:
    # Somebody refunds at the provider before we know that anything was paid.
    order = await bought(paying_shopper, tell=False)
    paying_shopper.provider.ok("/v1/refunds", charge=order.charge_id, amount=4_000)
    (refunded,) = order.notices("refund.created")
    assert (await order.tell(refunded)).status_code == 200
    await order.work()
    assert await paying_shopper.one("SELECT parked FROM provider_events WHERE type = 'refund.created'")
    assert await order.refunds() == []

    (paid,) = order.notices("payment_intent.succeeded")
    await order.tell(paid)
    await order.work()
    paying_shopper.clock.advance(timedelta(minutes=2))
    assert await sweep_notices(order) == 1

    (refund,) = await order.refunds()
    assert (refund.amount, refund.status) == (Money(4_000, CNY), RefundStatus.SUCCEEDED)
    assert refund.cause is RefundCause.MADE_AT_PROVIDER
    await order.tell(refunded)
    await order.work()
    assert await sweep_notices(order) == 0
    assert len(await order.refunds()) == 1
    await order.hold()


async def test_webhook_never_arrives(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    paying_shopper.provider.fault("refund_failure", pending=True)
    paying_shopper.provider.fault("webhook_drop", count=None)
    await order.refund(everything=True)
    await order.work()
    (pending,) = paying_shopper.provider.get("/v1/refunds", charge=order.charge_id).json()["data"]
    paying_shopper.provider.admin("POST", f"/refunds/{pending['id']}/succeed")

    paying_shopper.clock.advance(timedelta(minutes=9))
    assert await sweep(order) == 0
    paying_shopper.clock.advance(timedelta(minutes=2))
    assert await sweep(order) == 1

    assert [r.status for r in await order.refunds()] == [RefundStatus.SUCCEEDED]
    await order.hold()


async def left_pending(order: Bought, fault: str = "refund_failure") -> str:
    """The whole order is refunded, the provider takes the money and does not say what became of it. Its id."""
    order.shopper.provider.fault(fault, pending=True)
    await order.refund(everything=True)
    await order.work()
    (pending,) = order.shopper.provider.get("/v1/refunds", charge=order.charge_id).json()["data"]
    assert [r.status for r in await order.refunds()] == [RefundStatus.PENDING]
    return str(pending["id"])


@pytest.mark.parametrize("fault", ["refund_failure", "refund_action"])
async def test_a_refund_left_pending_is_booked_when_its_money_goes_and_succeeds_days_later(
    paying_shopper: Paying, fault: str
) -> None:
    order = await bought(paying_shopper)
    before = await order.trial()
    made = await left_pending(order, fault)
    gone = await order.trial()
    # The money has left the provider's balance, so nothing is owed to the customer in our books any more (2100).
    assert Code.REFUND_PENDING not in gone
    assert gone.get(Code.PROVIDER_AVAILABLE, 0) + gone.get(Code.PROVIDER_PENDING, 0) == (
        before.get(Code.PROVIDER_AVAILABLE, 0) + before.get(Code.PROVIDER_PENDING, 0) - 10_500
    )
    for _ in range(3):  # looked up in vain
        paying_shopper.clock.advance(timedelta(days=2))
        assert await sweep(order) == 0
    assert await paying_shopper.one("SELECT refunded_minor FROM payments") == 0

    paying_shopper.provider.admin("POST", f"/refunds/{made}/succeed")
    for raw in order.notices("refund.updated", about=made):
        await order.tell(raw)
    await order.work()

    assert [r.status for r in await order.refunds()] == [RefundStatus.SUCCEEDED]
    assert await order.trial() == gone
    assert await paying_shopper.one("SELECT refunded_minor FROM payments") == 10_500
    assert order.at_provider() == [(10_500, "succeeded")]
    await order.hold()


async def test_a_refund_left_pending_that_fails_days_later_gives_everything_back(
    paying_shopper: Paying,
) -> None:
    order = await bought(paying_shopper)
    before = await order.trial()
    made = await left_pending(order)
    paying_shopper.clock.advance(timedelta(days=5))

    paying_shopper.provider.admin("POST", f"/refunds/{made}/fail", code="expired_or_canceled_card")
    assert await sweep(order) == 1

    assert await order.trial() == before
    assert [(r.status, r.failure) for r in await order.refunds()] == [
        (RefundStatus.FAILED, "expired_or_canceled_card")
    ]
    assert await paying_shopper.one("SELECT payment_status FROM orders") == PaymentStatus.PAID
    await order.refund(everything=True)  # and can be asked for again
    await order.hold()


async def test_partial_refunds_in_many_slices_last_slice(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    left = 10_500
    for slice_ in (1, 7, 333, 1_000, 2_999, 13, 3_333):
        await order.refund(amount=Money(slice_, CNY))
        left -= slice_
    await order.refund(lines=[RefundLine(order.line_id, 0, goods=Money(500, CNY))])
    await order.refund(shipping_of=[RefundShipping(order.line_id, Money(100, CNY))])
    await order.work()
    left -= sum(amount for amount, _ in order.at_provider()[7:])

    await order.refund(everything=True)
    await order.work()

    amounts = [amount for amount, _ in order.at_provider()]
    assert sum(amounts) == 10_500
    assert amounts[-1] == left
    merchant, supplier = (await order.balances()).values()
    assert merchant.net_minor == supplier.net_minor == 0
    assert await paying_shopper.one("SELECT sum(pending_minor + released_minor) FROM split_parts") == 0
    with pytest.raises(NothingToRefund):
        await order.refund(everything=True)
    await order.hold()


async def test_refund_requested_three_times(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    first = await order.refund(everything=True, reference="rma-1")
    before = await order.trial()

    refusals = []
    for asked in ({"reference": "rma-1"}, {}):
        with pytest.raises(Conflict) as refused:
            await order.refund(everything=True, **asked)
        refusals.append(refused.value)
    await order.work()

    assert [each.status for each in refusals] == [409, 409]
    assert isinstance(refusals[0], RefundAlreadyRequested)
    assert refusals[0].refund_id == first
    assert isinstance(refusals[1], NothingToRefund)
    assert order.at_provider() == [(10_500, "succeeded")]
    after = await order.trial()
    assert before[Code.REFUND_PENDING] == -10_500
    assert after == {
        code: amount for code, amount in {
            **before, Code.REFUND_PENDING: 0, Code.PROVIDER_AVAILABLE: -10_500,
        }.items() if amount
    }  # fmt: skip
    await order.hold()


async def test_a_refund_by_units_twice_is_refused_the_second_time(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    await order.refund(lines=[RefundLine(order.line_id, 1)])
    with pytest.raises(RefundExceedsOrder):
        await order.refund(lines=[RefundLine(order.line_id, 1)])
    with pytest.raises(RefundTooLarge):
        await order.refund(amount=Money(501, CNY))  # shipping, 5.00, is all that is left


async def test_a_refund_that_fails_at_once_is_undone_and_asked_for_again(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    paying_shopper.provider.fault("refund_failure")
    before = await order.trial()
    failed = await order.refund(lines=[RefundLine(order.line_id, 1, with_shipping=True)])
    await order.work()
    for raw in order.notices("refund.failed"):
        await order.tell(raw)
    await order.work()

    (row,) = await order.refunds()
    assert (row.status, row.failure) == (RefundStatus.FAILED, "lost_or_stolen_card")
    assert await order.trial() == before
    async with paying_shopper.db.unit_of_work(SYSTEM) as session:
        again = await refunding.retry(session, SYSTEM, failed, clock=paying_shopper.clock)
    await order.work()

    assert order.at_provider() == [(10_500, "failed"), (10_500, "succeeded")]
    assert [(r.id, r.status) for r in await order.refunds()][1:] == [(again, RefundStatus.SUCCEEDED)]
    async with paying_shopper.db.unit_of_work(SYSTEM) as session:
        for refund_id, error in ((failed, RefundAlreadyRequested), (again, RefundNotFailed)):
            with pytest.raises(error):
                await refunding.retry(session, SYSTEM, refund_id, clock=paying_shopper.clock)
    await order.hold()


async def test_a_refund_the_bank_sends_back_after_it_succeeded(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    before = await order.trial()
    await order.refund(everything=True)
    await order.work()
    assert [r.status for r in await order.refunds()] == [RefundStatus.SUCCEEDED]
    (made,) = paying_shopper.provider.get("/v1/refunds", charge=order.charge_id).json()["data"]
    paying_shopper.clock.advance(timedelta(days=40))

    paying_shopper.provider.admin("POST", f"/refunds/{made['id']}/fail", code="expired_or_canceled_card")
    for kind in ("charge.refund.updated", "refund.failed", "charge.refund.updated"):
        await order.tell(order.notices(kind)[0])
        await order.work()

    assert [(r.status, r.failure) for r in await order.refunds()] == [
        (RefundStatus.FAILED, "expired_or_canceled_card")
    ]
    assert await order.trial() == before
    assert await paying_shopper.one("SELECT payment_status FROM orders") == PaymentStatus.PAID
    assert await paying_shopper.one("SELECT refunded_minor FROM payments") == 0
    await order.hold()


async def test_provider_500_stored_under_the_key_of_a_refund(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    paying_shopper.provider.fault("server_error", count=1, match={"operation": "refunds.create"})
    await order.refund(everything=True)
    gateways = paying_shopper.served.gateways
    for _ in range(4):  # the stored failure is replayed, looked up, and then a new key goes out
        paying_shopper.clock.advance(timedelta(hours=1))
        await sweep(order)

    assert order.at_provider() == [(10_500, "succeeded")]
    assert await paying_shopper.one("SELECT attempt FROM refunds") == 2
    await order.work()
    assert order.at_provider() == [(10_500, "succeeded")]
    assert gateways.payments.capabilities().idempotency_hours == 24
    await order.hold()


async def test_key_of_a_refund_older_than_24_h(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    paying_shopper.provider.fault("drop_response", match={"operation": "refunds.create"})
    refund_id = await order.refund(everything=True)
    asked = RefundRequested(refund_id, order.order_id, paying_shopper.clock.now())
    gateways = paying_shopper.served.gateways
    async with deaf(paying_shopper.provider) as payments:
        with pytest.raises(ProviderUnavailable):
            await refund_sending.on_refund_requested(
                gateways.db, asked, payments=payments, clock=paying_shopper.clock
            )
    assert order.at_provider() == [(10_500, "succeeded")]  # it happened, and nobody heard
    assert [r.status for r in await order.refunds()] == [RefundStatus.PENDING]

    paying_shopper.clock.advance(timedelta(hours=25))
    await order.work()  # the message comes again and asks nothing
    assert [r.status for r in await order.refunds()] == [RefundStatus.PENDING]
    assert await sweep(order) == 1  # looked up: nothing goes out a second time

    assert order.at_provider() == [(10_500, "succeeded")]
    await order.hold()


async def test_the_platforms_goodwill_costs_nobody_else_and_is_repaid_first(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    before = await order.balances()
    await order.refund(actor=SYSTEM, amount=Money(1_000, CNY), goodwill=True, cause=RefundCause.GOODWILL)
    await order.work()

    assert order.at_provider() == [(1_000, "succeeded")]
    assert await order.balances() == before
    assert (await order.trial())[Code.GOODWILL] == 1_000
    assert [r.kind for r in await order.refunds()] == [RefundKind.GOODWILL]
    with pytest.raises(Conflict):
        await order.refund(actor=SYSTEM, amount=Money(9_501, CNY), goodwill=True)

    await order.refund(everything=True)  # the parties give back 105.00, the customer gets the 95.00 it lacks
    await order.work()

    assert order.at_provider()[1:] == [(9_500, "succeeded")]
    assert Code.GOODWILL not in await order.trial()
    assert {each.net_minor for each in (await order.balances()).values()} == {0}
    await order.hold()
