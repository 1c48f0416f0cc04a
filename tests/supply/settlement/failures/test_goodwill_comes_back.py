"""R6c: the platform's goodwill was repaid by a refund of the parties' shares, and then its own payment came back.

By hand: the customer paid 105.00. The platform gives 10.00, then everything is refunded: the parties give 105.00, of
which 10.00 repays the platform. The bank sends the 10.00 back. The customer has 95.00 and is owed 10.00 (2100).
"""

from __future__ import annotations

import pytest

from core.actor import SYSTEM
from core.ids import RefundId
from core.money import Money
from marketplace.orders import refunding
from marketplace.orders.models import PaymentStatus, RefundCause, RefundKind, RefundStatus
from services.simulate.invariants import violations
from supply.ledger.chart import Code
from supply.settlement.composition import RefundTooLarge
from supply.settlement.errors import NothingToRefund
from tests.fixtures.buying import Bought, bought
from tests.services.api.conftest import Paying
from tests.supply.settlement.failures.test_disputes_fail import Case

CNY = "CNY"


async def given_and_come_back(order: Bought, refunded: Money | None = None) -> RefundId:
    """10.00 of goodwill, then a refund of everything or of ``refunded``, then the bank sends the 10.00 back."""
    given = await order.refund(
        actor=SYSTEM, amount=Money(1_000, CNY), goodwill=True, cause=RefundCause.GOODWILL
    )
    await order.work()
    (made,) = order.shopper.provider.get("/v1/refunds", charge=order.charge_id).json()["data"]
    await (order.refund(amount=refunded) if refunded else order.refund(everything=True))
    await order.work()
    await sent_back(order, made["id"])
    return given


async def sent_back(order: Bought, refund: str) -> None:
    order.shopper.provider.admin("POST", f"/refunds/{refund}/fail", code="expired_or_canceled_card")
    for raw in order.notices("refund.failed", about=refund):
        await order.tell(raw)
    await order.work()


async def made_at_the_desk(order: Bought, amount_minor: int) -> str:
    made = order.shopper.provider.ok("/v1/refunds", charge=order.charge_id, amount=amount_minor)
    for raw in order.notices("refund.created", about=made["id"]):
        await order.tell(raw)
    await order.work()
    return str(made["id"])


async def sound(order: Bought) -> None:
    """Every identity of the books, and every rule that the simulation asks."""
    await order.hold()
    async with order.shopper.db.reading(SYSTEM) as session:
        assert await violations(session) == []


async def owed(order: Bought) -> dict[Code, int]:
    """What the customer is owed, what the platform gave, what it lost to banks: as debits."""
    trial = await order.trial()
    return {
        code: trial[code]
        for code in (Code.REFUND_PENDING, Code.GOODWILL, Code.CHARGEBACK_LOSS)
        if code in trial
    }


async def test_repaid_goodwill_that_comes_back_is_owed_to_the_customer(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)

    given = await given_and_come_back(order)

    assert await owed(order) == {Code.REFUND_PENDING: -1_000}
    assert {each.net_minor for each in (await order.balances()).values()} == {0}
    assert order.at_provider() == [(1_000, "failed"), (9_500, "succeeded")]
    assert await paying_shopper.one("SELECT payment_status FROM orders") == PaymentStatus.PARTIALLY_REFUNDED
    await sound(order)

    async with paying_shopper.db.unit_of_work(SYSTEM) as session:
        await refunding.retry(session, SYSTEM, given, clock=paying_shopper.clock)
    await order.work()

    assert order.at_provider()[2:] == [(1_000, "succeeded")]
    assert await owed(order) == {}
    assert await paying_shopper.one("SELECT payment_status FROM orders") == PaymentStatus.REFUNDED
    with pytest.raises(NothingToRefund):
        await order.refund(everything=True)
    await sound(order)


