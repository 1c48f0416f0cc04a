"""A holdout measured on orders that are counted by hand: who is a member, in which arm, when, and what is left."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import (
    BrandId,
    CartId,
    CheckoutId,
    ContactId,
    OrderId,
    OrderLineId,
    ProductId,
    StorefrontId,
    SupplierId,
)
from infra.config import Settings
from infra.db.base import table_of
from infra.db.session import Database
from marketplace.insights import measuring
from marketplace.insights.measuring import ResultRow
from marketplace.matching import holdouts
from marketplace.matching.holdouts import Draw, NewHoldout
from marketplace.matching.ids import HoldoutId
from marketplace.orders.models import Cart, Checkout, Order
from marketplace.promotion import service
from marketplace.promotion.service import LineForAttribution, OrderForAttribution
from supply.settlement import service as settlement
from supply.settlement.capture import CapturedLine, CapturedOrder, CommissionShare
from supply.settlement.composition import Part
from tests.factories import audiences as people
from tests.factories import promotion as make
from tests.factories.brands import brand_actor
from tests.factories.orders import SECRET
from tests.factories.promotion import SIGNER, Market

MERCHANT, PROMOTER, RIVAL = (brand_actor(BrandId.new()) for _ in range(3))
SUPPLIER = SupplierId.new()
SETTINGS = Settings(secret_key=SECRET)
DAY = timedelta(days=1)
EMAILS = [f"member{n}@example.com" for n in range(600)]
_CARTS, _CHECKOUTS, _ORDERS = (insert(table_of(model)) for model in (Cart, Checkout, Order))


async def _bought(
    session: AsyncSession,
    clock: FixedClock,
    sales: Sequence[tuple[str, datetime, int]],
    *,
    merchant: BrandId = MERCHANT.brand_id,
) -> list[OrderId]:
    """Paid orders of (address, when, refunded): each of 100.00, of which the supplier has 30.00, the promoter brand
    9.50 and the platform 0.50, so that 60.00 are the merchant's."""
    carts, checkouts, orders, splits = [], [], [], []
    for email, at, refunded in sales:
        cart, checkout, order = CartId.new(), CheckoutId.new(), OrderId.new()
        common = {"storefront_id": StorefrontId.new(), "currency": "CNY"}
        carts.append(
            {
                "id": cart, "brand_id": PROMOTER.brand_id, "country": "CN", "touch_tokens": [], "session_key": "",
                "status": "ordered", "version": 1, "created_at": at, "updated_at": at, **common,
            }
        )  # fmt: skip
        checkouts.append(
            {
                "id": checkout, "cart_id": cart, "brand_id": PROMOTER.brand_id, "buyer_key": b"k", "address": {},
                "address_key": b"a", "dest_zone": "CN", "email": email, "status": "paid", "started_at": at, **common,
            }
        )  # fmt: skip
        orders.append(
            {
                "id": order, "number": order.hex, "checkout_id": checkout, "merchant_id": merchant,
                "seller_id": PROMOTER.brand_id, "buyer_key": b"k", "goods_minor": 10_000, "shipping_minor": 0,
                "tax_minor": 0, "total_minor": 10_000, "refunded_minor": refunded, "payment_status": "paid",
                "fulfillment_status": "unfulfilled", "country": "CN", "placed_at": at, "paid_at": at, **common,
            }
        )  # fmt: skip
        shares = (
            CommissionShare(str(PROMOTER.brand_id), Part.PROMOTER_BRAND, 950),
            CommissionShare("", Part.PLATFORM_COMMISSION, 50),
        )
        line = CapturedLine(
            OrderLineId.new(), 1, 10_000, 0, SUPPLIER, 3_000, commission=shares, basis_minor=10_000
        )
        splits.append(CapturedOrder(order, merchant, "CNY", f"ch_{order}", at, [line], "CN"))
    for statement, rows in ((_CARTS, carts), (_CHECKOUTS, checkouts), (_ORDERS, orders)):
        await session.execute(statement, rows)
    await settlement.open_splits(session, splits, clock=clock)
    return [each.order_id for each in splits]


async def _experiment(
    db: Database, clock: FixedClock
) -> tuple[Market, HoldoutId, Draw, dict[str, ContactId]]:
    async with db.unit_of_work(SYSTEM) as session:
        market = await make.market(session, MERCHANT, PROMOTER, clock)
        joined = await people.members(
            session, PROMOTER, clock, market.community_id, [people.person(email=email) for email in EMAILS]
        )
        wanted = NewHoldout(market.community_id, market.agreement_id, 400_000)
        clock.advance(60 * DAY)
        id = await holdouts.start(session, MERCHANT, wanted, clock=clock)
        drawn = (await holdouts.holdout(session, MERCHANT, id)).drawn(SECRET)
    return market, id, drawn, dict(zip(EMAILS, joined, strict=True))


async def _measured(db: Database, clock: FixedClock, id: HoldoutId) -> dict[BrandId, ResultRow]:
    while await measuring.measure_due(db, clock=clock, settings=SETTINGS):
        pass
    found = {}
    for actor in (MERCHANT, PROMOTER):
        async with db.reading(actor) as session:
            found[actor.brand_id] = (await measuring.results_of(session, actor, [id]))[id]
    return found


