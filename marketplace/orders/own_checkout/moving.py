"""What happened to an order of a brand's own checkout, out of everything the shop told of it.

The books are a function of the set of events, not of the sequence in which they came: each time something is told,
all of it is looked at again, in the shop's own sequence (by time, then event id). Nothing happens before the order is
told of and paid. Paid: who sold it is decided, the commission split, and owed by the brand. From then on refunds are
taken in their sequence (at_source.refunding), a cancellation among them as a refund of whatever is left, and the first
delivery begins the return window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, OrderId, OrderLineId, PaymentId, RefundId, StorefrontId
from infra import outbox
from infra.config import Settings
from marketplace.orders import refund_commission
from marketplace.orders.events import OrderDelivered
from marketplace.orders.models import FulfillmentStatus, PaymentStatus, RefundCause
from marketplace.orders.own_checkout.crediting import credit_order
from marketplace.orders.own_checkout.events import OrderTold
from marketplace.orders.own_checkout.models import EventKind
from marketplace.promotion.commission import states as commission_states
from marketplace.promotion.commission.reversal import lock_lines
from supply.settlement.at_source.delivering import deliver_at_source
from supply.settlement.at_source.refunding import Refunded, SourceLine, SourceRefund, refund_at_source

BY_THE_SHOP = "told by the shop"
_LOCK = text(
    "SELECT t.storefront_id, t.reference, t.content, t.buyer_keys, o.id AS order_id, o.number, o.checkout_id,"
    " o.merchant_id, o.currency, o.country, o.total_minor, o.placed_at, o.paid_at, o.payment_status,"
    " o.fulfillment_status, o.delivered_at, p.id AS payment_id"
    " FROM told_orders t JOIN orders o ON o.id = t.order_id JOIN payments p ON p.checkout_id = o.checkout_id"
    " WHERE t.storefront_id = :storefront AND t.reference = :reference FOR UPDATE OF t, o"
)
_EVENTS = text(
    "SELECT event_id, kind, at, body, applied_at FROM told_events WHERE storefront_id = :storefront"
    " AND reference = :reference ORDER BY at, event_id"
)
_APPLIED = text(
    "UPDATE told_events SET applied_at = :now WHERE storefront_id = :storefront AND event_id = ANY(:events)"
)
_PAID = text(
    "WITH o AS (UPDATE orders SET payment_status = 'paid', paid_at = :at, version = version + 1 WHERE id = :order"
    " RETURNING checkout_id), c AS (UPDATE checkouts SET status = 'paid', paid_at = :at FROM o"
    "  WHERE id = o.checkout_id)"
    " UPDATE payments p SET status = 'paid', captured_minor = amount_minor, charge_id = :charge, captured_at = :at"
    " FROM o WHERE p.checkout_id = o.checkout_id"
)
_VOID = text(
    "WITH o AS (UPDATE orders SET payment_status = 'voided', fulfillment_status = 'cancelled', version = version + 1"
    "  WHERE id = :order AND payment_status = 'pending' RETURNING checkout_id),"
    " c AS (UPDATE checkouts SET status = 'cancelled' FROM o WHERE id = o.checkout_id)"
    " UPDATE payments p SET status = 'voided' FROM o WHERE p.checkout_id = o.checkout_id"
)
_STANDS = text(
    "WITH o AS (UPDATE orders SET refunded_minor = :refunded, payment_status = :status, version = version + 1"
    "  WHERE id = :order RETURNING checkout_id),"
    " l AS (UPDATE order_lines l SET refunded_quantity = n.units"
    "  FROM unnest(CAST(:lines AS uuid[]), CAST(:units AS int[])) AS n (line, units) WHERE l.id = n.line)"
    " UPDATE payments p SET refunded_minor = :refunded, status = :status FROM o WHERE p.checkout_id = o.checkout_id"
)
_REFUND = text(
    "INSERT INTO refunds (id, order_id, payment_id, merchant_id, currency, amount_minor, reason, lines, status,"
    " requested_by, created_at, settled_at, kind, cause, reference, request, attempt, tries, next_try_at)"
    " VALUES (:id, :order, :payment, :merchant, :currency, :amount, :reason, CAST(:lines AS jsonb), 'succeeded', :by,"
    " :at, :now, 'shared', :cause, :reference, CAST(:request AS jsonb), 1, 0, :now)"
)
_MOVED = text(
    "UPDATE orders SET fulfillment_status = :status, delivered_at = :delivered_at, version = version + 1"
    " WHERE id = :order"
)
_TAKES = frozenset({EventKind.REFUNDED, EventKind.CANCELLED})


@dataclass(frozen=True, slots=True)
class Happened:
    """An event as it was told."""

    id: str
    kind: EventKind
    at: datetime
    body: dict[str, Any]
    applied: bool


async def on_order_told(session: AsyncSession, event: OrderTold, *, clock: Clock, settings: Settings) -> None:
    """Bring the order to where everything that was told of it leaves it. Again, or for nothing new: nothing."""
    where = {"storefront": event.storefront_id, "reference": event.reference}
    order = (await session.execute(_LOCK, where)).one_or_none()
    if order is None:
        return
    events = [
        Happened(row.event_id, EventKind(row.kind), row.at, row.body, row.applied_at is not None)
        for row in await session.execute(_EVENTS, where)
    ]
    if not any(each.kind is EventKind.PAID for each in events):
        if any(each.kind is EventKind.CANCELLED for each in events):
            await session.execute(_VOID, {"order": order.order_id})
        return
    if order.paid_at is not None:  # before the split, as every refund locks them (refunding.py)
        await lock_lines(session, [OrderId.of(order.order_id)])
    paid_at = await _pay(session, order, events, clock=clock, settings=settings)
    await _refund(session, order, events, clock=clock)
    await _deliver(session, order, events, paid_at)
    new = [each.id for each in events if not each.applied]
    values = {"storefront": event.storefront_id, "events": new, "now": clock.now()}
    await session.execute(_APPLIED, values)


async def _pay(
    session: AsyncSession, order: Any, events: Sequence[Happened], *, clock: Clock, settings: Settings
) -> datetime:
    """Once; when it was first paid, by what was told when the order was credited."""
    known: datetime | None = order.paid_at
    if known is not None:
        return known
    told = next(each.at for each in events if each.kind is EventKind.PAID)
    paid_at: datetime = max(told, order.placed_at)
    charge = charge_of(StorefrontId.of(order.storefront_id), order.reference)
    await session.execute(_PAID, {"order": order.order_id, "at": paid_at, "charge": charge})
    await credit_order(
        session, order, charge_id=charge, paid_at=paid_at,
        secret=settings.secret_key.get_secret_value(), clock=clock,
    )  # fmt: skip
    await commission_states.expect_payment(session, OrderId.of(order.order_id))
    return paid_at


async def _refund(session: AsyncSession, order: Any, events: Sequence[Happened], *, clock: Clock) -> None:
    """One refund for each that is new, composed among all that were told until now."""
    taking = [each for each in events if each.kind in _TAKES]
    known = [each for each in taking if each.applied]
    for new in (each for each in taking if not each.applied):
        known = [each for each in taking if each in known or each is new]
        line_ids = _line_ids(order.content)
        refunds = [_source_refund(each, line_ids) for each in known]
        refund_id = RefundId.new()
        done = await refund_at_source(
            session, refund_id, OrderId.of(order.order_id), refunds, reference=new.id, now=clock.now()
        )
        await refund_commission.take(session, refund_id, clock=clock)
        await _stands(session, order, done)
        if done.amount_minor > 0:
            await session.execute(_REFUND, _refund_row(order, new, refund_id, done, clock.now()))


def _source_refund(event: Happened, line_ids: dict[str, OrderLineId]) -> SourceRefund:
    """Lines that the order does not have are not ours to take anything for."""
    if event.kind is EventKind.CANCELLED:
        return SourceRefund(everything=True)
    lines = [
        SourceLine(line_ids[line], quantity, amount)
        for line, quantity, amount in event.body["lines"]
        if line in line_ids
    ]
    return SourceRefund(lines, event.body["shipping"])


async def _stands(session: AsyncSession, order: Any, done: Refunded) -> None:
    status = PaymentStatus.PAID
    if done.refunded_minor > 0:
        whole = done.refunded_minor == order.total_minor
        status = PaymentStatus.REFUNDED if whole else PaymentStatus.PARTIALLY_REFUNDED
    values = {
        "order": order.order_id, "refunded": done.refunded_minor, "status": status.value,
        "lines": list(done.units), "units": list(done.units.values()),
    }  # fmt: skip
    await session.execute(_STANDS, values)


def _refund_row(
    order: Any, event: Happened, refund_id: RefundId, done: Refunded, now: datetime
) -> dict[str, Any]:
    cancelled = event.kind is EventKind.CANCELLED
    cause = RefundCause.CANCELLED if cancelled else RefundCause.OTHER
    request = {"told": event.body, "everything": cancelled}
    return {
        "id": refund_id, "order": OrderId.of(order.order_id), "payment": PaymentId.of(order.payment_id),
        "merchant": BrandId.of(order.merchant_id), "currency": order.currency, "amount": done.amount_minor,
        "reason": event.body.get("reason") or BY_THE_SHOP, "lines": "[]", "by": BY_THE_SHOP, "at": event.at,
        "now": now, "cause": cause.value, "reference": event.id, "request": orjson.dumps(request).decode(),
    }  # fmt: skip


async def _deliver(session: AsyncSession, order: Any, events: Sequence[Happened], paid_at: datetime) -> None:
    kinds = {each.kind for each in events}
    delivered = next((each.at for each in events if each.kind is EventKind.DELIVERED), None)
    status = FulfillmentStatus.UNFULFILLED
    if EventKind.CANCELLED in kinds and delivered is None:
        status = FulfillmentStatus.CANCELLED
    elif delivered is not None:
        status = FulfillmentStatus.DELIVERED
    elif EventKind.SHIPPED in kinds:
        status = FulfillmentStatus.SHIPPED
    at = max(delivered, paid_at) if delivered is not None else None
    if (status, at) == (order.fulfillment_status, order.delivered_at):
        return
    order_id = OrderId.of(order.order_id)
    await session.execute(_MOVED, {"order": order_id, "status": status.value, "delivered_at": at})
    if at is not None and at != order.delivered_at:
        await deliver_at_source(session, order_id, at=at)
        await commission_states.expect_payment(session, order_id)
        await outbox.record(session, OrderDelivered(order_id=order_id, at=at))


def _line_ids(content: dict[str, Any]) -> dict[str, OrderLineId]:
    names = [line[0] for line in content["lines"]]
    return dict(zip(names, map(OrderLineId.parse, content["line_ids"]), strict=True))


def charge_of(storefront_id: StorefrontId, reference: str) -> str:
    return f"own:{storefront_id}:{reference}"