async def test_a_refund_of_everything_brings_what_is_owed(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    await given_and_come_back(order, Money(10_000, CNY))  # repays 5.00; the parties hold 5.00 more
    assert await owed(order) == {Code.REFUND_PENDING: -500}
    with pytest.raises(RefundTooLarge):
        await order.refund(amount=Money(501, CNY))  # of the parties' shares

    back = await order.refund(everything=True)
    await order.work()

    assert order.at_provider()[1:] == [(9_500, "succeeded"), (1_000, "succeeded")]
    assert await owed(order) == {}
    assert {each.net_minor for each in (await order.balances()).values()} == {0}
    await sound(order)

    (made,) = paying_shopper.provider.get("/v1/refunds", charge=order.charge_id, limit=1).json()["data"]
    assert made["metadata"]["refund"] == str(back)
    await sent_back(order, made["id"])
    assert await owed(order) == {Code.REFUND_PENDING: -500}  # the parties have their 5.00 again
    await sound(order)


async def test_new_goodwill_pays_what_is_owed_before_it_costs_the_platform(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    await given_and_come_back(order, Money(10_000, CNY))

    await order.refund(actor=SYSTEM, amount=Money(700, CNY), goodwill=True)
    await order.work()

    assert await owed(order) == {Code.GOODWILL: 200}
    await sound(order)


async def test_a_refund_at_the_desk_pays_what_is_owed_and_then_the_parties_shares(
    paying_shopper: Paying,
) -> None:
    order = await bought(paying_shopper)
    await given_and_come_back(order, Money(10_000, CNY))
    before = await order.balances()

    made = await made_at_the_desk(order, 800)

    first, second = (await order.refunds())[2:]
    assert [(r.kind, r.amount.amount_minor, r.cause) for r in (first, second)] == [
        (RefundKind.GOODWILL, 500, RefundCause.MADE_AT_PROVIDER),
        (RefundKind.SHARED, 300, RefundCause.MADE_AT_PROVIDER),
    ]
    assert {r.status for r in (first, second)} == {RefundStatus.SUCCEEDED}
    assert await owed(order) == {}
    await sound(order)

    await sent_back(order, made)

    assert {r.status for r in (await order.refunds())[2:]} == {RefundStatus.FAILED}
    assert await owed(order) == {Code.REFUND_PENDING: -500}
    assert await order.balances() == before
    await sound(order)


async def test_a_lost_dispute_brings_what_is_owed_and_one_won_after_that_takes_it_again(
    paying_shopper: Paying,
) -> None:
    order = await bought(paying_shopper)
    await given_and_come_back(order)
    case = Case(order, amount=1_000)
    case.verdict("lost")

    await case.tell("closed")

    assert await owed(order) == {}  # and nothing is the platform's loss (5020)
    await sound(order)
    case.verdict("won")
    await case.tell("funds_reinstated")
    assert await owed(order) == {Code.REFUND_PENDING: -1_000}
    await sound(order)


async def test_what_is_owed_covers_one_of_two_disputes_and_the_parties_shares_the_other(
    paying_shopper: Paying,
) -> None:
    order = await bought(paying_shopper)
    await given_and_come_back(order, Money(10_000, CNY))  # 5.00 is owed, 5.00 lie with the parties
    cases = [Case(order, amount=500) for _ in range(2)]
    for case in cases:
        await case.tell("funds_withdrawn")

    here = (await order.balances()).values()
    assert {each.pending_minor + each.available_minor for each in here} == {0}
    frozen = sum(each.reserved_minor for each in here)
    assert 0 < frozen < 500  # the rest of the 5.00 is tax and the platform's fee, which are not frozen
    await sound(order)

    for case, left in zip(cases, (frozen, 0), strict=True):
        case.verdict("lost")
        await case.tell("closed")
        assert await owed(order) == {}
        assert sum(each.reserved_minor for each in (await order.balances()).values()) == left
        await sound(order)
    assert {each.net_minor for each in (await order.balances()).values()} == {0}
