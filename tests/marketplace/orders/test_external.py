"""Orders that were sold elsewhere: taken in once, from where they were sold, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import FixedClock
from core.ids import BrandId, LocationId, OrderId, StorefrontId, VariantId
from infra.db.session import Database
from marketplace.orders import queries
from marketplace.orders.address import Address
from marketplace.orders.external import (
    ExternalLine,
    ExternalOrder,
    ExternalOrderMixed,
    ExternalPayment,
    ExternalSourceUnavailable,
    ExternalStorefront,
    ExternalVariantUnknown,
    record_external_orders,
)
from marketplace.orders.external_payment import cancel_external_orders, capture_external_orders
from marketplace.orders.models import PaymentStatus
from marketplace.promotion.coupons import codes
from marketplace.promotion.coupons.codes import CouponTerms
from marketplace.promotion.coupons.models import Funder
from marketplace.promotion.decisions.verifying import stored_decisions, verify
from supply.inventory import queries as stock
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement import queries as settlement
from tests.factories import brands, catalog, promotion, supply
from tests.factories.supply import SuppliedFrom

SECRET = "a secret of at least thirty-two letters"
ADDRESS = Address("Ana", "CEP 01000", "São Paulo", "CN", "SH")


@pytest.fixture
async def sold(session: AsyncSession, clock: FixedClock) -> tuple[ExternalStorefront, ExternalOrder]:
    return await _sold(session, clock)


async def _sold(session: AsyncSession, clock: FixedClock) -> tuple[ExternalStorefront, ExternalOrder]:
    """An order of two pieces at ¥50.00, of which the seller gets ¥45.00 each, and ¥8.00 freight."""
    brand = BrandId.of((await brands.signed_up(session, clock)).tenant_id)
    made = await catalog.product(session, brands.brand_actor(brand), clock)
    source = await supply.supplier(session, clock, stock={made.variants[0]: 5}, brand_id=brand)
    storefront = ExternalStorefront("elsewhere", StorefrontId.new(), brand, "CNY")
    order = ExternalOrder(
        "E-1", "paid", clock.now(), ADDRESS, "ana@example.com", [_line(source, made.variants[0])],
        [ExternalPayment(1, "card", 1, 10_000), ExternalPayment(2, "voucher", 1, 800)],
    )  # fmt: skip
    return storefront, order


def _line(source: SuppliedFrom, variant: VariantId, **special: Any) -> ExternalLine:
    usual = {
        "variant_id": variant, "quantity": 2, "unit_price_minor": 5_000, "shipping_minor": 800,
        "supplier_id": source.supplier_id, "location_id": source.location_id, "supplier_cost_minor": 9_000,
    }  # fmt: skip
    return ExternalLine(**{**usual, **special})


async def test_a_second_delivery_of_an_order_finds_the_first(
    session: AsyncSession, clock: FixedClock, sold: tuple[ExternalStorefront, ExternalOrder]
) -> None:
    storefront, order = sold

    first = await record_external_orders(session, storefront, [order], secret=SECRET, clock=clock)
    again = await record_external_orders(session, storefront, [order], secret=SECRET, clock=clock)

    assert again == first
    assert (await session.execute(text("SELECT count(*) FROM orders"))).scalar_one() == 1
    (level,) = await stock.availability(session, [order.lines[0].variant_id])
    assert (level.reserved, level.available) == (2, 3)


async def test_it_is_captured_once_and_a_cancellation_gives_everything_back(
    session: AsyncSession, clock: FixedClock, sold: tuple[ExternalStorefront, ExternalOrder]
) -> None:
    storefront, order = sold
    ids = await record_external_orders(session, storefront, [order], secret=SECRET, clock=clock)
    paid_at = clock.now() + timedelta(hours=1)
    clock.advance(timedelta(hours=2))

    for news in ([ids["E-1"]], []):
        assert (
            await capture_external_orders(
                session, "elsewhere", {"E-1": paid_at}, return_window_days=15, secret=SECRET, clock=clock
            )
            == news
        )

    found = await queries.order(session, SYSTEM, ids["E-1"])
    assert (found.payment_status, found.paid_at, found.total.amount_minor) == (
        PaymentStatus.PAID, paid_at, 10_800,
    )  # fmt: skip
    trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
    # Goods 100.00 less 90.00 to the seller is the marketplace's; freight passes through.
    assert trial[Code.PROVIDER_PENDING] == 10_800
    assert trial[Code.PENDING] == -9_800
    assert trial[Code.FEE_DEFERRED] == -1_000

    for news in ([ids["E-1"]], []):
        assert await cancel_external_orders(session, "elsewhere", ["E-1"], clock=clock) == news
    left = {line.code: line.debit_minor for line in await ledger.trial_balance(session) if line.debit_minor}
    assert left == {Code.PROVIDER_PENDING: 10_800, Code.PROVIDER_AVAILABLE: -10_800}
    (level,) = await stock.availability(session, [order.lines[0].variant_id])
    assert (level.on_hand, level.reserved) == (5, 0)


async def test_given_up_by_several_at_once_everything_comes_back_once(
    db: Database, clock: FixedClock
) -> None:
    """Told of in any sequence: the orders of one message are locked in one, and ledger before shelves."""
    async with db.unit_of_work(SYSTEM) as session:
        storefront, order = await _sold(session, clock)
        both = [replace(order, reference=each) for each in ("E-1", "E-2")]
        ids = await record_external_orders(session, storefront, both, secret=SECRET, clock=clock)
        clock.advance(timedelta(hours=2))
        paid = dict.fromkeys(ids, clock.now())
        await capture_external_orders(
            session, "elsewhere", paid, return_window_days=15, secret=SECRET, clock=clock
        )

    async def given_up(*references: str) -> list[OrderId]:
        async with db.unit_of_work(SYSTEM) as session:
            return await cancel_external_orders(session, "elsewhere", references, clock=clock)

    told = await asyncio.gather(
        *(given_up(*each) for each in 4 * [("E-1", "E-2"), ("E-2", "E-1"), ("E-2",), ("E-1",)])
    )

    assert sorted(each for changed in told for each in changed) == sorted(ids.values())
    async with db.reading(SYSTEM) as session:
        trial = {
            line.code: line.debit_minor for line in await ledger.trial_balance(session) if line.debit_minor
        }
        assert trial == {Code.PROVIDER_PENDING: 21_600, Code.PROVIDER_AVAILABLE: -21_600}
        (level,) = await stock.availability(session, [order.lines[0].variant_id])
        assert (level.on_hand, level.reserved) == (5, 0)


async def test_a_gift_that_is_given_up_does_not_ship_either(
    session: AsyncSession, clock: FixedClock, sold: tuple[ExternalStorefront, ExternalOrder]
) -> None:
    storefront, order = sold
    free = replace(order.lines[0], unit_price_minor=0, shipping_minor=0, supplier_cost_minor=0)
    gift = replace(order, lines=[free], payments=[])
    ids = await record_external_orders(session, storefront, [gift], secret=SECRET, clock=clock)
    clock.advance(timedelta(hours=2))
    paid = {"E-1": clock.now()}
    await capture_external_orders(
        session, "elsewhere", paid, return_window_days=15, secret=SECRET, clock=clock
    )

    assert await cancel_external_orders(session, "elsewhere", ["E-1"], clock=clock) == [ids["E-1"]]
    (level,) = await stock.availability(session, [order.lines[0].variant_id])
    assert (level.on_hand, level.reserved) == (5, 0)


async def test_a_promoters_code_of_an_outside_order_earns_and_is_taken_back_with_it(
    session: AsyncSession, clock: FixedClock, sold: tuple[ExternalStorefront, ExternalOrder]
) -> None:
    """10 % of ¥100.00, which the merchant pays beside the marketplace's fee: 950 and 50 of it to the platform."""
    storefront, order = sold
    merchant, promoter = brands.brand_actor(storefront.brand_id), brands.brand_actor(BrandId.new())
    market = await promotion.market(session, merchant, promoter, clock)
    link = await promotion.link(session, market, clock)
    terms = CouponTerms("MEI-10", "CNY", clock.now(), rate_ppm=100_000, link_id=link.id)
    await codes.create_coupon(session, merchant, terms, funder=Funder.ADVERTISER, now=clock.now())
    named = replace(order, coupon_codes=["mei-10 ", "nobodys"])
    other = replace(order, reference="E-2", touch_tokens=["forged"])
    ids = await record_external_orders(session, storefront, [named, other], secret=SECRET, clock=clock)
    clock.advance(timedelta(hours=2))

    paid = {"E-1": clock.now(), "E-2": clock.now()}
    await capture_external_orders(
        session, "elsewhere", paid, return_window_days=15, secret=SECRET, clock=clock
    )

    decisions = {each.order_id: verify(each) for each in await stored_decisions(session)}
    assert [each.differences for each in decisions.values()] == [(), ()]
    earned = await session.execute(text("SELECT order_id, link_id, commission_minor FROM commission_lines"))
    assert [tuple(row) for row in earned] == [(ids["E-1"], link.id, 1_000)]
    quirks = await session.scalar(text("SELECT quirks FROM external_orders WHERE reference = 'E-1'"))
    assert quirks == ["coupon:NOBODYS"]
    trial = {line.code: line.debit_minor for line in await ledger.trial_balance(session)}
    assert trial[Code.PENDING] == -(2 * 9_800 + 950)
    assert trial[Code.FEE_DEFERRED] == -(2 * 1_000 + 50)
    assert trial[Code.RECEIVABLE] == 1_000

    await cancel_external_orders(session, "elsewhere", ["E-1", "E-2"], clock=clock)
    left = {line.code: line.debit_minor for line in await ledger.trial_balance(session) if line.debit_minor}
    # What the merchant had come to owe it has coming back, until the release sets one against the other.
    assert left == {
        Code.PROVIDER_PENDING: 21_600, Code.PROVIDER_AVAILABLE: -21_600, Code.RECEIVABLE: 1_000,
        Code.PENDING: -1_000,
    }  # fmt: skip
    (party,) = await settlement.party_balances(session, [str(storefront.brand_id)])
    assert (party.pending_minor, party.receivable_minor) == (1_000, 1_000)
    lines = await session.execute(text("SELECT status, reversed_minor FROM commission_lines"))
    assert [tuple(row) for row in lines] == [("REVERSED", 1_000)]


