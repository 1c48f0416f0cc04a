"""cps.md §3.7: new is who has no paid, not wholly refunded order with the advertiser in the last 365 days."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import OrderId, RefundId
from infra.db.session import Database
from infra.payments.gateway import Refund as ProviderRefund
from marketplace.orders import refund_sending, refunding
from marketplace.orders.refunding import RefundCommand
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.service import CreatedLink
from tests.factories import orders, promotion

TERMS = Terms((Rule(100_000, rate_new_ppm=200_000),))
YEAR = timedelta(days=365)
LOOKING, PAYING = timedelta(hours=1), timedelta(minutes=2)


class Buying:
    def __init__(self, db: Database, clock: FixedClock, shop: orders.Shop, link: CreatedLink) -> None:
        self.db, self.clock, self.shop, self.link = db, clock, shop, link

    @classmethod
    async def at_a_shop(cls, db: Database, clock: FixedClock) -> Buying:
        shop = await orders.open_shop(db, clock, terms=TERMS)
        async with db.unit_of_work(SYSTEM) as session:
            return cls(db, clock, shop, await promotion.link(session, shop.promotion, clock))

    async def buys(self, email: str = "anna@example.com") -> tuple[OrderId, int]:
        """The order, and the rate in ppm at which it was sold."""
        async with self.db.unit_of_work(SYSTEM) as session:
            token = await promotion.click(session, self.link, self.clock.now())
        self.clock.advance(LOOKING)
        order = await orders.paid_order(self.db, self.shop, self.clock, tokens=[token], email=email)
        async with self.db.reading(SYSTEM) as session:
            query = text("SELECT rate_ppm FROM commission_lines WHERE order_id = :order")
            return order, (await session.execute(query, {"order": order})).scalar_one()

    async def refunded(self, order: OrderId) -> None:
        merchant = self.shop.promotion.merchant
        async with self.db.unit_of_work(SYSTEM) as session:
            command = RefundCommand(order, everything=True)
            refund: RefundId = await refunding.request(session, merchant, command, clock=self.clock)
        told = ProviderRefund("re_1", 1, "CNY", "succeeded", "ch", None, None, None, self.clock.now())
        await refund_sending.apply_provider_refund(self.db, refund, told, clock=self.clock)


async def test_the_first_order_earns_the_rate_for_new_customers_and_the_next_does_not(
    db: Database, clock: FixedClock
) -> None:
    at = await Buying.at_a_shop(db, clock)
    rates = [
        (await at.buys(email))[1] for email in ("anna@example.com", "Anna@example.com", "ben@example.com")
    ]
    assert rates == [200_000, 100_000, 200_000]


async def test_who_sent_everything_back_is_new_again(db: Database, clock: FixedClock) -> None:
    at = await Buying.at_a_shop(db, clock)
    order, _ = await at.buys()
    await at.refunded(order)
    assert (await at.buys())[1] == 200_000


async def test_after_365_days_to_the_second_a_customer_is_still_known(
    db: Database, clock: FixedClock
) -> None:
    at = await Buying.at_a_shop(db, clock)
    await at.buys()
    paid_at = clock.now()
    clock.at = paid_at + YEAR - LOOKING - PAYING
    assert (await at.buys())[1] == 100_000


async def test_a_second_later_a_customer_is_new(db: Database, clock: FixedClock) -> None:
    at = await Buying.at_a_shop(db, clock)
    await at.buys()
    clock.at += YEAR - LOOKING - PAYING + timedelta(seconds=1)
    assert (await at.buys())[1] == 200_000
