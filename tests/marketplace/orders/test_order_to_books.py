"""From a cart to the books, worked on paper.

Two creams at ¥100.00 with 13 % tax inside: 20,000 goods, tax half_up(20,000·13/113) = 2,301, so 17,699 net.
Commission 10 % of 17,699 = 1,770: the platform's 5 % of it is 88.5, the promoter brand's 1,681.5; the tie goes
to the earlier: 1,682 and 88. Platform fee 5 % of 17,699 = 885. Supplier 2 x 3,000, shipping 500 is the supplier's.
Merchant: 17,699 - 6,000 - 1,770 - 885 = 9,044. The customer pays 20,500.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.errors import Problems
from core.ids import OrderId
from core.money import Money
from infra.db.session import Database
from marketplace.catalog import service as catalog
from marketplace.catalog.service import PriceTag, VariantPrice
from marketplace.orders import checkout, payment, queries, refunding
from marketplace.orders.errors import (
    AddressNotServed,
    CartAlreadyOrdered,
    CheckoutNotFound,
    CheckoutNotOpen,
    NotSellableHere,
    OrderNotFound,
    OutOfStock,
    PriceChanged,
    RefundExceedsOrder,
    TotalChanged,
)
from marketplace.orders.models import CheckoutStatus, FulfillmentStatus, PaymentStatus
from marketplace.orders.refunding import RefundCommand, RefundLine
from supply.inventory import queries as stock
from supply.inventory.errors import InsufficientStock
from supply.ledger import queries as ledger
from supply.settlement import queries as settlement
from tests.factories import orders, promotion
from tests.factories.brands import committed_brand
from tests.factories.catalog import committed_product


async def test_every_cent_of_a_promoted_order_is_where_the_paper_says(
    db: Database, clock: FixedClock
) -> None:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, shop.promotion, clock)
        token = await promotion.click(session, link, clock.now())
    clock.advance(timedelta(hours=1))

    order_id = await orders.paid_order(db, shop, clock, quantity=2, tokens=[token])

    async with db.reading(SYSTEM) as session:
        identity = await settlement.order_identity(session, order_id)
        (merchant,) = await settlement.party_balances(session, [str(shop.promotion.merchant.brand_id)])
        (promoter,) = await settlement.party_balances(session, [str(shop.promotion.promoter.brand_id)])
        (source,) = await settlement.party_balances(session, [str(shop.source.supplier_id)])
        assert identity.customer_paid_minor == 20_500
        assert identity.merchant_minor == merchant.pending_minor == 9_044
        assert identity.commissions_minor == promoter.pending_minor == 1_682
        assert identity.platform_minor == 885 + 88
        assert identity.tax_minor == 2_301
        assert identity.suppliers_minor == 6_000
        assert identity.shipping_minor == 500
        assert source.pending_minor == 6_500
        assert identity.holds
        assert await ledger.unbalanced_journals(session) == 0
        assert await ledger.mismatched_balances(session) == 0


async def test_one_of_two_units_back_takes_half_of_every_part(db: Database, clock: FixedClock) -> None:
    # Cumulative per part: tax half_up(2,301/2) = 1,151 and the rest with the second unit; 20,000 for both.
    shop = await orders.open_shop(db, clock)
    order_id = await orders.paid_order(db, shop, clock, quantity=2)

    amounts = [await _refund(db, shop, order_id, quantity=1, clock=clock) for _ in range(2)]

    assert sum(amounts) == 20_000
    async with db.reading(SYSTEM) as session:
        order = await queries.order(session, SYSTEM, order_id)
        assert order.refunded == Money(20_000, "CNY")
        assert order.payment_status is PaymentStatus.PARTIALLY_REFUNDED  # shipping stays with the supplier
        assert (await settlement.order_identity(session, order_id)).holds
        (source,) = await settlement.party_balances(session, [str(shop.source.supplier_id)])
        assert source.pending_minor == 500
        available = await stock.sellable(session, [shop.variant], "CN-SH", now=clock.now())
        assert available[shop.variant] == 100  # nothing had shipped: both units are back on the shelf


async def _refund(
    db: Database, shop: orders.Shop, order_id: OrderId, *, quantity: int, clock: FixedClock
) -> int:
    async with db.unit_of_work(SYSTEM) as session:
        (line,) = (await queries.lines_of(session, [order_id]))[order_id]
        command = RefundCommand(order_id, [RefundLine(line.id, quantity)])
        refund_id = await refunding.request(session, shop.promotion.merchant, command, clock=clock)
        refunds = (await queries.refunds_of(session, [order_id]))[order_id]
    return next(r.amount.amount_minor for r in refunds if r.id == refund_id)


async def test_a_refund_beyond_what_is_left_is_refused_and_changes_nothing(
    db: Database, clock: FixedClock
) -> None:
    shop = await orders.open_shop(db, clock)
    order_id = await orders.paid_order(db, shop, clock, quantity=2)
    await _refund(db, shop, order_id, quantity=1, clock=clock)

    with pytest.raises(RefundExceedsOrder) as refused:
        await _refund(db, shop, order_id, quantity=2, clock=clock)

    assert (refused.value.requested, refused.value.left) == (2, 1)
    async with db.reading(SYSTEM) as session:
        assert len((await queries.refunds_of(session, [order_id]))[order_id]) == 1


async def test_only_the_merchant_may_refund(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    order_id = await orders.paid_order(db, shop, clock)
    stranger, _ = await committed_brand(db, clock, name="Stranger")

    for actor in (stranger, shop.promotion.promoter):
        with pytest.raises(OrderNotFound):
            async with db.unit_of_work(SYSTEM) as session:
                await refunding.request(session, actor, RefundCommand(order_id, everything=True), clock=clock)


async def test_24_buyers_race_for_5_units(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock, stock=5)
    async with db.unit_of_work(SYSTEM) as session:
        checkouts = [
            await orders.start(session, shop, {shop.variant: 1}, clock, email=f"b{i}@example.com")
            for i in range(24)
        ]

    async def buy(checkout_id: orders.CheckoutId) -> str:
        try:
            async with db.unit_of_work(SYSTEM) as session:
                await orders.place(session, shop, checkout_id, clock)
        except InsufficientStock as short:
            return short.code
        except Problems as problems:
            return problems.problems[0].code
        return "PLACED"

    answers = await asyncio.gather(*(buy(each) for each in checkouts))

    assert sorted(answers) == ["INSUFFICIENT_STOCK"] * 19 + ["PLACED"] * 5


async def test_one_cart_becomes_one_order_however_often_it_is_placed(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        checkout_id = await orders.start(session, shop, {shop.variant: 1}, clock)

    async def attempt() -> str:
        try:
            async with db.unit_of_work(SYSTEM) as session:
                await orders.place(session, shop, checkout_id, clock)
        except (CheckoutNotOpen, CartAlreadyOrdered):
            return "refused"
        return "placed"

    assert sorted(await asyncio.gather(*(attempt() for _ in range(6)))) == ["placed"] + ["refused"] * 5


async def test_a_hold_that_ran_out_gives_the_stock_back_and_late_money_is_not_kept(
    db: Database, clock: FixedClock
) -> None:
    shop = await orders.open_shop(db, clock, stock=3)
    async with db.unit_of_work(SYSTEM) as session:
        checkout_id = await orders.start(session, shop, {shop.variant: 3}, clock)
        (order_id,) = await orders.place(session, shop, checkout_id, clock)
        assert (await stock.sellable(session, [shop.variant], "CN", now=clock.now()))[shop.variant] == 0
    clock.advance(timedelta(minutes=31))

    async with db.unit_of_work(SYSTEM) as session:
        assert await payment.due_checkouts(session, now=clock.now(), batch=10) == [checkout_id]
        assert await payment.expire(session, checkout_id, clock=clock)
    async with db.unit_of_work(SYSTEM) as session:
        news = await orders.pay(session, checkout_id, clock)

    assert news
    async with db.reading(SYSTEM) as session:
        assert (await stock.sellable(session, [shop.variant], "CN", now=clock.now()))[shop.variant] == 3
        order = await queries.order(session, SYSTEM, order_id)
        assert order.payment_status is PaymentStatus.VOIDED
        assert order.fulfillment_status is FulfillmentStatus.CANCELLED
        view = await checkout.load(session, checkout_id, shop.storefront.id)
        assert view.status is CheckoutStatus.EXPIRED


async def test_a_payment_told_twice_is_booked_once(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        checkout_id = await orders.start(session, shop, {shop.variant: 1}, clock)
        placed = await orders.place(session, shop, checkout_id, clock)

    async def told() -> bool:
        async with db.unit_of_work(SYSTEM) as session:
            return await orders.pay(session, checkout_id, clock)

    assert sorted([await told(), await told()]) == [False, True]
    for _ in range(2):
        async with db.unit_of_work(SYSTEM) as session:
            await orders.book(session, checkout_id, placed, clock)
    async with db.reading(SYSTEM) as session:
        assert (await settlement.order_identity(session, placed[0])).holds


async def test_what_keeps_a_cart_from_being_bought_is_listed_with_its_facts(
    db: Database, clock: FixedClock
) -> None:
    shop = await orders.open_shop(db, clock, stock=5)
    async with db.unit_of_work(SYSTEM) as session:
        checkout_id = await orders.start(session, shop, {shop.variant: 5}, clock)
    merchant = shop.promotion.merchant
    await _reprice(db, merchant, shop, "110.00", clock)

    with pytest.raises(Problems) as refused:
        async with db.unit_of_work(SYSTEM) as session:
            await orders.place(session, shop, checkout_id, clock)

    (problem,) = refused.value.problems
    assert isinstance(problem, PriceChanged)
    assert (problem.quoted, problem.current) == (Money(10_000, "CNY"), Money(11_000, "CNY"))


async def _reprice(db: Database, merchant: Actor, shop: orders.Shop, amount: str, clock: FixedClock) -> None:
    price = VariantPrice(shop.variant, "CNY", PriceTag(Money.parse(amount, "CNY")))
    async with db.unit_of_work(merchant) as session:
        await catalog.set_prices(session, merchant, [price], clock=clock)


async def test_stock_zone_total_and_tenant_are_checked(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock, stock=5)
    stranger, _ = await committed_brand(db, clock, name="Stranger")
    foreign = await committed_product(db, clock, stranger)
    async with db.unit_of_work(SYSTEM) as session:
        with pytest.raises(NotSellableHere):
            await orders.start(session, shop, {foreign.variants[0]: 1}, clock)
        with pytest.raises(AssertionError) as listed:
            await orders.start(session, shop, {shop.variant: 6}, clock)
        assert isinstance(listed.value.args[0][0], OutOfStock)
        abroad = orders.Address(name="A", line1="1 Main St", city="Austin", country="US", region="TX")
        with pytest.raises(AssertionError) as unserved:
            await orders.start(session, shop, {shop.variant: 1}, clock, address=abroad)
        assert isinstance(unserved.value.args[0][0], AddressNotServed)
        checkout_id = await orders.start(session, shop, {shop.variant: 1}, clock)
        with pytest.raises(TotalChanged) as changed:
            await orders.place(session, shop, checkout_id, clock, total=Money(1, "CNY"))
        assert changed.value.current == Money(10_500, "CNY")
        with pytest.raises(CheckoutNotFound):
            await checkout.load(session, checkout_id, type(shop.storefront.id).new())