async def test_an_outside_order_that_is_never_paid_gives_its_codes_use_back(
    session: AsyncSession, clock: FixedClock, sold: tuple[ExternalStorefront, ExternalOrder]
) -> None:
    storefront, order = sold
    merchant, promoter = brands.brand_actor(storefront.brand_id), brands.brand_actor(BrandId.new())
    link = await promotion.link(session, await promotion.market(session, merchant, promoter, clock), clock)
    terms = CouponTerms("ONCE", "CNY", clock.now(), rate_ppm=100_000, link_id=link.id, max_uses=1)
    coupon_id = await codes.create_coupon(session, merchant, terms, funder=Funder.ADVERTISER, now=clock.now())
    named = replace(order, coupon_codes=["ONCE"])
    await record_external_orders(session, storefront, [named], secret=SECRET, clock=clock)
    assert (await codes.coupon(session, SYSTEM, coupon_id)).uses == 1

    for _ in range(2):
        await cancel_external_orders(session, "elsewhere", ["E-1"], clock=clock)
    assert (await codes.coupon(session, SYSTEM, coupon_id)).uses == 0


async def test_a_variant_nobody_knows_is_refused(
    session: AsyncSession, clock: FixedClock, sold: tuple[ExternalStorefront, ExternalOrder]
) -> None:
    storefront, order = sold
    strange = replace(order, lines=[replace(order.lines[0], variant_id=VariantId.new())])

    with pytest.raises(ExternalVariantUnknown):
        await record_external_orders(session, storefront, [strange], secret=SECRET, clock=clock)


