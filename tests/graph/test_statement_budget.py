"""What the hot paths of the storefront may ask of the database: api.md §4.

Counted is every statement that goes through the engine, who-asks included; an executemany is one (it is one round
trip). Looking up the publishable key is not: a process does it once in some seconds, whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from core.actor import SYSTEM, Actor
from core.clock import FixedClock
from core.ids import VariantId
from core.money import Money
from graph.context import Context
from graph.storefront import schema as SCHEMA
from infra.config import Settings
from infra.db.session import Database
from infra.gateways import Gateways
from infra.payments.gateway import IntentStatus, PaymentGateway, PaymentIntent
from infra.search.postgres_index import PostgresIndex
from marketplace.brands.queries import StorefrontFacts
from marketplace.matching import documents
from marketplace.promotion.coupons import codes as coupons
from marketplace.promotion.coupons.codes import CouponTerms
from marketplace.promotion.coupons.models import Funder
from tests.factories import orders, supply
from tests.factories.catalog import MadeProduct, committed_product, priced
from tests.fixtures.asking import gateways
from tests.fixtures.statements import statements_of

LIST = """
{ products(first: 20) { nodes { id title category tags inStock price { amount currencyCode }
    variants { id sku title price { amount } compareAt { amount } inStock available } }
    pageInfo { hasNextPage endCursor } } }
"""
PAGE = """
query ($id: ID!) { product(id: $id) { id title description tags attributes media { url } inStock brand { name }
    price { amount } variants { id sku title options price { amount } inStock available } } }
"""
CART = "mutation ($input: CartCreateInput!) { cartCreate(input: $input) { cart { id } userErrors { code } } }"
START = """
mutation ($input: CheckoutStartInput!) { checkoutStart(input: $input) {
    checkout { id } quote { total { amount currencyCode } problems { code } } userErrors { code } } }
"""
PLACE = """
mutation ($input: CheckoutPlaceInput!) { checkoutPlace(input: $input) {
    checkout { id status total { amount } } payment { intentId clientSecret amount { amount } }
    userErrors { code message } } }
"""
HOME = {"name": "王小明", "line1": "人民路 1 号", "city": "上海", "country": "CN", "region": "SH"}


class _Provider:
    """The part of ``PaymentGateway`` that a checkout uses; no page of its own."""

    def __init__(self, clock: FixedClock) -> None:
        self.asked: list[int] = []
        self._clock = clock

    async def create_intent(
        self, *, order_ref: str, amount_minor: int, currency: str, key: str, **_: object
    ) -> PaymentIntent:
        self.asked.append(amount_minor)
        return PaymentIntent(
            id=f"pi_{order_ref}",
            amount_minor=amount_minor,
            amount_received_minor=0,
            currency=currency,
            status=IntentStatus.REQUIRES_PAYMENT_METHOD,
            client_secret=f"pi_{order_ref}_secret",
            latest_charge_id=None,
            transfer_group=order_ref,
            next_action_url=None,
            last_error_code=None,
            created_at=self._clock.now(),
        )

    def pay_page_url(
        self, intent_id: str, client_secret: str, *, return_url: str | None = None
    ) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Storefront:
    """A shopper's view of it: the schema with the provider behind."""

    gateways: Gateways
    actor: Actor
    facts: StorefrontFacts

    async def ask(self, document: str, **variables: Any) -> Mapping[str, Any]:
        context = Context(self.gateways, actor=self.actor, storefront=self.facts)
        try:
            answer = await SCHEMA.execute(document, variable_values=variables, context_value=context)
        finally:
            await context.close()
        assert not answer.errors, answer.errors
        assert answer.data is not None
        return answer.data


