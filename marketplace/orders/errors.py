"""What can keep a shopper from buying, and a merchant from giving money back."""

from __future__ import annotations

from datetime import datetime

from core.errors import Conflict, Forbidden, Invalid, NotFound, Unavailable
from core.ids import CartId, CartLineId, CheckoutId, OrderId, OrderLineId, RefundId, VariantId
from core.money import Money


class CartNotFound(NotFound):
    code = "CART_NOT_FOUND"

    def __init__(self, cart_id: CartId) -> None:
        super().__init__(f"no cart {cart_id} in this storefront", field="cartId")
        self.cart_id = cart_id


class CartAlreadyOrdered(Conflict):
    code = "CART_ALREADY_ORDERED"

    def __init__(self, cart_id: CartId) -> None:
        super().__init__("this cart has become an order; start a new one", field="cartId")
        self.cart_id = cart_id


class CartEmpty(Invalid):
    code = "CART_EMPTY"

    def __init__(self) -> None:
        super().__init__("there is nothing in the cart")


class TooManyLines(Invalid):
    code = "TOO_MANY_LINES"

    def __init__(self, most: int) -> None:
        super().__init__(f"a cart holds at most {most} lines")
        self.most = most


class InvalidQuantity(Invalid):
    code = "INVALID_QUANTITY"

    def __init__(self, quantity: int, *, least: int, most: int, field: str = "quantity") -> None:
        super().__init__(f"{quantity} is not between {least} and {most}", field=field)
        self.quantity, self.least, self.most = quantity, least, most


class InvalidAddress(Invalid):
    code = "INVALID_ADDRESS"


class NotSellableHere(Conflict):
    """Unknown, unpublished, or of a brand this storefront has no agreement with: not told apart."""

    code = "NOT_SELLABLE_HERE"

    def __init__(self, variant_id: VariantId, line_id: CartLineId | None = None) -> None:
        super().__init__(f"{variant_id} is not sold by this storefront", field="variantId")
        self.variant_id, self.line_id = variant_id, line_id


class NoPriceInCurrency(Conflict):
    code = "NO_PRICE_IN_CURRENCY"

    def __init__(self, variant_id: VariantId, currency: str) -> None:
        super().__init__(f"{variant_id} has no price in {currency}", field="variantId")
        self.variant_id, self.currency = variant_id, currency


class PriceChanged(Conflict):
    code = "PRICE_CHANGED"

    def __init__(self, line_id: CartLineId, quoted: Money, current: Money) -> None:
        super().__init__(f"quoted {quoted}, now {current}")
        self.line_id, self.quoted, self.current = line_id, quoted, current


class OutOfStock(Conflict):
    """Same code as the reservation's own refusal: to a shopper it is the same."""

    code = "INSUFFICIENT_STOCK"

    def __init__(self, line_id: CartLineId, requested: int, available: int) -> None:
        super().__init__(f"{requested} wanted, {available} available")
        self.line_id, self.requested, self.available = line_id, requested, available


class AddressNotServed(Conflict):
    code = "ADDRESS_NOT_SERVED"

    def __init__(self, line_id: CartLineId, zone: str) -> None:
        super().__init__(f"no supplier ships this to {zone}")
        self.line_id, self.zone = line_id, zone


class TotalChanged(Conflict):
    code = "TOTAL_CHANGED"

    def __init__(self, expected: Money, current: Money) -> None:
        super().__init__(f"expected to pay {expected}, now {current}", field="expectedTotal")
        self.expected, self.current = expected, current


class CheckoutNotFound(NotFound):
    code = "CHECKOUT_NOT_FOUND"

    def __init__(self, checkout_id: CheckoutId) -> None:
        super().__init__(f"no checkout {checkout_id} in this storefront", field="checkoutId")
        self.checkout_id = checkout_id


class CheckoutNotOpen(Conflict):
    code = "CHECKOUT_NOT_OPEN"

    def __init__(self, checkout_id: CheckoutId, status: str) -> None:
        super().__init__(f"the checkout is {status}", field="checkoutId")
        self.checkout_id, self.checkout_status = checkout_id, status


class ReservationExpired(Conflict):
    code = "RESERVATION_EXPIRED"

    def __init__(self, expired_at: datetime) -> None:
        super().__init__("the stock held for this checkout was given back; check out again")
        self.expired_at = expired_at


class PaymentUnavailable(Unavailable):
    """The order stands and its stock is held; ask for the payment again with the same checkout."""

    code = "PAYMENT_UNAVAILABLE"


class OrderNotFound(NotFound):
    code = "ORDER_NOT_FOUND"

    def __init__(self, order_id: OrderId) -> None:
        super().__init__(f"no order {order_id} that concerns you", field="orderId")
        self.order_id = order_id


class OrderKeptAtSource(Conflict):
    """The brand's own checkout has the customer's money: it refunds there, and tells us."""

    code = "ORDER_KEPT_AT_SOURCE"

    def __init__(self, order_id: OrderId) -> None:
        super().__init__(f"{order_id} was paid to the brand itself, which refunds it")
        self.order_id = str(order_id)


class OrderNotPaid(Conflict):
    code = "ORDER_NOT_PAID"

    def __init__(self, order_id: OrderId) -> None:
        super().__init__("nothing was paid for this order", field="orderId")
        self.order_id = order_id


class RefundLineUnknown(Invalid):
    code = "REFUND_LINE_UNKNOWN"

    def __init__(self, line_id: OrderLineId) -> None:
        super().__init__(f"{line_id} is no line of this order", field="lines")
        self.line_id = line_id


class RefundExceedsOrder(Conflict):
    """More than is left: by quantity of a line, or by amount of the order."""

    code = "REFUND_EXCEEDS_ORDER"

    def __init__(self, requested: int, left: int, *, line_id: OrderLineId | None = None) -> None:
        super().__init__(f"{requested} asked, {left} left to refund")
        self.requested, self.left, self.line_id = requested, left, line_id


class RefundEmpty(Invalid):
    code = "REFUND_EMPTY"

    def __init__(self) -> None:
        super().__init__("a refund names lines, shipping or an amount above zero")


class RefundNotFound(NotFound):
    code = "REFUND_NOT_FOUND"

    def __init__(self, refund_id: RefundId) -> None:
        super().__init__(f"no refund {refund_id}")
        self.refund_id = refund_id


class NotYet(Conflict):
    """What a notice is about has not happened in our books yet: it is looked at again."""

    code = "NOT_YET"


class RefundAlreadyRequested(Conflict):
    """The same reference, or the same failed refund, was asked for before: look at that one."""

    code = "REFUND_ALREADY_REQUESTED"

    def __init__(self, refund_id: RefundId, status: str) -> None:
        super().__init__(f"{refund_id} is that refund; it is {status}", field="reference")
        self.refund_id, self.refund_status = refund_id, status


class RefundNotFailed(Conflict):
    code = "REFUND_NOT_FAILED"

    def __init__(self, refund_id: RefundId, status: str) -> None:
        super().__init__(f"{refund_id} is {status}; only a failed refund is asked for again")
        self.refund_id, self.refund_status = refund_id, status


class GoodwillIsThePlatforms(Forbidden):
    """Only an operator gives away the platform's money; a merchant's goodwill is a refund of a line's value."""

    code = "GOODWILL_IS_THE_PLATFORMS"

    def __init__(self) -> None:
        super().__init__("only the platform pays goodwill", field="goodwill")
