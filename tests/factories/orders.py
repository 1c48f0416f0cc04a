"""A small market with a storefront, and orders through it, by the verbs the API uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock, FixedClock
from core.ids import CheckoutId, OrderId, VariantId
from core.money import Money
from infra.config import Settings
from infra.db.session import Database
from marketplace.brands.queries import StorefrontFacts
from marketplace.orders import cart, checkout, payment
from marketplace.orders.address import Address
from marketplace.orders.capture import on_payment_captured
from marketplace.orders.checkout import Policy
from marketplace.orders.events import PaymentCaptured
from marketplace.orders.payment import Captured
from marketplace.promotion.agreements.origin import WITHOUT_ORIGIN, Origin
from marketplace.promotion.agreements.terms import Terms
from tests.factories import promotion
from tests.factories.brands import MadeStorefront, committed_brand, committed_storefront
from tests.factories.catalog import MadeProduct, committed_product
from tests.factories.supply import SuppliedFrom, supplier

SECRET = "a secret of the tests, long enough to be one"
SETTINGS = Settings(secret_key=SECRET)
POLICY = Policy(secret=SECRET, reservation_ttl=timedelta(minutes=30), platform_fee_ppm=50_000)
HOME = Address(name="王小明", line1="人民路 1 号", city="上海", country="CN", region="SH")
ARRIVAL = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Shop:
    """``merchant`` is promoted by ``promotion.promoter``, whose storefront sells ``product``."""

    promotion: promotion.Market
    storefront: MadeStorefront
    product: MadeProduct
    source: SuppliedFrom

    @property
    def variant(self) -> VariantId:
        return self.product.variants[0]

    @property
    def facts(self) -> StorefrontFacts:
        return StorefrontFacts(
            self.storefront.id, self.promotion.promoter.brand_id, "CNY", "CN", "zh-CN", "web"
        )


async def open_shop(
    db: Database,
    clock: Clock,
    *,
    stock: int = 100,
    unit_cost_minor: int = 3_000,
    terms: Terms | None = None,
    budget_minor: int | None = None,
) -> Shop:
    """A cream at ¥100.00 that costs ¥30.00 and ships for ¥5.00, sold by a partner for 10 %; with a budget, in a
    campaign."""
    merchant, _ = await committed_brand(db, clock, name="Cream 霜")
    promoter, _ = await committed_brand(db, clock, name="Club 会")
    made = await committed_product(db, clock, merchant)
    shop = await committed_storefront(db, clock, promoter)
    async with db.unit_of_work(SYSTEM) as session:
        origin = WITHOUT_ORIGIN
        if budget_minor is not None:
            origin = Origin(await promotion.campaign(session, merchant, clock, budget_minor=budget_minor))
        market = await promotion.market(
            session, merchant, promoter, clock, terms or promotion.TEN_PERCENT, origin
        )
        source = await supplier(
            session,
            clock,
            stock=dict.fromkeys(made.variants, stock),
            brand_id=made.brand_id,
            unit_cost_minor=unit_cost_minor,
        )
    return Shop(market, shop, made, source)


async def start(
    session: AsyncSession,
    shop: Shop,
    quantities: Mapping[VariantId, int],
    clock: Clock,
    *,
    tokens: Sequence[str] = (),
    email: str = "anna@example.com",
    address: Address = HOME,
) -> CheckoutId:
    """A cart with an address."""
    actor = shop.storefront.actor
    cart_id = await cart.create(
        session, actor, shop.facts, quantities=quantities, touch_tokens=tokens, clock=clock
    )
    view, quote = await checkout.start(
        session, actor, shop.facts, cart_id=cart_id, address=address, email=email, policy=POLICY, clock=clock
    )
    assert not quote.problems, quote.problems
    return view.id


async def place(
    session: AsyncSession, shop: Shop, checkout_id: CheckoutId, clock: Clock, *, total: Money | None = None
) -> list[OrderId]:
    return await checkout.place(
        session,
        checkout_id=checkout_id,
        storefront_id=shop.storefront.id,
        expected_total=total,
        policy=POLICY,
        clock=clock,
    )


async def pay(
    session: AsyncSession, checkout_id: CheckoutId, clock: Clock, *, card: str | None = None
) -> bool:
    """What the provider's webhook leads to; ``card`` is the digest of what was paid with."""
    intent = f"pi_{checkout_id}"
    await payment.set_intent(session, checkout_id, intent_id=intent, client_secret="secret")
    row = await payment.of_checkout(session, checkout_id)
    assert row is not None
    captured = Captured(intent, f"ch_{checkout_id}", row.amount, card, clock.now())
    return await payment.record_captured(session, captured, clock=clock)


async def book(
    session: AsyncSession, checkout_id: CheckoutId, orders: Sequence[OrderId], clock: Clock
) -> None:
    """The handler of the captured payment."""
    row = await payment.of_checkout(session, checkout_id)
    assert row is not None
    event = PaymentCaptured(
        checkout_id=checkout_id,
        payment_id=row.id,
        order_ids=tuple(orders),
        charge_id=f"ch_{checkout_id}",
        amount_minor=row.amount.amount_minor,
        currency=row.amount.currency,
        at=clock.now(),
    )
    await on_payment_captured(session, event, clock=clock, settings=SETTINGS)


async def paid_order(
    db: Database,
    shop: Shop,
    clock: FixedClock,
    *,
    quantity: int = 1,
    tokens: Sequence[str] = (),
    email: str = "anna@example.com",
) -> OrderId:
    """One paid and booked order of the shop's product."""
    async with db.unit_of_work(SYSTEM) as session:
        checkout_id = await start(session, shop, {shop.variant: quantity}, clock, tokens=tokens, email=email)
        orders = await place(session, shop, checkout_id, clock)
    clock.advance(timedelta(minutes=2))
    async with db.unit_of_work(SYSTEM) as session:
        await pay(session, checkout_id, clock)
    async with db.unit_of_work(SYSTEM) as session:
        await book(session, checkout_id, orders, clock)
    return orders[0]