async def two_brands(
    db: Database, clock: FixedClock, *, own_products: int = 1
) -> tuple[Storefront, orders.Shop, list[MadeProduct]]:
    """A storefront that sells its own brand's products and a partner's, each from a supplier of its own."""
    shop = await orders.open_shop(db, clock)
    made = [
        await committed_product(
            db,
            clock,
            shop.promotion.promoter,
            title_zh=f"茶{n}",
            variants=[priced(f"TEA-{n}-{v}", "50.00", weight_g=100) for v in range(3)],
        )
        for n in range(own_products)
    ]
    async with db.unit_of_work(SYSTEM) as session:
        stock = {variant: 50 for product in made for variant in product.variants}
        await supply.supplier(session, clock, stock=stock, brand_id=made[0].brand_id, name="Tea Works")
        ids = [shop.product.id, *(product.id for product in made)]
        await documents.index_products(session, PostgresIndex(), ids, now=clock.now())
    provider = cast("PaymentGateway", _Provider(clock))
    wired = replace(gateways(db, clock), payments=provider, settings=Settings(secret_key=orders.SECRET))
    return Storefront(wired, shop.storefront.actor, shop.facts), shop, made


async def test_a_list_of_twenty_products_with_three_variants_takes_four_statements(
    db: Database, clock: FixedClock
) -> None:
    storefront, _, _ = await two_brands(db, clock, own_products=21)
    with statements_of(db) as statements:
        nodes = (await storefront.ask(LIST))["products"]["nodes"]
    assert len(nodes) == 20
    assert (
        sum(len(node["variants"]) for node in nodes) >= 58
    )  # 19 of three and the partner's of one, at least
    assert all(variant["available"] >= 50 for node in nodes for variant in node["variants"])
    assert len(statements) <= 4


async def test_a_product_page_with_its_brand_takes_four_statements(db: Database, clock: FixedClock) -> None:
    storefront, _, made = await two_brands(db, clock)

    with statements_of(db) as statements:
        page = (await storefront.ask(PAGE, id=str(made[0].id)))["product"]
    assert (len(page["variants"]), page["brand"]["name"]) == (3, "Club 会")
    assert len(statements) <= 4


@pytest.mark.parametrize("lines_per_brand", [1, 3])
async def test_a_checkout_of_two_brands_takes_forty_statements_from_cart_to_payment(
    db: Database, clock: FixedClock, lines_per_brand: int
) -> None:
    storefront, shop, made = await two_brands(db, clock)
    own = list(made[0].variants)[:lines_per_brand]
    bought: list[VariantId] = [shop.variant, *own]
    lines = [{"variantId": str(variant), "quantity": 2} for variant in bought]
    cart = (await storefront.ask(CART, input={"lines": lines}))["cartCreate"]["cart"]

    with statements_of(db) as starting:
        given = {"cartId": cart["id"], "email": "anna@example.com", "address": HOME}
        started = (await storefront.ask(START, input=given))["checkoutStart"]
    assert (started["userErrors"], started["quote"]["problems"]) == ([], [])
    with statements_of(db) as placing:
        wanted = {
            "checkoutId": started["checkout"]["id"],
            "idempotencyKey": "once",
            "expectedTotal": started["quote"]["total"],
        }
        placed = (await storefront.ask(PLACE, input=wanted))["checkoutPlace"]
    assert placed["userErrors"] == []
    # ¥100 and ¥50 a piece, two of each, ¥5 for each of two parcels.
    expected_minor = 2 * 10_000 + 2 * 5_000 * lines_per_brand + 2 * 500
    assert cast("_Provider", storefront.gateways.payments).asked == [expected_minor]
    assert placed["payment"]["amount"]["amount"] == f"{expected_minor // 100}.00"
    assert len(placing) <= 28
    assert len(starting) + len(placing) <= 40


APPLY = """
mutation ($input: CartCouponApplyInput!) { cartCouponApply(input: $input) {
    cart { couponCode } userErrors { code facts } } }
"""
REMOVE = """
mutation ($input: CartCouponRemoveInput!) { cartCouponRemove(input: $input) { cart { couponCode } } }
"""
DISCOUNTED = """
mutation ($input: CheckoutStartInput!) { checkoutStart(input: $input) {
    checkout { id } quote { goods { amount } discount { amount } total { amount currencyCode } problems { code } }
    userErrors { code } } }
"""
RECEIPT = """
query ($id: ID!) { checkout(id: $id) { discount { amount } orders { discount { amount } lines {
    discount { amount } discountFunder total { amount } } } } }
"""


