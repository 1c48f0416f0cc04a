"""Refunds of one order that meet: each waits its turn, and none is refused because the database stopped a circle.

By hand: the customer paid 105.00.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text

from core.actor import SYSTEM
from core.ids import RefundId
from core.money import Money
from infra.payments.gateway import Refund as ProviderRefund
from marketplace.orders import refund_sending
from marketplace.orders.events import ProviderNotified
from marketplace.orders.models import RefundStatus
from tests.fixtures.buying import Bought, bought
from tests.fixtures.waiting import until_waiting
from tests.services.api.conftest import Paying

CNY = "CNY"
_LOCK_BOOK = text("SELECT FROM split_orders WHERE order_id = :order FOR UPDATE")


@asynccontextmanager
async def book_held(order: Bought) -> AsyncIterator[None]:
    """Whatever refunds the order comes as far as its split, in the sequence it was begun."""
    async with order.shopper.db.unit_of_work(SYSTEM) as session:
        await session.execute(_LOCK_BOOK, {"order": order.order_id})
        yield


async def refused_by_the_bank(order: Bought, refund_id: RefundId) -> None:
    told = ProviderRefund(
        "re_1", 1_000, CNY, "failed", order.charge_id, None, None, "declined", order.shopper.clock.now()
    )
    await refund_sending.apply_provider_refund(order.shopper.db, refund_id, told, clock=order.shopper.clock)


async def stands(order: Bought) -> tuple[int, str]:
    """What is refunded of the order, and its status."""
    return (
        await order.shopper.one("SELECT refunded_minor FROM orders"),
        await order.shopper.one("SELECT payment_status FROM orders"),
    )


async def test_one_made_at_the_desk_and_one_the_merchant_asks_for(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    made = paying_shopper.provider.ok("/v1/refunds", charge=order.charge_id, amount=1_000)
    (told,) = order.notices("refund.created", about=made["id"])
    await order.tell(told)

    async with book_held(order):
        desk = asyncio.create_task(order.work())
        await until_waiting(paying_shopper.db, 1)
        merchant = asyncio.create_task(order.refund(amount=Money(2_000, CNY)))
        await until_waiting(paying_shopper.db, 2)
    await asyncio.gather(desk, merchant)
    await order.work()

    assert sorted(order.at_provider()) == [(1_000, "succeeded"), (2_000, "succeeded")]
    assert [each.status for each in await order.refunds()] == [RefundStatus.SUCCEEDED] * 2
    assert await stands(order) == (3_000, "partially_refunded")
    await order.hold()


async def test_one_that_fails_and_one_the_merchant_asks_for(paying_shopper: Paying) -> None:
    order = await bought(paying_shopper)
    refused = await order.refund(amount=Money(1_000, CNY))

    async with book_held(order):
        failing = asyncio.create_task(refused_by_the_bank(order, refused))
        await until_waiting(paying_shopper.db, 1)
        merchant = asyncio.create_task(order.refund(amount=Money(2_000, CNY)))
        await until_waiting(paying_shopper.db, 2)
    await asyncio.gather(failing, merchant)
    await order.work()

    assert order.at_provider() == [(2_000, "succeeded")]
    assert await stands(order) == (2_000, "partially_refunded")
    await order.hold()


async def test_two_made_at_the_desk_are_told_of_at_once_and_again(paying_shopper: Paying) -> None:
    """Three notices of two refunds, worked on together: each is one of ours once."""
    order = await bought(paying_shopper)
    ids = [
        paying_shopper.provider.ok("/v1/refunds", charge=order.charge_id, amount=amount)["id"]
        for amount in (1_000, 2_000)
    ]
    gateways = paying_shopper.served.gateways
    notices = [ProviderNotified(f"evt_{n}", "refund.created", each) for n, each in enumerate((*ids, ids[0]))]

    async with book_held(order):
        adopting = [
            asyncio.create_task(
                refund_sending.on_refund(
                    gateways.db, each, payments=gateways.payments, clock=paying_shopper.clock
                )
            )
            for each in notices
        ]
        await until_waiting(paying_shopper.db, 3)
    await asyncio.gather(*adopting)

    assert sorted(each.amount.amount_minor for each in await order.refunds()) == [1_000, 2_000]
    assert await stands(order) == (3_000, "partially_refunded")
    await order.hold()
