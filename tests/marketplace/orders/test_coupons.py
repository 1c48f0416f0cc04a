"""Coupons from the cart to the books: who pays for the customer is who made the code.

A cream at ¥100.00 with 13 % tax inside costs ¥30.00 and ships for ¥5.00, sold by a partner for 10 % of what is left
without tax; the platform keeps 5 % of the commission and 5 % of the goods.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.errors import LianyuError, Problems
from core.ids import (
    BrandId,
    CartLineId,
    CheckoutId,
    LocationId,
    OrderId,
    ProductId,
    RefundId,
    SupplierId,
    VariantId,
)
from core.money import Money
from infra.db.session import Database
from marketplace.orders import cart, checkout, payment, refunding
from marketplace.orders.coupon_returns import on_refund_settled
from marketplace.orders.discounts import Discountable, discounts_of
from marketplace.orders.events import RefundSettled
from marketplace.orders.pricing import SourcedLine, TaxRule, price_lines
from marketplace.orders.quote import Quote
from marketplace.orders.refunding import RefundCommand, RefundLine
from marketplace.promotion.agreements.promises import Promise
from marketplace.promotion.agreements.terms import Rule, Terms
from marketplace.promotion.commission.rules import FIXED_CAP_PPM
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.coupons.codes import Coupon, CouponTerms
from marketplace.promotion.coupons.models import CouponId, CouponStatus, Funder
from marketplace.promotion.errors import BadCoupon, CouponCodeTaken, CouponNotFound, CouponNotUsable
from supply.ledger import queries as ledger
from supply.ledger.chart import Code
from supply.settlement import queries as settlement
from tests.factories import orders, promotion

HOUR = timedelta(hours=1)


def yuan(amount: int) -> Money:
    return Money(amount * 100, "CNY")


async def made(
    session: AsyncSession, actor: Actor, clock: FixedClock, *, funder: Funder, **terms: object
) -> CouponId:
    given = {"code": "SAVE", "currency": "CNY", "starts_at": clock.now(), **terms}
    asked = CouponTerms(**given)  # type: ignore[arg-type]
    return await coupons.create_coupon(session, actor, asked, funder=funder, now=clock.now())


async def started(
    session: AsyncSession,
    shop: orders.Shop,
    clock: FixedClock,
    *,
    quantity: int = 2,
    code: str = "save ",
    tokens: tuple[str, ...] = (),
) -> tuple[CheckoutId, Quote]:
    """A cart with a coupon and an address."""
    cart_id = await cart.create(
        session, shop.storefront.actor, shop.facts, quantities={shop.variant: quantity}, touch_tokens=tokens,
        clock=clock,
    )  # fmt: skip
    await cart.apply_coupon(session, cart_id, storefront=shop.facts, code=code, clock=clock)
    view, quote = await checkout.start(
        session, shop.storefront.actor, shop.facts, cart_id=cart_id, address=orders.HOME,
        email="anna@example.com", policy=orders.POLICY, clock=clock,
    )  # fmt: skip
    return view.id, quote


async def bought(
    db: Database, shop: orders.Shop, clock: FixedClock, *, tokens: tuple[str, ...] = ()
) -> OrderId:
    async with db.unit_of_work(SYSTEM) as session:
        checkout_id, quote = await started(session, shop, clock, tokens=tokens)
        assert not quote.problems
        placed = await orders.place(
            session, shop, checkout_id, clock, total=Money(quote.totals.total_minor, "CNY")
        )
    clock.advance(timedelta(minutes=2))
    async with db.unit_of_work(SYSTEM) as session:
        await orders.pay(session, checkout_id, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await orders.book(session, checkout_id, placed, clock)
    return placed[0]


async def promoted(db: Database, clock: FixedClock) -> tuple[orders.Shop, tuple[str, ...]]:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, shop.promotion, clock)
        token = await promotion.click(session, link, clock.now())
    clock.advance(HOUR)
    return shop, (token,)


async def shares(db: Database, shop: orders.Shop, order_id: OrderId) -> dict[str, int]:
    async with db.reading(SYSTEM) as session:
        identity = await settlement.order_identity(session, order_id)
        assert identity.holds
        assert await ledger.unbalanced_journals(session) == 0
        goodwill = sum(
            line.debit_minor for line in await ledger.trial_balance(session) if line.code is Code.GOODWILL
        )
        return {
            "paid": identity.customer_paid_minor, "merchant": identity.merchant_minor,
            "promoter": identity.commissions_minor, "platform": identity.platform_minor,
            "tax": identity.tax_minor, "supplier": identity.suppliers_minor + identity.shipping_minor,
            "coupon": identity.coupon_minor, "expense": goodwill,
        }  # fmt: skip


# Without a coupon (test_order_to_books): paid 20,500, merchant 9,044, promoter 1,682, platform 973, tax 2,301.
FULL = {"merchant": 9_044, "promoter": 1_682, "platform": 973, "tax": 2_301, "supplier": 6_500}


async def test_a_coupon_of_the_platform_costs_the_platform_alone(db: Database, clock: FixedClock) -> None:
    shop, tokens = await promoted(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await made(session, SYSTEM, clock, funder=Funder.PLATFORM, amount=yuan(30))
    order_id = await bought(db, shop, clock, tokens=tokens)
    assert await shares(db, shop, order_id) == {**FULL, "paid": 17_500, "coupon": 3_000, "expense": 3_000}


async def test_a_coupon_of_the_merchant_lowers_the_price_tax_and_commission(
    db: Database, clock: FixedClock
) -> None:
    """20,000 - 3,000 = 17,000; tax inside half_up(17,000·13/113) = 1,956, net 15,044; commission 1,504 of which
    the platform has half_up by LR 75 (75.2) and the promoter 1,429; fee 5 % of 15,044 = 752."""
    shop, tokens = await promoted(db, clock)
    async with db.unit_of_work(shop.promotion.merchant) as session:
        await made(session, shop.promotion.merchant, clock, funder=Funder.ADVERTISER, amount=yuan(30))
    order_id = await bought(db, shop, clock, tokens=tokens)
    assert await shares(db, shop, order_id) == {
        "paid": 17_500, "tax": 1_956, "promoter": 1_429, "platform": 752 + 75, "supplier": 6_500,
        "merchant": 15_044 - 6_000 - 1_504 - 752, "coupon": 0, "expense": 0,
    }  # fmt: skip


async def test_a_coupon_of_the_promoter_comes_off_its_commission(db: Database, clock: FixedClock) -> None:
    """¥10 of the ¥16.82 it earns; the basis and everybody else stay as they are."""
    shop, tokens = await promoted(db, clock)
    async with db.unit_of_work(shop.promotion.promoter) as session:
        await made(session, shop.promotion.promoter, clock, funder=Funder.PROMOTER, amount=yuan(10))
    order_id = await bought(db, shop, clock, tokens=tokens)
    assert await shares(db, shop, order_id) == {
        **FULL, "paid": 19_500, "promoter": 682, "coupon": 0, "expense": 0,
    }  # fmt: skip


async def test_a_promoter_that_was_not_credited_owes_its_coupon(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(shop.promotion.promoter) as session:
        await made(session, shop.promotion.promoter, clock, funder=Funder.PROMOTER, amount=yuan(10))
    order_id = await bought(db, shop, clock)
    told = await shares(db, shop, order_id)
    assert (told["paid"], told["promoter"], told["coupon"], told["expense"]) == (19_500, 0, 1_000, 0)
    async with db.reading(SYSTEM) as session:
        (promoter,) = await settlement.party_balances(session, [str(shop.promotion.promoter.brand_id)])
    assert promoter.receivable_minor == 1_000


async def test_a_promoter_gives_no_more_than_it_is_promised(db: Database, clock: FixedClock) -> None:
    """¥200.00 less 23.01 of tax are 176.99, of which 10 % are at least 17.69, and less the platform's 5 % at least
    16.80: so much, whatever the coupon says."""
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(shop.promotion.promoter) as session:
        await made(session, shop.promotion.promoter, clock, funder=Funder.PROMOTER, rate_ppm=900_000)
    async with db.unit_of_work(SYSTEM) as session:
        _, quote = await started(session, shop, clock)
    assert quote.totals.discount_minor == 1_680


async def test_a_promoter_gives_no_more_than_an_amount_a_piece_comes_to(
    db: Database, clock: FixedClock
) -> None:
    """¥8.00 a piece, two pieces: ¥16.00, less the platform's 5 %: ¥15.20. All of it given, the promoter is left 0."""
    eight = Terms((Rule(0, fixed=yuan(8)),))
    shop = await orders.open_shop(db, clock, terms=eight)
    async with db.unit_of_work(SYSTEM) as session:
        link = await promotion.link(session, shop.promotion, clock)
        token = await promotion.click(session, link, clock.now())
    async with db.unit_of_work(shop.promotion.promoter) as session:
        await made(session, shop.promotion.promoter, clock, funder=Funder.PROMOTER, rate_ppm=900_000)
    clock.advance(HOUR)
    order_id = await bought(db, shop, clock, tokens=(token,))
    told = await shares(db, shop, order_id)
    assert (told["paid"], told["promoter"], told["coupon"]) == (20_500 - 1_520, 0, 0)


