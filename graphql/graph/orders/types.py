"""Carts, checkouts and orders as clients see them."""

from __future__ import annotations

from datetime import datetime

import strawberry

from core.actor import ActorKind
from graph.context import Info
from graph.errors import UserError
from graph.orders import loaders
from graph.scalars import JSON, Money, Ppm
from marketplace.catalog.queries import VariantForSale
from marketplace.orders import queries
from marketplace.orders.cart import CartLineView, CartView
from marketplace.orders.checkout import CheckoutView
from marketplace.orders.models import (
    CheckoutStatus,
    FulfillmentStatus,
    PaymentStatus,
    RefundCause,
    RefundStatus,
)
from marketplace.orders.payment import PaymentRow
from marketplace.orders.quote import Quote
from marketplace.promotion.coupons.models import Funder

strawberry.enum(CheckoutStatus, name="CheckoutStatus")
strawberry.enum(PaymentStatus, name="PaymentStatus")
strawberry.enum(FulfillmentStatus, name="OrderFulfillmentStatus")
strawberry.enum(RefundStatus, name="RefundStatus")
strawberry.enum(RefundCause, name="RefundCause")
strawberry.enum(Funder, name="DiscountFunder")


@strawberry.type(description="A variant in a cart, as it is sold today.")
class CartVariant:
    id: strawberry.ID
    product_id: strawberry.ID
    brand_id: strawberry.ID
    sku: str
    title: str
    product_title: str
    price: Money | None

    @classmethod
    def of(cls, variant: VariantForSale) -> CartVariant:
        return cls(
            id=strawberry.ID(str(variant.variant_id)),
            product_id=strawberry.ID(str(variant.product_id)),
            brand_id=strawberry.ID(str(variant.brand_id)),
            sku=variant.sku,
            title=variant.title,
            product_title=variant.product_title,
            price=Money.of(variant.price) if variant.price else None,
        )


@strawberry.type
class CartLine:
    id: strawberry.ID
    quantity: int
    unit_price: Money = strawberry.field(description="The price quoted when the line was last set.")
    line_total: Money
    row: strawberry.Private[CartLineView]

    @classmethod
    def of(cls, line: CartLineView) -> CartLine:
        return cls(
            id=strawberry.ID(str(line.id)),
            quantity=line.quantity,
            unit_price=Money.of(line.quoted),
            line_total=Money.of(line.quoted * line.quantity),
            row=line,
        )

    @strawberry.field
    async def variant(self, info: Info) -> CartVariant | None:
        loader = info.context.loader(loaders.variants, variant=self.row.quoted.currency)
        variant = await loader.load(self.row.variant_id)
        return CartVariant.of(variant) if variant else None


@strawberry.type
class Cart:
    id: strawberry.ID
    lines: list[CartLine]
    subtotal: Money = strawberry.field(description="Goods only; shipping and tax need an address.")
    currency_code: str
    version: int
    coupon_code: str | None = strawberry.field(description="What it takes off is in the checkout's quote.")

    @classmethod
    def of(cls, cart: CartView) -> Cart:
        subtotal = sum(line.quoted.amount_minor * line.quantity for line in cart.lines)
        return cls(
            id=strawberry.ID(str(cart.id)),
            lines=[CartLine.of(line) for line in cart.lines],
            subtotal=Money.minor(subtotal, cart.currency),
            currency_code=cart.currency,
            version=cart.version,
            coupon_code=cart.coupon_code,
        )


@strawberry.type(description="What the checkout costs, and what keeps it from being placed.")
class CheckoutQuote:
    goods: Money
    discount: Money = strawberry.field(description="What the coupon takes off the goods.")
    shipping: Money
    tax: Money = strawberry.field(description="Tax on top of the prices.")
    total: Money
    problems: list[UserError]

    @classmethod
    def of(cls, quote: Quote) -> CheckoutQuote:
        totals = quote.totals
        return cls(
            goods=Money.minor(totals.goods_minor, quote.currency),
            discount=Money.minor(totals.discount_minor, quote.currency),
            shipping=Money.minor(totals.shipping_minor, quote.currency),
            tax=Money.minor(totals.tax_minor, quote.currency),
            total=Money.minor(totals.total_minor, quote.currency),
            problems=[UserError.of(problem) for problem in quote.problems],
        )


@strawberry.type(description="How to pay: confirm the intent with the provider, or send the shopper there.")
class PaymentRequest:
    provider: str
    intent_id: str
    client_secret: str
    amount: Money
    pay_url: str | None
    publishable_key: str | None

    @classmethod
    def of(cls, row: PaymentRow, *, pay_url: str | None, publishable_key: str | None) -> PaymentRequest:
        return cls(
            provider="stripe",
            intent_id=row.intent_id or "",
            client_secret=row.client_secret or "",
            amount=Money.of(row.amount),
            pay_url=pay_url,
            publishable_key=publishable_key,
        )


