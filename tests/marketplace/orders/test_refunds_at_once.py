"""Two refunds of one order that end at the same time leave the commission record where one after the other would.

A line of 10,000 earned 1,000; each refund is of half of its goods: basis 5,000, commission 500.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId, OrderLineId, ProductId, RefundId
from infra.db.session import Database
from marketplace.orders import refund_commission
from marketplace.orders.capture import shares_of
from marketplace.promotion import service
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from supply.settlement import queries
from supply.settlement import service as settlement
from supply.settlement.capture import CapturedLine, CapturedOrder
from supply.settlement.disputes.applying import apply_dispute
from supply.settlement.disputes.events import DisputeLost, DisputeWon
from supply.settlement.refunds import LineRefund, RefundPlan
from tests.factories import promotion as make
from tests.factories.settlement import dispute_of
from tests.fixtures.waiting import until_waiting
from tests.marketplace.promotion.commission.shop import MERCHANT, Shop

Verb = Callable[..., Awaitable[None]]
_LINES = text(
    "SELECT status, refunded_basis_minor, reversed_minor FROM commission_lines WHERE order_id = :order ORDER BY id"
)
_HELD = text(
    "SELECT coalesce(sum(p.amount_minor - p.by_line_minor - p.by_amount_minor), 0)::int FROM split_parts p"
    " JOIN split_lines l ON l.id = p.line_id WHERE l.order_id = :order"
    " AND p.seat IN ('promoter_brand', 'platform_commission')"
)
_LOCK_LINE = text(
    "SELECT order_line_id FROM commission_lines WHERE order_id = :order ORDER BY id LIMIT 1 FOR UPDATE"
)


async def line_of(shop: Shop, order_id: OrderId) -> tuple[str, int, int]:
    """Status, refunded basis, commission reversed: of the order's only line, which agree with the books."""
    async with shop.db.reading(SYSTEM) as session:
        (row,) = (await session.execute(_LINES, {"order": order_id})).all()
        assert await session.scalar(_HELD, {"order": order_id}) == 1_000 - row.reversed_minor
        assert await queries.broken_identities(session) == []
    return row.status, row.refunded_basis_minor, row.reversed_minor


def half(line_id: OrderLineId) -> list[LineRefund]:
    return [LineRefund(line_id, 0, goods_minor=5_000)]


async def reserved(shop: Shop, order_id: OrderId, lines: Sequence[LineRefund]) -> RefundId:
    plan = RefundPlan(RefundId.new(), order_id, lines)
    async with shop.db.unit_of_work(SYSTEM) as session:
        await settlement.reserve_refund(session, plan, now=shop.clock.now())
    return plan.refund_id


async def leave(shop: Shop, session: AsyncSession, refund_id: RefundId) -> None:
    """The money leaves the provider's balance; what becomes of it is not decided."""
    await settlement.settle_refund(session, refund_id, now=shop.clock.now(), provider_ref="re_2")


async def succeed(shop: Shop, session: AsyncSession, refund_id: RefundId) -> None:
    await leave(shop, session, refund_id)
    await refund_commission.take(session, refund_id, clock=shop.clock)


async def fail(shop: Shop, session: AsyncSession, refund_id: RefundId) -> None:
    await refund_commission.give_back(session, refund_id, clock=shop.clock)
    await settlement.void_refund(session, refund_id, now=shop.clock.now())


async def by_itself(shop: Shop, verb: Verb, *asked: Any) -> None:
    async with shop.db.unit_of_work(SYSTEM) as session:
        await verb(shop, session, *asked)


@asynccontextmanager
async def at_the_same_time(shop: Shop, verb: Verb, *asked: Any) -> AsyncIterator[AsyncSession]:
    """What the block did to the order is not committed before ``verb`` has come as far as it can."""
    async with shop.db.unit_of_work(SYSTEM) as session:
        yield session
        other = asyncio.create_task(by_itself(shop, verb, *asked))
        await until_waiting(shop.db, 1)
    await other