async def test_a_refund_gives_back_what_the_customer_paid(db: Database, clock: FixedClock) -> None:
    """One of two creams of 17,000: half_up(14,699/2) = 7,350 without tax, half_up(2,301·7,350/14,699) = 1,151 of
    tax, together 8,501; half of the coupon, 1,500, to the platform. The rest with the second."""
    shop, tokens = await promoted(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await made(session, SYSTEM, clock, funder=Funder.PLATFORM, amount=yuan(30))
    order_id = await bought(db, shop, clock, tokens=tokens)
    async with db.unit_of_work(SYSTEM) as session:
        view = (await session.execute(text("SELECT id FROM order_lines"))).one()
        command = RefundCommand(order_id, lines=[RefundLine(view.id, 1)])
        refund_id = await refunding.request(session, SYSTEM, command, clock=clock)
        amount = await session.execute(
            text("SELECT amount_minor FROM refunds WHERE id = :id"), {"id": refund_id}
        )
        assert amount.scalar_one() == 8_501
    assert (await shares(db, shop, order_id))["expense"] == 1_500
    async with db.unit_of_work(SYSTEM) as session:
        await refunding.request(session, SYSTEM, RefundCommand(order_id, everything=True), clock=clock)
    assert (await shares(db, shop, order_id))["expense"] == 0


async def test_the_last_use_goes_to_one_of_many_buyers(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await made(session, SYSTEM, clock, funder=Funder.PLATFORM, amount=yuan(5), max_uses=3)
    waiting = []
    for _ in range(8):
        async with db.unit_of_work(SYSTEM) as session:
            waiting.append((await started(session, shop, clock, quantity=1))[0])

    async def place(checkout_id: CheckoutId) -> str:
        try:
            async with db.unit_of_work(SYSTEM) as session:
                await orders.place(session, shop, checkout_id, clock)
        except Problems as refused:
            return next(iter(refused.problems)).code
        except LianyuError as refused:
            return refused.code
        return "placed"

    told = await asyncio.gather(*(place(each) for each in waiting))

    assert sorted(told) == ["COUPON_NOT_USABLE"] * 5 + ["placed"] * 3
    async with db.reading(SYSTEM) as session:
        assert (await session.execute(text("SELECT uses FROM coupons"))).scalar_one() == 3


async def test_a_checkout_that_is_not_paid_gives_its_use_back_once(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await made(session, SYSTEM, clock, funder=Funder.PLATFORM, amount=yuan(5), max_uses=1)
        checkout_id, _ = await started(session, shop, clock)
        await orders.place(session, shop, checkout_id, clock)
    clock.advance(HOUR)
    for _ in range(2):
        async with db.unit_of_work(SYSTEM) as session:
            await payment.expire(session, checkout_id, clock=clock)
    async with db.unit_of_work(SYSTEM) as session:
        assert (await session.execute(text("SELECT uses FROM coupons"))).scalar_one() == 0
        _, quote = await started(session, shop, clock)
        assert not quote.problems


async def refusal(session: AsyncSession, shop: orders.Shop, clock: FixedClock) -> str:
    """From the cart, or, where that cannot know yet, from the quote."""
    try:
        _, quote = await started(session, shop, clock)
    except CouponNotUsable as refused:
        return refused.reason
    return str(quote.problems[0].facts()["reason"])


@pytest.mark.parametrize("shipped", [False, True])
async def test_a_purchase_called_off_gives_its_use_back_unless_it_was_shipped(
    db: Database, clock: FixedClock, shipped: bool
) -> None:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await made(session, SYSTEM, clock, funder=Funder.PLATFORM, amount=yuan(5), max_uses=1)
    order_id = await bought(db, shop, clock)
    settled = RefundSettled(
        refund_id=RefundId.new(), order_id=order_id, amount_minor=1, currency="CNY", at=clock.now()
    )
    async with db.unit_of_work(SYSTEM) as session:
        await on_refund_settled(session, settled, clock=clock)  # a part of it only
        assert (await session.execute(text("SELECT uses FROM coupons"))).scalar_one() == 1
        await refunding.request(session, SYSTEM, RefundCommand(order_id, everything=True), clock=clock)
        if shipped:
            await session.execute(text("UPDATE orders SET fulfillment_status = 'shipped'"))
        for _ in range(2):
            await on_refund_settled(session, settled, clock=clock)
        uses = (await session.execute(text("SELECT uses FROM coupons"))).scalar_one()
    assert uses == (1 if shipped else 0)


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"starts_in": HOUR}, "not_started"),
        ({"minimum": yuan(201)}, "minimum"),
        ({"currency": "USD", "amount": Money(500, "USD")}, "other_currency"),
    ],
)
async def test_a_coupon_that_cannot_be_used_says_why(
    db: Database, clock: FixedClock, terms: dict[str, object], reason: str
) -> None:
    shop = await orders.open_shop(db, clock)
    given = {"amount": yuan(5), **terms}
    given["starts_at"] = clock.now() + given.pop("starts_in", timedelta(0))  # type: ignore[operator]
    async with db.unit_of_work(SYSTEM) as session:
        await made(session, SYSTEM, clock, funder=Funder.PLATFORM, **given)
        assert await refusal(session, shop, clock) == reason


