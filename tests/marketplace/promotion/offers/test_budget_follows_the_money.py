"""A budget through the real handlers: checkouts, a refund by the provider, deliveries, the release of return windows.

Two creams: basis 17,699, commission 1,770 (test_order_to_books).
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import CommissionLineId, FulfillmentOrderId, OrderId
from infra.db.session import Database
from infra.payments.gateway import Refund
from marketplace.orders import refund_sending, refunding
from marketplace.orders.refunding import RefundCommand
from marketplace.promotion.fraud import holds
from marketplace.promotion.ids import CampaignId
from marketplace.promotion.offers import queries
from supply.fulfillment import service as fulfillment
from supply.settlement import service as settlement
from tests.factories import orders, promotion
from tests.fixtures.http import Served, serving

_COMMISSION = text(
    "SELECT coalesce(sum(commission_minor), 0)::int FROM commission_lines WHERE order_id = :order"
)
_APART = text(
    "SELECT count(*) FROM budget_reservations r JOIN commission_lines l ON l.id = r.commission_line_id"
    " WHERE r.amount_minor <> l.commission_minor - l.reversed_minor - l.denied_minor"
    " OR r.amount_minor > 0 AND r.spent <> (l.status IN ('CONFIRMED', 'PAYABLE', 'PAID'))"
)
_SUMS = text(
    "SELECT reserved_minor = (SELECT coalesce(sum(amount_minor) FILTER (WHERE NOT spent), 0) FROM budget_reservations),"
    " spent_minor = (SELECT coalesce(sum(amount_minor) FILTER (WHERE spent), 0) FROM budget_reservations)"
    " FROM campaign_budgets"
)
_LINE = text("SELECT id FROM commission_lines WHERE order_id = :order")
_HOLDS = text(
    "SELECT * FROM commission_holds WHERE order_id = :order AND opened_by = :by AND status = 'OPEN' FOR UPDATE"
)
_AGREEMENT = text("SELECT campaign_id FROM agreements")


class Market:
    """A shop under an agreement of a campaign with ¥25.00."""

    def __init__(
        self, db: Database, clock: FixedClock, served: Served, shop: orders.Shop, token: str
    ) -> None:
        self.db, self.clock, self.served, self.shop, self.token = db, clock, served, shop, token

    async def sells(self) -> tuple[OrderId, int]:
        """Two creams; (the order, its commission)."""
        order_id = await orders.paid_order(self.db, self.shop, self.clock, quantity=2, tokens=[self.token])
        await self.served.work()
        async with self.db.reading(SYSTEM) as session:
            return order_id, await session.scalar(_COMMISSION, {"order": order_id}) or 0

    async def holds(self, order_id: OrderId, by: str) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            line = CommissionLineId.of(await session.scalar(_LINE, {"order": order_id}))
            await holds.hold_line(session, line, opened_by=by, reason="a look", clock=self.clock)

    async def lets_go(self, order_id: OrderId, by: str) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            found = (await session.execute(_HOLDS, {"order": order_id, "by": by})).all()
            await holds.release(session, found, by="test", reason="fine", clock=self.clock)

    async def releases(self) -> None:
        """What is due becomes available; nobody is told yet."""
        await settlement.release_due(self.db, clock=self.clock)

    async def refunds(self, order_id: OrderId) -> None:
        async with self.db.unit_of_work(SYSTEM) as session:
            command = RefundCommand(order_id, everything=True)
            refund = await refunding.request(session, self.shop.promotion.merchant, command, clock=self.clock)
        told = Refund("re_1", 1, "CNY", "succeeded", "ch", None, None, None, self.clock.now())
        await refund_sending.apply_provider_refund(self.db, refund, told, clock=self.clock)
        await self.served.work()

    async def delivers(self, order_id: OrderId) -> None:
        supplier, now = self.shop.source.actor, self.clock.now()
        async with self.db.unit_of_work(SYSTEM) as session:
            found = await session.execute(
                text("SELECT id FROM fulfillment_orders WHERE order_id = :order"), {"order": order_id}
            )
            parcel = FulfillmentOrderId.of(found.scalar_one())
            await fulfillment.accept(session, supplier, parcel, clock=self.clock)
            await fulfillment.ship(
                session, supplier, parcel, carrier="sf-express", tracking_no="1", lines=None,
                handed_over_at=now, clock=self.clock,
            )  # fmt: skip
            await fulfillment.deliver(
                session, supplier, parcel, delivered_at=now, proof=None, clock=self.clock
            )
        await self.served.work()

    async def budget(self) -> tuple[int, int, int]:
        """(reserved, spent, left); every line's reservation is what the line is worth now, on the side it stands."""
        async with self.db.reading(SYSTEM) as session:
            assert await session.scalar(_APART) == 0
            assert (await session.execute(_SUMS)).one() == (True, True)
            campaign_id = await session.scalar(_AGREEMENT)
            found = await queries.campaign(session, SYSTEM, CampaignId.of(campaign_id))
        assert found.budget is not None
        return (
            found.budget.reserved.amount_minor,
            found.budget.spent.amount_minor,
            found.budget.left.amount_minor,
        )