@strawberry.type
class OrderLine:
    id: strawberry.ID
    variant_id: strawberry.ID | None = strawberry.field(
        description="None of what a brand's own checkout sold and the catalogue here does not have."
    )
    product_id: strawberry.ID | None
    sku: str
    title: str
    quantity: int
    refunded_quantity: int
    unit_price: Money
    shipping: Money
    tax: Money
    tax_rate: Ppm
    tax_included: bool
    discount: Money
    discount_funder: Funder | None = strawberry.field(description="Who pays the discount.")
    total: Money

    @classmethod
    def of(cls, row: queries.OrderLineRow, currency: str) -> OrderLine:
        return cls(
            id=strawberry.ID(str(row.id)),
            variant_id=strawberry.ID(str(row.variant_id)) if row.variant_id else None,
            product_id=strawberry.ID(str(row.product_id)) if row.product_id else None,
            sku=row.sku,
            title=row.title,
            quantity=row.quantity,
            refunded_quantity=row.refunded_quantity,
            unit_price=Money.minor(row.unit_price_minor, currency),
            shipping=Money.minor(row.shipping_minor, currency),
            tax=Money.minor(row.tax_minor + row.shipping_tax_minor, currency),
            tax_rate=Ppm(row.tax_ppm),
            tax_included=row.tax_included,
            discount=Money.minor(row.discount_minor, currency),
            discount_funder=Funder(row.discount_funder) if row.discount_funder else None,
            total=Money.minor(row.paid_minor, currency),
        )


@strawberry.type
class Refund:
    id: strawberry.ID
    amount: Money
    reason: str
    status: RefundStatus
    lines: JSON
    failure: str | None
    created_at: datetime
    settled_at: datetime | None

    @classmethod
    def of(cls, row: queries.RefundRow) -> Refund:
        return cls(
            id=strawberry.ID(str(row.id)),
            amount=Money.of(row.amount),
            reason=row.reason,
            status=row.status,
            lines=JSON(row.lines),
            failure=row.failure,
            created_at=row.created_at,
            settled_at=row.settled_at,
        )


@strawberry.type(description="One merchant's part of a checkout.")
class Order:
    id: strawberry.ID
    number: str
    checkout_id: strawberry.ID
    merchant_id: strawberry.ID
    seller_id: strawberry.ID = strawberry.field(description="The brand whose storefront sold it.")
    goods: Money = strawberry.field(description="Before the discount.")
    discount: Money
    shipping: Money
    tax: Money
    total: Money
    refunded: Money = strawberry.field(description="By refunds that did not fail; not what a bank took back.")
    payment_status: PaymentStatus
    fulfillment_status: FulfillmentStatus
    country: str
    placed_at: datetime
    paid_at: datetime | None
    delivered_at: datetime | None
    version: int
    row: strawberry.Private[queries.OrderRow]

    @classmethod
    def of(cls, row: queries.OrderRow) -> Order:
        return cls(
            id=strawberry.ID(str(row.id)),
            number=row.number,
            checkout_id=strawberry.ID(str(row.checkout_id)),
            merchant_id=strawberry.ID(str(row.merchant_id)),
            seller_id=strawberry.ID(str(row.seller_id)),
            goods=Money.of(row.goods),
            discount=Money.of(row.discount),
            shipping=Money.of(row.shipping),
            tax=Money.of(row.tax),
            total=Money.of(row.total),
            refunded=Money.of(row.refunded),
            payment_status=row.payment_status,
            fulfillment_status=row.fulfillment_status,
            country=row.country,
            placed_at=row.placed_at,
            paid_at=row.paid_at,
            delivered_at=row.delivered_at,
            version=row.version,
            row=row,
        )

    @strawberry.field
    async def lines(self, info: Info) -> list[OrderLine]:
        rows = await info.context.loader(loaders.order_lines).load(self.row.id)
        return [OrderLine.of(row, self.row.total.currency) for row in rows]

    @strawberry.field
    async def refunds(self, info: Info) -> list[Refund]:
        rows = await info.context.loader(loaders.refunds).load(self.row.id)
        return [Refund.of(row) for row in rows]

    @strawberry.field(
        description="What lost disputes took: with `refunded`, all the customer got back. Told to the merchant only."
    )
    async def charged_back(self, info: Info) -> Money | None:
        actor = info.context.actor
        merchant = actor.kind is ActorKind.BRAND and actor.brand_id == self.row.merchant_id
        if not (merchant or actor.sees_everything):
            return None
        minor = await info.context.loader(loaders.charged_back).load(self.row.id)
        return Money.minor(minor, self.row.total.currency)


@strawberry.type
class Checkout:
    id: strawberry.ID
    status: CheckoutStatus
    goods: Money = strawberry.field(description="Before the discount.")
    discount: Money
    shipping: Money
    tax: Money
    total: Money
    started_at: datetime
    placed_at: datetime | None
    expires_at: datetime | None = strawberry.field(description="Until when the stock is held.")
    paid_at: datetime | None
    view: strawberry.Private[CheckoutView]

    @classmethod
    def of(cls, view: CheckoutView) -> Checkout:
        return cls(
            id=strawberry.ID(str(view.id)),
            status=view.status,
            goods=Money.of(view.goods),
            discount=Money.of(view.discount),
            shipping=Money.of(view.shipping),
            tax=Money.of(view.tax),
            total=Money.of(view.total),
            started_at=view.started_at,
            placed_at=view.placed_at,
            expires_at=view.expires_at,
            paid_at=view.paid_at,
            view=view,
        )

    @strawberry.field(description="One order per merchant, once placed.")
    async def orders(self, info: Info) -> list[Order]:
        rows = await info.context.loader(loaders.orders_of_checkouts).load(self.view.id)
        return [Order.of(row) for row in rows]