async def test_a_checkout_with_a_coupon_keeps_within_forty_statements(
    db: Database, clock: FixedClock
) -> None:
    """Two creams of ¥100 and two teas of ¥50; ¥30 off over 20,000 and 10,000 is ¥20 and ¥10; ¥5 a parcel."""
    storefront, shop, made = await two_brands(db, clock)
    bought = [shop.variant, next(iter(made[0].variants))]
    lines = [{"variantId": str(variant), "quantity": 2} for variant in bought]
    async with db.unit_of_work(SYSTEM) as session:
        terms = CouponTerms("SPRING", "CNY", clock.now(), amount=Money(3_000, "CNY"), max_uses=1)
        await coupons.create_coupon(session, SYSTEM, terms, funder=Funder.PLATFORM, now=clock.now())
    cart = (await storefront.ask(CART, input={"lines": lines}))["cartCreate"]["cart"]
    refused = (await storefront.ask(APPLY, input={"cartId": cart["id"], "code": "AUTUMN"}))["cartCouponApply"]
    assert [(e["code"], e["facts"]["reason"]) for e in refused["userErrors"]] == [
        ("COUPON_NOT_USABLE", "unknown")
    ]
    applied = await storefront.ask(APPLY, input={"cartId": cart["id"], "code": "spring"})
    assert applied["cartCouponApply"]["cart"]["couponCode"] == "SPRING"

    with statements_of(db) as starting:
        given = {"cartId": cart["id"], "email": "anna@example.com", "address": HOME}
        started = (await storefront.ask(DISCOUNTED, input=given))["checkoutStart"]
    quote = started["quote"]
    assert (quote["problems"], quote["goods"]["amount"], quote["discount"]["amount"]) == (
        [],
        "300.00",
        "30.00",
    )
    with statements_of(db) as placing:
        wanted = {
            "checkoutId": started["checkout"]["id"], "idempotencyKey": "once", "expectedTotal": quote["total"],
        }  # fmt: skip
        placed = (await storefront.ask(PLACE, input=wanted))["checkoutPlace"]
    assert placed["userErrors"] == []
    assert cast("_Provider", storefront.gateways.payments).asked == [30_000 - 3_000 + 2 * 500]
    assert len(starting) + len(placing) <= 40

    receipt = (await storefront.ask(RECEIPT, id=started["checkout"]["id"]))["checkout"]
    assert receipt["discount"]["amount"] == "30.00"
    told = sorted(
        (
            order["discount"]["amount"],
            [(n["discount"]["amount"], n["discountFunder"]) for n in order["lines"]],
        )
        for order in receipt["orders"]
    )
    assert told == [("10.00", [("10.00", "PLATFORM")]), ("20.00", [("20.00", "PLATFORM")])]


async def test_a_coupon_can_be_taken_off_the_cart_again(db: Database, clock: FixedClock) -> None:
    storefront, shop, _ = await two_brands(db, clock)
    async with db.unit_of_work(SYSTEM) as session:
        terms = CouponTerms("SPRING", "CNY", clock.now(), rate_ppm=100_000)
        await coupons.create_coupon(session, SYSTEM, terms, funder=Funder.PLATFORM, now=clock.now())
    cart = (await storefront.ask(CART, input={"lines": [{"variantId": str(shop.variant), "quantity": 1}]}))[
        "cartCreate"
    ]["cart"]
    await storefront.ask(APPLY, input={"cartId": cart["id"], "code": "spring"})
    removed = await storefront.ask(REMOVE, input={"cartId": cart["id"]})
    assert removed["cartCouponRemove"]["cart"]["couponCode"] is None
    given = {"cartId": cart["id"], "email": "anna@example.com", "address": HOME}
    quote = (await storefront.ask(DISCOUNTED, input=given))["checkoutStart"]["quote"]
    assert quote["discount"]["amount"] == "0.00"