@pytest.fixture
async def market(db: Database, clock: FixedClock) -> AsyncIterator[Market]:
    shop = await orders.open_shop(db, clock, budget_minor=2_500)
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, shop.promotion, clock)
        token = await promotion.click(session, link, clock.now())
    clock.advance(timedelta(hours=1))
    async with serving(db, clock) as served:
        yield Market(db, clock, served, shop, token)


async def test_what_sales_earn_is_reserved_given_back_and_spent(market: Market) -> None:
    kept, commission = await market.sells()
    assert (commission, await market.budget()) == (1_770, (1_770, 0, 730))
    sent_back, commission = await market.sells()
    assert (commission, await market.budget()) == (730, (2_500, 0, 0))
    assert (await market.sells())[1] == 0

    await market.refunds(sent_back)
    assert await market.budget() == (1_770, 0, 730)

    await market.delivers(kept)
    market.clock.advance(timedelta(days=14))
    await settlement.release_due(market.db, clock=market.clock)
    await market.served.work()
    assert await market.budget() == (1_770, 0, 730)  # its return window of 15 days is open
    market.clock.advance(timedelta(days=2))
    await settlement.release_due(market.db, clock=market.clock)
    await market.served.work()
    assert await market.budget() == (0, 1_770, 730)

    await market.refunds(kept)
    assert await market.budget() == (0, 0, 2_500)


async def test_what_a_hold_took_back_is_reserved_again_and_spent_when_it_is_let_go(market: Market) -> None:
    order_id, _ = await market.sells()
    market.clock.advance(timedelta(days=46))
    await market.releases()
    await market.served.work()
    assert await market.budget() == (0, 1_770, 730)
    await market.holds(order_id, "advertiser")
    assert await market.budget() == (1_770, 0, 730)
    await market.lets_go(order_id, "advertiser")
    await market.releases()
    await market.served.work()
    assert await market.budget() == (0, 1_770, 730)


async def test_a_hold_between_a_release_and_its_news_leaves_the_budget_reserved(market: Market) -> None:
    order_id, _ = await market.sells()
    market.clock.advance(timedelta(days=46))
    await market.releases()
    await market.holds(order_id, "advertiser")
    await market.served.work()
    assert await market.budget() == (1_770, 0, 730)


@pytest.mark.parametrize("seed", range(4))
async def test_reserved_spent_and_left_are_the_limit_through_any_life(market: Market, seed: int) -> None:
    """Two orders, one cut to what was left; each is due, held by several, let go, released, refunded, in any sequence.

    A line is spent exactly from the release that found it due and free on, until a hold takes it back.
    """
    chance = random.Random(seed)
    worth = dict([await market.sells(), await market.sells()])
    assert list(worth.values()) == [1_770, 730]
    market.clock.advance(timedelta(days=46))
    held: dict[OrderId, set[str]] = {order: set() for order in worth}
    asked: set[tuple[OrderId, str]] = set()
    spent: set[OrderId] = set()
    for step in range(24):
        order, by = chance.choice(list(worth)), f"brand-{step % 5}"
        match chance.choice(["hold", "let go", "release", "work", "work"] + ["refund"] * (step == 15)):
            case "hold" if (order, by) not in asked and worth[order]:
                await market.holds(order, by)
                asked.add((order, by))
                held[order].add(by)
                spent.discard(order)
            case "let go" if held[order]:
                await market.lets_go(order, held[order].pop())
            case "release":
                await market.releases()
                spent |= {each for each in worth if not held[each]}
            case "refund":
                await market.served.work()
                await market.refunds(order)
                worth[order] = 0
            case _:
                await market.served.work()
    await market.served.work()
    total = sum(worth[order] for order in spent)
    assert await market.budget() == (sum(worth.values()) - total, total, 2_500 - sum(worth.values()))
