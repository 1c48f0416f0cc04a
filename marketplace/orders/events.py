"""What happened to orders. Amounts are minor units of ``currency``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.events import Event, event
from core.ids import CheckoutId, OrderId, PaymentId, RefundId


@event("orders.placed")
@dataclass(frozen=True, slots=True)
class CheckoutPlaced(Event):
    checkout_id: CheckoutId
    order_ids: tuple[OrderId, ...]
    at: datetime


@event("orders.provider_notified")
@dataclass(frozen=True, slots=True)
class ProviderNotified(Event):
    """A verified webhook came; its payload is a hint, the object is fetched."""

    event_id: str
    type: str
    object_id: str
    account: str | None = None
    """The connected account it is about; none for our own."""


@event("orders.payment_captured")
@dataclass(frozen=True, slots=True)
class PaymentCaptured(Event):
    checkout_id: CheckoutId
    payment_id: PaymentId
    order_ids: tuple[OrderId, ...]
    charge_id: str
    amount_minor: int
    currency: str
    at: datetime


@event("orders.payment_came_late")
@dataclass(frozen=True, slots=True)
class PaymentCameLate(Event):
    """Paid after the checkout had expired: the money goes straight back."""

    checkout_id: CheckoutId
    payment_id: PaymentId
    charge_id: str
    amount_minor: int
    currency: str
    at: datetime


@event("orders.checkout_expired")
@dataclass(frozen=True, slots=True)
class CheckoutExpired(Event):
    checkout_id: CheckoutId
    intent_id: str | None
    at: datetime


@event("orders.refund_requested")
@dataclass(frozen=True, slots=True)
class RefundRequested(Event):
    refund_id: RefundId
    order_id: OrderId
    at: datetime


@event("orders.refund_settled")
@dataclass(frozen=True, slots=True)
class RefundSettled(Event):
    refund_id: RefundId
    order_id: OrderId
    amount_minor: int
    currency: str
    at: datetime


@event("orders.refund_failed")
@dataclass(frozen=True, slots=True)
class RefundFailed(Event):
    refund_id: RefundId
    order_id: OrderId
    at: datetime


@event("orders.delivered")
@dataclass(frozen=True, slots=True)
class OrderDelivered(Event):
    order_id: OrderId
    at: datetime