async def test_incremental_orders_revenue_and_profit_stand_beside_what_is_attributed(
    db: Database, clock: FixedClock
) -> None:
    """Every fourth of those shown buys one thing, every tenth of those held out; one of the shown gives his back.

    Total = (mean of the shown - mean of the held out) x the number shown; nobody bought before, so nothing is adjusted.
    """
    market, id, drawn, contacts = await _experiment(db, clock)
    started = clock.now()
    shown = [email for email in EMAILS if not drawn.holds_out(contacts[email])]
    held = [email for email in EMAILS if drawn.holds_out(contacts[email])]
    buyers = [*shown[::4], *held[::10]]
    async with db.unit_of_work(SYSTEM) as session:
        kept = [(email, started + DAY, 0) for email in buyers[1:]]
        await _bought(session, clock, [(buyers[0], started + DAY, 10_000), *kept])
        # None of these count: a stranger, another merchant's order, one before and one after the time.
        await _bought(session, clock, [("stranger@example.com", started + DAY, 0)])
        await _bought(session, clock, [(shown[1], started + DAY, 0)], merchant=RIVAL.brand_id)
        await _bought(session, clock, [(shown[2], started + 20 * DAY, 0), (shown[3], started - 40 * DAY, 0)])
        link = await make.link(session, market, clock)
        token = await make.click(session, link, started + DAY)
        clock.advance(2 * DAY)
        line = LineForAttribution(OrderLineId.new(), ProductId.new(), "sku", "beauty", 1, 10_000)
        sold = OrderForAttribution(
            OrderId.new(),
            MERCHANT.brand_id,
            "CNY",
            clock.now(),
            [line],
            touch_tokens=[token],
            paid_at=clock.now(),
        )
        await service.attribute(session, sold, signer=SIGNER, clock=clock)
    clock.advance(8 * DAY)

    found = await _measured(db, clock, id)

    for brand, each in ((MERCHANT.brand_id, 6_000), (PROMOTER.brand_id, 950)):
        row = found[brand]
        assert (row.members_shown, row.members_held_out) == (len(shown), len(held))
        assert (row.buyers_shown, row.buyers_held_out) == (len(shown[::4]) - 1, len(held[::10]))
        rates = len(shown[::4]) / len(shown), len(held[::10]) / len(held)
        kept_rate = (len(shown[::4]) - 1) / len(shown)
        by_metric = {each.metric: each for each in row.incremental}
        assert by_metric["orders"].total == pytest.approx(len(shown) * (kept_rate - rates[1]))
        assert by_metric["revenue"].total == pytest.approx(len(shown) * (kept_rate - rates[1]) * 10_000)
        assert by_metric["profit"].total == pytest.approx(len(shown) * (rates[0] - rates[1]) * each)
        for metric in by_metric.values():
            assert metric.total is not None
            assert metric.low is not None
            assert 0 < metric.low < metric.total
            assert metric.significant
        [attributed] = row.attributed
        assert (attributed.orders, str(attributed.basis), str(attributed.commission)) == (
            1, "100.00 CNY", "10.00 CNY",
        )  # fmt: skip


async def test_few_buyers_are_not_enough_and_a_held_out_visitor_is_told(
    db: Database, clock: FixedClock
) -> None:
    market, id, drawn, contacts = await _experiment(db, clock)
    held = next(email for email in EMAILS if drawn.holds_out(contacts[email]))
    async with db.unit_of_work(SYSTEM) as session:
        link = await make.link(session, market, clock)
        await make.click(session, link, clock.now())
        await session.execute(text("UPDATE touches SET contact_id = :id"), {"id": contacts[held]})
        await _bought(session, clock, [(email, clock.now() + DAY, 0) for email in EMAILS[:19]])
    clock.advance(2 * DAY)
    row = (await _measured(db, clock, id))[MERCHANT.brand_id]
    assert row.held_out_visitors == 1
    assert row.buyers_shown + row.buyers_held_out == 19  # so one arm has fewer than ten
    assert {(each.total, each.significant) for each in row.incremental} == {(None, None)}


async def test_it_is_measured_every_hour_and_after_its_end_as_long_as_refunds_may_come(
    db: Database, clock: FixedClock
) -> None:
    _, id, _, _ = await _experiment(db, clock)

    async def measured_at() -> datetime:
        return (await _measured(db, clock, id))[MERCHANT.brand_id].measured_at

    clock.advance(DAY)
    first = await measured_at()
    assert first == clock.now()
    clock.advance(timedelta(minutes=59))
    assert await measured_at() == first
    clock.advance(timedelta(minutes=1))
    assert await measured_at() == clock.now()
    clock.advance(timedelta(minutes=5))
    async with db.unit_of_work(MERCHANT) as session:
        await holdouts.end(session, MERCHANT, id, clock=clock)
    ended = clock.now()
    assert await measured_at() == ended
    clock.advance(DAY)
    row = (await _measured(db, clock, id))[MERCHANT.brand_id]
    assert (row.measured_at, row.measured_until) == (clock.now(), ended)
    clock.advance(60 * DAY)
    assert await measured_at() == row.measured_at
