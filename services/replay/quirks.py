"""What is strange about a recorded order. It is flagged and kept: real data is like this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

from services.replay.files import Product, SourceOrder
from supply.routing.exact import EXACT_LINES


class Quirk(StrEnum):
    WITHOUT_ITEMS = "order_without_items"
    ZERO_PAYMENT = "zero_payment_row"
    NOTHING_PAID = "nothing_paid"
    PAYMENTS_DIFFER = "payments_differ_from_items"
    SEVERAL_PAYMENTS = "several_payment_rows"
    MANY_ITEMS = "more_items_than_routed_exactly"
    UNTRANSLATED = "category_without_translation"
    UNCATEGORISED = "product_without_category"
    WEIGHTLESS = "product_without_weight"
    NOT_APPROVED = "shipped_without_approval"
    SHIPPED_BEFORE_PURCHASE = "handed_to_carrier_before_purchase"
    SHIPPED_BEFORE_APPROVAL = "handed_to_carrier_before_approval"
    DELIVERED_BEFORE_APPROVAL = "delivered_before_approval"
    DELIVERED_BEFORE_CARRIER = "delivered_before_carrier"
    NEVER_HANDED_OVER = "delivered_without_carrier_date"
    DELIVERED_UNDATED = "delivered_without_date"
    CANCELED_AFTER_SHIPPING = "canceled_after_shipping"
    CANCELED_AFTER_DELIVERY = "canceled_after_delivery"


def quirks_of(order: SourceOrder, products: Mapping[str, Product]) -> list[Quirk]:
    """In a fixed sequence, each at most once an order."""
    return [*_of_money(order), *_of_goods(order, products), *_of_times(order)]


def _of_money(order: SourceOrder) -> Iterator[Quirk]:
    paid = sum(payment.amount_minor for payment in order.payments)
    if not order.items:
        yield Quirk.WITHOUT_ITEMS
    elif paid != sum(item.price_minor + item.freight_minor for item in order.items):
        yield Quirk.PAYMENTS_DIFFER
    if any(payment.amount_minor == 0 for payment in order.payments):
        yield Quirk.ZERO_PAYMENT
    if not paid:
        yield Quirk.NOTHING_PAID
    if len(order.payments) > 1:
        yield Quirk.SEVERAL_PAYMENTS


def _of_goods(order: SourceOrder, products: Mapping[str, Product]) -> Iterator[Quirk]:
    sold = [products[item.product] for item in order.items]
    if len(sold) > EXACT_LINES:
        yield Quirk.MANY_ITEMS
    if any(not product.translated for product in sold):
        yield Quirk.UNTRANSLATED
    if any(not product.category for product in sold):
        yield Quirk.UNCATEGORISED
    if any(not product.weight_g for product in sold):
        yield Quirk.WEIGHTLESS


def _of_times(order: SourceOrder) -> Iterator[Quirk]:
    approved, carrier, delivered = order.approved_at, order.carrier_at, order.delivered_at
    if carrier and not approved:
        yield Quirk.NOT_APPROVED
    if carrier and carrier < order.purchased_at:
        yield Quirk.SHIPPED_BEFORE_PURCHASE
    if carrier and approved and carrier < approved:
        yield Quirk.SHIPPED_BEFORE_APPROVAL
    if delivered and approved and delivered < approved:
        yield Quirk.DELIVERED_BEFORE_APPROVAL
    if delivered and carrier and delivered < carrier:
        yield Quirk.DELIVERED_BEFORE_CARRIER
    if order.status == "delivered":
        if not carrier:
            yield Quirk.NEVER_HANDED_OVER
        if not delivered:
            yield Quirk.DELIVERED_UNDATED
    if order.status == "canceled" and carrier:
        yield Quirk.CANCELED_AFTER_SHIPPING
    if order.status == "canceled" and delivered:
        yield Quirk.CANCELED_AFTER_DELIVERY