async def test_one_succeeds_while_another_fails(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    first = await shop.refunds(order_id, lines=half(line_id))
    second = await reserved(shop, order_id, half(line_id))

    async with at_the_same_time(shop, succeed, second) as session:
        await fail(shop, session, first)

    assert await line_of(shop, order_id) == ("PENDING", 5_000, 500)


@pytest.mark.parametrize("first_had_succeeded", [True, False])
async def test_one_fails_while_another_succeeds(
    db: Database, clock: FixedClock, *, first_had_succeeded: bool
) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    if first_had_succeeded:
        first = await shop.refunds(order_id, lines=half(line_id))
    else:
        first = await reserved(shop, order_id, half(line_id))
    second = await reserved(shop, order_id, half(line_id))

    async with at_the_same_time(shop, fail, first) as session:
        await succeed(shop, session, second)

    assert await line_of(shop, order_id) == ("PENDING", 5_000, 500)


async def test_both_succeed_at_the_same_time(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    await shop.refunds((await shop.sells())[0], everything=True)  # the provider's account is in the books
    first, second = [await reserved(shop, order_id, half(line_id)) for _ in range(2)]

    async with at_the_same_time(shop, succeed, second) as session:
        await succeed(shop, session, first)

    assert await line_of(shop, order_id) == ("REVERSED", 10_000, 1_000)


async def test_two_that_fail_at_the_same_time_take_turns(db: Database, clock: FixedClock) -> None:
    """Of two lines, one refunded by each: both fail, the first waiting for the first line, the second behind it."""
    shop = await Shop.opened(db, clock)
    order_id, line_ids = await sells_two_lines(shop)
    refunds = {line_id: await shop.refunds(order_id, lines=[LineRefund(line_id, 1)]) for line_id in line_ids}

    async with db.unit_of_work(SYSTEM) as session:
        first = refunds.pop(OrderLineId.of(await session.scalar(_LOCK_LINE, {"order": order_id})))
        (second,) = refunds.values()
        failing = [asyncio.create_task(by_itself(shop, fail, first))]
        await until_waiting(db, 1)
        failing.append(asyncio.create_task(by_itself(shop, fail, second)))
        await until_waiting(db, 2)
    await asyncio.gather(*failing)

    async with db.reading(SYSTEM) as session:
        rows = (await session.execute(_LINES, {"order": order_id})).all()
    assert [tuple(row) for row in rows] == [("PENDING", 0, 0)] * 2


async def sells_two_lines(shop: Shop) -> tuple[OrderId, list[OrderLineId]]:
    order_id, line_ids, now = OrderId.new(), [OrderLineId.new() for _ in range(2)], shop.clock.now()
    lines = [
        LineForAttribution(each, ProductId.new(), "sku", "beauty", quantity=1, gross_minor=10_000)
        for each in line_ids
    ]
    order = OrderForAttribution(
        order_id, MERCHANT.brand_id, "CNY", now, lines, touch_tokens=[shop.token], paid_at=now
    )
    async with shop.db.unit_of_work(SYSTEM) as session:
        done = await service.attribute(session, order, signer=make.SIGNER, clock=shop.clock)
        captured = [
            CapturedLine(
                each, 1, 10_000, 0, shop.supplier, 0, commission=shares_of(earned), basis_minor=10_000
            )
            for each, earned in zip(line_ids, done.lines, strict=True)
        ]
        split = CapturedOrder(order_id, MERCHANT.brand_id, "CNY", f"ch_{order_id}", now, captured, "CN")
        await settlement.open_split(session, split, clock=shop.clock)
    return order_id, line_ids


async def test_one_left_pending_fails_after_another_succeeded(db: Database, clock: FixedClock) -> None:
    """Its goods counted as refunded when the other's were recorded, though nothing was taken for it yet."""
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    slow, quick = [await reserved(shop, order_id, half(line_id)) for _ in range(2)]
    await by_itself(shop, leave, slow)
    await by_itself(shop, succeed, quick)

    await by_itself(shop, fail, slow)

    assert await line_of(shop, order_id) == ("PENDING", 5_000, 500)


async def test_a_line_that_others_still_reverse_wholly_stays_reversed(
    db: Database, clock: FixedClock
) -> None:
    """1 of 10,000 takes nothing of 1,000, the other 9,999 all of it; the first comes back: R6 takes 1,000 still."""
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    little = await shop.refunds(order_id, lines=[LineRefund(line_id, 0, goods_minor=1)])
    await shop.refunds(order_id, lines=[LineRefund(line_id, 0, goods_minor=9_999)])

    await shop.refund_fails(little)

    assert await line_of(shop, order_id) == ("REVERSED", 9_999, 1_000)


async def test_a_dispute_is_lost_while_a_refund_fails(db: Database, clock: FixedClock) -> None:
    """Half is refunded, the bank takes the other half, and the refund comes back: 5,000 of 10,000."""
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    refund = await shop.refunds(order_id, lines=half(line_id))
    lost = await bank_says(shop, order_id, "lost")

    async with at_the_same_time(shop, hears, lost) as session:
        await fail(shop, session, refund)

    assert await line_of(shop, order_id) == ("PENDING", 5_000, 500)


async def test_a_lost_dispute_is_won_while_a_refund_fails(db: Database, clock: FixedClock) -> None:
    shop = await Shop.opened(db, clock)
    order_id, line_id = await shop.sells()
    refund = await shop.refunds(order_id, lines=half(line_id))
    await by_itself(shop, hears, await bank_says(shop, order_id, "lost"))
    assert await line_of(shop, order_id) == ("REVERSED", 10_000, 1_000)
    won = await bank_says(shop, order_id, "won")

    async with at_the_same_time(shop, hears, won) as session:
        await fail(shop, session, refund)

    assert await line_of(shop, order_id) == ("PENDING", 0, 0)


async def bank_says(shop: Shop, order_id: OrderId, verdict: str) -> DisputeLost | DisputeWon:
    """Of a dispute about 5,000 of the order; the commission has not followed yet."""
    now = shop.clock.now()
    async with shop.db.unit_of_work(SYSTEM) as session:
        told = dispute_of(f"ch_{order_id}", status=verdict, amount_minor=5_000)
        await apply_dispute(session, told, provider="stripe", now=now)
    kind = DisputeLost if verdict == "lost" else DisputeWon
    return kind("du_1", (order_id,), 5_000, "CNY", now)


async def hears(shop: Shop, session: AsyncSession, event: DisputeLost | DisputeWon) -> None:
    if isinstance(event, DisputeLost):
        await refund_commission.on_dispute_lost(session, event, clock=shop.clock)
    else:
        await refund_commission.on_dispute_won(session, event, clock=shop.clock)