async def test_a_stopped_coupon_keeps_the_checkout_from_being_placed(db: Database, clock: FixedClock) -> None:
    shop = await orders.open_shop(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        coupon_id = await made(session, SYSTEM, clock, funder=Funder.PLATFORM, amount=yuan(5))
        checkout_id, _ = await started(session, shop, clock)
        await coupons.stop_coupon(session, SYSTEM, coupon_id)
        with pytest.raises(Problems) as refused:
            await orders.place(session, shop, checkout_id, clock)
    assert [problem.code for problem in refused.value.problems] == ["COUPON_NOT_USABLE"]


async def test_a_brands_coupon_is_for_its_own_goods_and_not_for_others_to_read(
    db: Database, clock: FixedClock
) -> None:
    shop = await orders.open_shop(db, clock)
    merchant, promoter = shop.promotion.merchant, shop.promotion.promoter
    async with db.unit_of_work(promoter) as session:
        # An ADVERTISER's is for what the storefront's brand makes itself: it makes no cream.
        coupon_id = await made(session, promoter, clock, funder=Funder.ADVERTISER, amount=yuan(5))
        with pytest.raises(CouponCodeTaken):
            await made(session, promoter, clock, funder=Funder.PROMOTER, amount=yuan(5))
    async with db.unit_of_work(SYSTEM) as session:
        _, quote = await started(session, shop, clock)
    assert [(p.code, p.facts()["reason"]) for p in quote.problems] == [("COUPON_NOT_USABLE", "other_goods")]
    async with db.unit_of_work(merchant) as session:
        with pytest.raises(CouponNotFound):
            await coupons.stop_coupon(session, merchant, coupon_id)
        # The same code of another brand is another coupon: this one is for the cream.
        await made(session, merchant, clock, funder=Funder.ADVERTISER, amount=yuan(7))
    async with db.unit_of_work(SYSTEM) as session:
        _, quote = await started(session, shop, clock)
    assert (quote.problems, quote.totals.discount_minor) == ((), 700)


@pytest.mark.parametrize(
    "wrong",
    [
        {"code": "?"},
        {"amount": None},
        {"rate_ppm": 5},
        {"amount": Money(0, "CNY")},
        {"amount": Money(5, "USD")},
        {"max_uses": 0},
        {"amount": None, "rate_ppm": 1_000_001},
    ],
)
async def test_what_no_coupon_may_be_is_refused(
    session: AsyncSession, clock: FixedClock, wrong: dict[str, object]
) -> None:
    with pytest.raises(BadCoupon):
        await made(session, SYSTEM, clock, funder=Funder.PLATFORM, **{"amount": yuan(5), **wrong})


# Pure

MERCHANT, SELLER, SUPPLIER = BrandId.new(), BrandId.new(), SupplierId.new()
LINE = SourcedLine(
    cart_line_id=CartLineId.new(), merchant_id=MERCHANT, variant_id=VariantId.new(), product_id=ProductId.new(),
    sku="S", title="t", category="c", quantity=1, weight_g=1, unit_price_minor=10_000,
    tax=TaxRule(60_000, False), supplier_id=SUPPLIER, location_id=LocationId.new(), unit_cost_minor=4_000,
)  # fmt: skip


def coupon_of(funder: Funder, **terms: object) -> Coupon:
    owner = {Funder.ADVERTISER: MERCHANT, Funder.SUPPLIER: SUPPLIER, Funder.PROMOTER: SELLER}.get(funder)
    at = datetime(2026, 3, 2, tzinfo=UTC)
    given: dict[str, object] = {
        "id": CouponId.new(), "owner_id": owner, "funder": funder, "code": "C", "currency": "CNY",
        "amount_minor": 1_000, "rate_ppm": None, "most_minor": None, "minimum_minor": 0, "starts_at": at,
        "ends_at": None, "max_uses": None, "uses": 0, "status": CouponStatus.ACTIVE, "created_at": at,
    }  # fmt: skip
    return Coupon(**{**given, **terms})  # type: ignore[arg-type]


def test_o1s_coupon_lowers_the_tax_as_the_specification_says() -> None:
    """10,000 less 1,000 of the merchant, shipping 800: tax 6 % of 9,800 = 588, the customer pays 10,388."""
    (line,) = price_lines([LINE], [800], [1_000], funder=Funder.ADVERTISER)
    assert (line.tax_minor + line.shipping_tax_minor, line.total_minor) == (588, 10_388)


def test_who_pays_for_the_customer_leaves_the_tax_alone() -> None:
    (line,) = price_lines([LINE], [800], [1_000], funder=Funder.PLATFORM)
    assert (line.tax_minor + line.shipping_tax_minor, line.total_minor) == (648, 10_448)


def test_a_supplier_gives_no_more_than_it_is_paid() -> None:
    lines = [Discountable(LINE), Discountable(replace(LINE, supplier_id=SupplierId.new()))]
    assert discounts_of(coupon_of(Funder.SUPPLIER, amount_minor=9_000), lines, seller=SELLER) == [4_000, 0]


@given(
    st.sampled_from(list(Funder)),
    st.lists(st.tuples(st.integers(1, 50_000), st.integers(0, 60_000), st.integers(0, 900_000)), min_size=1),
    st.one_of(st.integers(1, 100_000), st.none()),
    st.integers(1, 1_000_000),
)
def test_discounts_sum_to_the_coupons_worth_and_never_exceed_what_the_funder_can_give(
    funder: Funder, prices: list[tuple[int, int, int]], amount: int | None, rate: int
) -> None:
    lines = [
        Discountable(
            replace(LINE, unit_price_minor=price, unit_cost_minor=cost),
            [Promise(promised, None, FIXED_CAP_PPM, 50_000, 0)],
        )
        for price, cost, promised in prices
    ]
    coupon = coupon_of(funder, amount_minor=amount, rate_ppm=None if amount else rate)
    rooms = [line.room(coupon, SELLER) for line in lines]
    try:
        taken = discounts_of(coupon, lines, seller=SELLER)
    except CouponNotUsable:
        assert not any(rooms)
        return
    goods = sum(line.gross_minor for line, room in zip(lines, rooms, strict=True) if room)
    assert sum(taken) == min(coupon.worth(goods), sum(rooms))
    assert all(0 <= off <= room for off, room in zip(taken, rooms, strict=True))
