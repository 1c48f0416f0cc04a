"""Cart and checkout of the storefront API."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.errors import Unauthenticated
from core.ids import CartId, CheckoutId, VariantId
from core.money import Money as CoreMoney
from graph.context import Context, Info
from graph.errors import UserError, expected
from graph.idempotent import run_once
from graph.orders.types import Cart, Checkout, CheckoutQuote, PaymentRequest
from graph.scalars import MoneyInput
from marketplace.brands.queries import StorefrontFacts
from marketplace.orders import cart as carts
from marketplace.orders import checkout as checkouts
from marketplace.orders import paying, payment
from marketplace.orders.address import Address, checked_email
from marketplace.orders.errors import PaymentUnavailable
from marketplace.orders.payment import PaymentRow


@strawberry.input
class CartLineInput:
    variant_id: strawberry.ID
    quantity: int = strawberry.field(description="Absolute, 1 to 9999; 0 removes the line.")


@strawberry.input
class CartCreateInput:
    lines: list[CartLineInput] = strawberry.field(default_factory=list)
    touch_tokens: list[str] = strawberry.field(
        default_factory=list, description="What tracked links put in the address (lyt), oldest first."
    )
    session_key: str = strawberry.field(
        default="", description="The storefront's own session, if it has one."
    )


@strawberry.input
class CartSetLinesInput:
    cart_id: strawberry.ID
    lines: list[CartLineInput]
    touch_tokens: list[str] = strawberry.field(default_factory=list)


@strawberry.input
class CartCouponApplyInput:
    cart_id: strawberry.ID
    code: str


@strawberry.input
class CartCouponRemoveInput:
    cart_id: strawberry.ID


@strawberry.type
class CartPayload:
    cart: Cart | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class AddressInput:
    name: str
    line1: str
    city: str
    country: str = strawberry.field(description="ISO 3166-1 alpha-2.")
    region: str = strawberry.field(default="", description="The part of ISO 3166-2 after the hyphen.")
    line2: str = ""
    postal_code: str = ""
    phone: str = ""

    def parsed(self) -> Address:
        return Address(**asdict(self))


@strawberry.input
class CheckoutStartInput:
    cart_id: strawberry.ID
    email: str
    address: AddressInput


@strawberry.type
class CheckoutStartPayload:
    checkout: Checkout | None = None
    quote: CheckoutQuote | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


@strawberry.input
class CheckoutPlaceInput:
    checkout_id: strawberry.ID
    idempotency_key: str
    expected_total: MoneyInput | None = strawberry.field(
        default=None, description="What the shopper saw; another total is refused with TOTAL_CHANGED."
    )


@strawberry.type
class CheckoutPlacePayload:
    checkout: Checkout | None = None
    payment: PaymentRequest | None = None
    user_errors: list[UserError] = strawberry.field(default_factory=list)


def storefront_of(context: Context) -> StorefrontFacts:
    if context.storefront is None:
        raise Unauthenticated("this needs a storefront's publishable key")
    return context.storefront


def _policy(context: Context) -> checkouts.Policy:
    settings = context.gateways.settings
    return checkouts.Policy(
        secret=settings.secret_key.get_secret_value(),
        reservation_ttl=timedelta(seconds=settings.reservation_ttl_s),
        platform_fee_ppm=settings.platform_fee_ppm,
    )


def _quantities(lines: list[CartLineInput]) -> dict[VariantId, int]:
    return {VariantId.parse(line.variant_id): line.quantity for line in lines}


def _request(context: Context, row: PaymentRow) -> PaymentRequest:
    return PaymentRequest.of(
        row,
        pay_url=paying.pay_url(row, payments=context.gateways.payments),
        publishable_key=context.gateways.settings.stripe_publishable_key or None,
    )


@strawberry.type
class StorefrontOrderQueries:
    @strawberry.field
    async def cart(self, info: Info, id: strawberry.ID) -> Cart:
        context = info.context
        async with context.reading() as session:
            return Cart.of(await carts.load(session, CartId.parse(id), storefront_of(context).id))

    @strawberry.field(description="The state of a checkout and its orders; the id is the shopper's receipt.")
    async def checkout(self, info: Info, id: strawberry.ID) -> Checkout:
        context = info.context
        async with context.reading() as session:
            view = await checkouts.load(session, CheckoutId.parse(id), storefront_of(context).id)
        return Checkout.of(view)


@strawberry.type
class StorefrontOrderMutations:
    @strawberry.mutation
    @expected(CartPayload)
    async def cart_create(self, info: Info, input: CartCreateInput) -> CartPayload:
        context, storefront = info.context, storefront_of(info.context)
        async with context.db.unit_of_work(context.actor) as session:
            cart_id = await carts.create(
                session,
                context.actor,
                storefront,
                quantities=_quantities(input.lines),
                touch_tokens=input.touch_tokens,
                session_key=input.session_key,
                clock=context.clock,
            )
            return CartPayload(cart=Cart.of(await carts.load(session, cart_id, storefront.id)))

    @strawberry.mutation(description="Sets lines to absolute quantities and quotes them at today's prices.")
    @expected(CartPayload)
    async def cart_set_lines(self, info: Info, input: CartSetLinesInput) -> CartPayload:
        context, storefront = info.context, storefront_of(info.context)
        cart_id = CartId.parse(input.cart_id)
        async with context.db.unit_of_work(context.actor) as session:
            await carts.set_quantities(
                session,
                context.actor,
                cart_id,
                storefront=storefront,
                quantities=_quantities(input.lines),
                touch_tokens=input.touch_tokens,
                clock=context.clock,
            )
            return CartPayload(cart=Cart.of(await carts.load(session, cart_id, storefront.id)))

    @strawberry.mutation(description="One coupon a cart; another code takes its place.")
    @expected(CartPayload)
    async def cart_coupon_apply(self, info: Info, input: CartCouponApplyInput) -> CartPayload:
        context, storefront = info.context, storefront_of(info.context)
        cart_id = CartId.parse(input.cart_id)
        # Coupons are their owners' own; the platform looks whether there is one of this code.
        async with context.db.unit_of_work(SYSTEM) as session:
            await carts.apply_coupon(
                session, cart_id, storefront=storefront, code=input.code, clock=context.clock
            )
            return CartPayload(cart=Cart.of(await carts.load(session, cart_id, storefront.id)))

    @strawberry.mutation
    @expected(CartPayload)
    async def cart_coupon_remove(self, info: Info, input: CartCouponRemoveInput) -> CartPayload:
        context, storefront = info.context, storefront_of(info.context)
        cart = CartId.parse(input.cart_id)
        async with context.db.unit_of_work(context.actor) as session:
            await carts.remove_coupon(session, cart, storefront=storefront, clock=context.clock)
            return CartPayload(cart=Cart.of(await carts.load(session, cart, storefront.id)))

    @strawberry.mutation(description="Gives the address; answers with price, shipping, tax and problems.")
    @expected(CheckoutStartPayload)
    async def checkout_start(self, info: Info, input: CheckoutStartInput) -> CheckoutStartPayload:
        context, storefront = info.context, storefront_of(info.context)
        # Routing looks at suppliers' stock and prices, which no storefront may see: the platform quotes.
        async with context.db.unit_of_work(SYSTEM) as session:
            view, quote = await checkouts.start(
                session,
                context.actor,
                storefront,
                cart_id=CartId.parse(input.cart_id),
                address=input.address.parsed(),
                email=checked_email(input.email),
                policy=_policy(context),
                clock=context.clock,
            )
        return CheckoutStartPayload(checkout=Checkout.of(view), quote=CheckoutQuote.of(quote))

    @strawberry.mutation(
        description="Reserves the stock and places one order per merchant, all or nothing, then asks for payment."
    )
    @expected(CheckoutPlacePayload)
    async def checkout_place(self, info: Info, input: CheckoutPlaceInput) -> CheckoutPlacePayload:
        context, storefront = info.context, storefront_of(info.context)
        checkout_id = CheckoutId.parse(input.checkout_id)
        total = input.expected_total.parsed() if input.expected_total else None
        await _place_once(context, storefront, checkout_id, key=input.idempotency_key, total=total)
        return await _placed(context, storefront, checkout_id)

    @strawberry.mutation(
        description="The payment of a placed checkout again, e.g. after PAYMENT_UNAVAILABLE."
    )
    @expected(CheckoutPlacePayload)
    async def checkout_pay(self, info: Info, checkout_id: strawberry.ID) -> CheckoutPlacePayload:
        return await _placed(info.context, storefront_of(info.context), CheckoutId.parse(checkout_id))


async def _place_once(
    context: Context,
    storefront: StorefrontFacts,
    checkout_id: CheckoutId,
    *,
    key: str,
    total: CoreMoney | None,
) -> None:
    async def run(session: AsyncSession) -> dict[str, Any]:
        order_ids = await checkouts.place(
            session,
            checkout_id=checkout_id,
            storefront_id=storefront.id,
            expected_total=total,
            policy=_policy(context),
            clock=context.clock,
        )
        return {"orderIds": [str(order_id) for order_id in order_ids]}

    await run_once(
        context,
        operation="checkoutPlace",
        key=key,
        body={"checkoutId": str(checkout_id), "total": str(total)},
        run=run,
        as_actor=SYSTEM,
    )


async def _placed(
    context: Context, storefront: StorefrontFacts, checkout_id: CheckoutId
) -> CheckoutPlacePayload:
    """The placed checkout with its payment; a provider that is away is an error beside the order."""
    # A shopper sees no payments, so the platform reads; ``storefront.id`` is the object check.
    async with context.db.reading(SYSTEM) as session:
        checkout = Checkout.of(await checkouts.load(session, checkout_id, storefront.id))
        known = await payment.of_checkout(session, checkout_id)
    try:
        row = await paying.ask(
            context.db, checkout_id, known, payments=context.gateways.payments, clock=context.clock
        )
    except PaymentUnavailable as error:
        return CheckoutPlacePayload(checkout=checkout, user_errors=[UserError.of(error)])
    return CheckoutPlacePayload(checkout=checkout, payment=_request(context, row))