async def test_lines_of_two_merchants_are_two_orders_and_refused_as_one(
    session: AsyncSession, clock: FixedClock, sold: tuple[ExternalStorefront, ExternalOrder]
) -> None:
    storefront, order = sold
    other = BrandId.of((await brands.signed_up(session, clock, name="Other")).tenant_id)
    made = await catalog.product(session, brands.brand_actor(other), clock)
    mixed = replace(order, lines=[order.lines[0], replace(order.lines[0], variant_id=made.variants[0])])

    with pytest.raises(ExternalOrderMixed):
        await record_external_orders(session, storefront, [mixed], secret=SECRET, clock=clock)


async def test_a_seller_that_cannot_serve_it_is_named_with_the_reason(
    session: AsyncSession, clock: FixedClock, sold: tuple[ExternalStorefront, ExternalOrder]
) -> None:
    storefront, order = sold
    too_many = replace(order, lines=[replace(order.lines[0], quantity=6)])
    with pytest.raises(ExternalSourceUnavailable) as refused:
        await record_external_orders(session, storefront, [too_many], secret=SECRET, clock=clock)
    assert refused.value.reasons == ("NO_STOCK",)

    elsewhere = replace(order, reference="E-2", lines=[replace(order.lines[0], location_id=LocationId.new())])
    with pytest.raises(ExternalSourceUnavailable) as refused:
        await record_external_orders(session, storefront, [elsewhere], secret=SECRET, clock=clock)
    assert refused.value.reasons == ("PREVIOUSLY_REJECTED",)
