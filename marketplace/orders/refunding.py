"""Refunds: checked against the order, reserved in the ledger, then asked of the provider (refund_sending.py).

The order, its quantities and the ledger change in one transaction before the provider is asked; a refusal
puts everything back.

**Locks.** Every transaction that moves a refund takes them in this order, and leaves out those it does not need:

1. the row of the refund, or of the return, that is being decided (a new one is nobody else's yet);
2. ``orders``, by id when there are several (``lock_order``, ``lock_orders``);
3. their commission lines, by id (``reversal.lock_lines``);
4. ``split_orders``, by id, then the ledger's accounts (settlement's verbs);
5. order lines, fulfilment orders and shelves; the payment last.

So two of them never wait for each other in a circle: whoever asks for a refund waits its turn instead of being refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import OrderId, OrderLineId, RefundId
from core.money import Money
from infra import outbox
from marketplace.orders import queries
from marketplace.orders.errors import (
    GoodwillIsThePlatforms,
    OrderKeptAtSource,
    OrderNotFound,
    OrderNotPaid,
    RefundAlreadyRequested,
    RefundEmpty,
    RefundExceedsOrder,
    RefundLineUnknown,
    RefundNotFailed,
    RefundNotFound,
)
from marketplace.orders.events import RefundRequested
from marketplace.orders.models import PaymentStatus, RefundCause, RefundKind, RefundStatus
from marketplace.orders.queries import OrderLineRow
from supply.fulfillment import service as fulfillment
from supply.settlement import goodwill
from supply.settlement import refunds as settlement
from supply.settlement.parties import is_at_source
from supply.settlement.refunds import LineRefund, RefundPlan, ReservedRefund, ShippingRefund

LONGEST_REASON = 500
LONGEST_REFERENCE = 100

_LOCK_ORDER = text(
    "SELECT o.id, o.merchant_id, o.currency, o.total_minor, o.refunded_minor, o.payment_status, p.id AS payment_id,"
    " p.charge_id, p.captured_minor FROM orders o JOIN payments p ON p.checkout_id = o.checkout_id"
    " WHERE o.id = :id AND (:everything OR o.merchant_id = :merchant) FOR UPDATE OF o"
)
_LOCK_ORDERS = text("SELECT FROM orders WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
_KNOWN = text("SELECT id, status FROM refunds WHERE order_id = :order AND reference = :reference")
_INSERT = text(
    "INSERT INTO refunds (id, order_id, payment_id, merchant_id, currency, amount_minor, reason, lines, status,"
    " requested_by, created_at, kind, cause, reference, request, retry_of, attempt, tries, next_try_at) VALUES (:id,"
    " :order, :payment, :merchant, :currency, :amount, :reason, CAST(:lines AS jsonb), 'pending', :by, :now, :kind,"
    " :cause, :reference, CAST(:request AS jsonb), :retry_of, 1, 0, :now)"
)
_TAKE_LINES = text(
    "UPDATE order_lines l SET refunded_quantity = l.refunded_quantity + t.quantity FROM"
    " unnest(CAST(:ids AS uuid[]), CAST(:quantities AS int[])) AS t(id, quantity) WHERE l.id = t.id"
)
_TAKE_ORDER = text(
    "UPDATE orders SET refunded_minor = refunded_minor + :amount, payment_status ="
    " CASE WHEN refunded_minor + :amount >= total_minor THEN 'refunded'"
    " WHEN refunded_minor + :amount > 0 THEN 'partially_refunded' ELSE 'paid' END,"
    " version = version + 1 WHERE id = :id"
)
_FAILED = text(
    "SELECT r.*, n.id AS retried_by FROM refunds r LEFT JOIN refunds n ON n.retry_of = r.id WHERE r.id = :id"
    " FOR UPDATE OF r"
)


@dataclass(frozen=True, slots=True)
class RefundLine:
    """``quantity`` units of a line, or with ``quantity`` 0 ``goods`` of its value (without tax): goodwill of the
    merchant, price protection.

    ``supplier_accepts``: the supplier takes the goods back (or never sent them) and bears its cost.
    ``with_shipping``: what is left of the line's own shipping too, as for goods that never left.
    ``came_back``: the units were with the customer; none that is still to be shipped is cancelled for them.
    """

    order_line_id: OrderLineId
    quantity: int
    supplier_accepts: bool = True
    with_shipping: bool = False
    goods: Money | None = None
    came_back: bool = False


@dataclass(frozen=True, slots=True)
class RefundShipping:
    """Shipping of one line, or of the whole order; what is left of it, or ``amount`` of it (without tax)."""

    order_line_id: OrderLineId | None = None
    amount: Money | None = None


@dataclass(frozen=True, slots=True)
class RefundCommand:
    """Lines, shipping, an ``amount`` (tax included, no line behind it), or everything that is left. At least one.

    ``goodwill``: the platform pays the ``amount`` itself. ``reference`` is the asker's own name for the refund:
    the same one again for an order is refused.
    """

    order_id: OrderId
    lines: Sequence[RefundLine] = ()
    shipping: bool = False
    amount: Money | None = None
    everything: bool = False
    reason: str = ""
    cause: RefundCause = RefundCause.OTHER
    shipping_of: Sequence[RefundShipping] = ()
    goodwill: bool = False
    reference: str | None = None


async def request(session: AsyncSession, actor: Actor, command: RefundCommand, *, clock: Clock) -> RefundId:
    """Reserve a refund. ``session`` acts as SYSTEM (the parts belong to many tenants); ``actor`` must be the
    merchant or the platform. Raises ``OrderNotFound``, ``OrderNotPaid``, ``RefundEmpty``,
    ``RefundLineUnknown``, ``RefundExceedsOrder``, ``RefundAlreadyRequested``, ``GoodwillIsThePlatforms`` and
    settlement's refusals.
    """
    refund_id = await record(session, actor, command, clock=clock)
    event = RefundRequested(refund_id=refund_id, order_id=command.order_id, at=clock.now())
    await outbox.record(session, event)
    return refund_id


async def retry(session: AsyncSession, actor: Actor, refund_id: RefundId, *, clock: Clock) -> RefundId:
    """Ask again for a refund that failed, as a new one: the provider replays its answer to the old. Operators.

    Raises ``RefundNotFound``, ``RefundNotFailed``, ``RefundAlreadyRequested`` and what ``request`` raises.
    """
    actor.require("platform:admin")
    row = (await session.execute(_FAILED, {"id": refund_id})).one_or_none()
    if row is None:
        raise RefundNotFound(refund_id)
    if row.status != RefundStatus.FAILED:
        raise RefundNotFailed(refund_id, row.status)
    if row.retried_by is not None:
        raise RefundAlreadyRequested(RefundId.of(row.retried_by), "retried")
    command = _command_of(OrderId.of(row.order_id), row.request, row.reason, RefundCause(row.cause))
    again = await record(session, actor, command, clock=clock, retry_of=refund_id)
    event = RefundRequested(refund_id=again, order_id=command.order_id, at=clock.now())
    await outbox.record(session, event)
    return again


async def record(
    session: AsyncSession,
    actor: Actor,
    command: RefundCommand,
    *,
    clock: Clock,
    retry_of: RefundId | None = None,
) -> RefundId:
    """``request`` without asking the provider."""
    order = await lock_order(session, actor, command.order_id)
    await _refuse_again(session, command)
    _check(command, actor)
    lines = {
        line.id: line for line in (await queries.lines_of(session, [command.order_id]))[command.order_id]
    }
    asked = _asked_lines(command, lines)
    refund_id, now = RefundId.new(), clock.now()
    reserved = await _reserve(session, refund_id, command, asked, order.currency, now=now)
    if reserved.amount_minor > order.total_minor - order.refunded_minor:
        raise RefundExceedsOrder(reserved.amount_minor, order.total_minor - order.refunded_minor)
    units = [each for each in asked if each.quantity]
    row = {
        "id": refund_id, "order": command.order_id, "payment": order.payment_id, "merchant": order.merchant_id,
        "currency": order.currency, "amount": reserved.amount_minor, "reason": command.reason[:LONGEST_REASON],
        "lines": orjson.dumps([_line_json(each) for each in units]).decode(), "by": str(actor), "now": now,
        "kind": (RefundKind.GOODWILL if command.goodwill else RefundKind.SHARED).value,
        "cause": command.cause.value, "reference": command.reference, "retry_of": retry_of,
        "request": orjson.dumps(_request_json(command)).decode(),
    }  # fmt: skip
    await session.execute(_INSERT, row)
    await change_lines(session, units, sign=1)
    await change_order(session, command.order_id, reserved.amount_minor)
    # What has not shipped need not: its units go back to stock instead of travelling twice.
    unshipped = {each.order_line_id: each.quantity for each in units if not each.came_back}
    if unshipped:
        await fulfillment.cancel_unshipped(session, SYSTEM, command.order_id, clock=clock, lines=unshipped)
    return refund_id


async def lock_order(session: AsyncSession, actor: Actor, order_id: OrderId) -> Any:
    """The paid order of the merchant, or of anybody for the platform. Raises ``OrderNotFound``, ``OrderNotPaid`` and
    ``OrderKeptAtSource``."""
    who = {"everything": actor.sees_everything, "merchant": None if actor.sees_everything else actor.brand_id}
    order = (await session.execute(_LOCK_ORDER, {"id": order_id, **who})).first()
    if order is None:
        raise OrderNotFound(order_id)
    if is_at_source(order.charge_id or ""):
        raise OrderKeptAtSource(order_id)
    if order.payment_status in (PaymentStatus.PENDING, PaymentStatus.VOIDED):
        raise OrderNotPaid(order_id)
    return order


async def lock_orders(session: AsyncSession, order_ids: Sequence[OrderId]) -> None:
    """Whosever they are, for a transaction that changes or refunds them once it has looked at their books."""
    await session.execute(_LOCK_ORDERS, {"ids": list(order_ids)})


async def _refuse_again(session: AsyncSession, command: RefundCommand) -> None:
    if command.reference is None:
        return
    where = {"order": command.order_id, "reference": command.reference[:LONGEST_REFERENCE]}
    known = (await session.execute(_KNOWN, where)).first()
    if known is not None:
        raise RefundAlreadyRequested(RefundId.of(known.id), known.status)


def _check(command: RefundCommand, actor: Actor) -> None:
    shared = command.lines or command.shipping or command.shipping_of or command.everything
    if not (shared or command.amount):
        raise RefundEmpty
    if command.goodwill and (shared or not command.amount):
        raise RefundEmpty
    if command.goodwill and not actor.sees_everything:
        raise GoodwillIsThePlatforms


async def _reserve(
    session: AsyncSession,
    refund_id: RefundId,
    command: RefundCommand,
    asked: Sequence[RefundLine],
    currency: str,
    *,
    now: Any,
) -> ReservedRefund:
    amount = _in(command.amount, currency)
    if command.goodwill:
        return await goodwill.reserve_goodwill(session, refund_id, command.order_id, amount or 0, now=now)
    plan = RefundPlan(
        refund_id=refund_id,
        order_id=command.order_id,
        lines=[
            LineRefund(each.order_line_id, each.quantity, each.supplier_accepts, _in(each.goods, currency))
            for each in asked
        ],
        shipping=_shipping(command, currency),
        amount_minor=amount,
        everything=command.everything,
    )
    return await settlement.reserve_refund(session, plan, now=now)


def _asked_lines(command: RefundCommand, lines: Mapping[OrderLineId, OrderLineRow]) -> list[RefundLine]:
    if command.everything:
        return [
            RefundLine(line.id, line.quantity - line.refunded_quantity)
            for line in lines.values()
            if line.quantity > line.refunded_quantity
        ]
    for asked in command.lines:
        line = lines.get(asked.order_line_id)
        if line is None:
            raise RefundLineUnknown(asked.order_line_id)
        if asked.quantity == 0 and asked.goods is not None and asked.goods.amount_minor > 0:
            continue
        left = line.quantity - line.refunded_quantity
        if not 1 <= asked.quantity <= left:
            raise RefundExceedsOrder(asked.quantity, left, line_id=line.id)
    if len({asked.order_line_id for asked in command.lines}) != len(command.lines):
        raise RefundLineUnknown(command.lines[0].order_line_id)
    return list(command.lines)


def _shipping(command: RefundCommand, currency: str) -> list[ShippingRefund]:
    if command.shipping:
        return [ShippingRefund()]
    of_lines = [ShippingRefund(line.order_line_id) for line in command.lines if line.with_shipping]
    return [
        *of_lines,
        *(ShippingRefund(each.order_line_id, _in(each.amount, currency)) for each in command.shipping_of),
    ]


def _in(amount: Money | None, currency: str) -> int | None:
    """Minor units; raises ``CurrencyMismatch`` for another currency than the order's."""
    return None if amount is None else (amount - Money(0, currency)).amount_minor


def _line_json(line: RefundLine) -> dict[str, Any]:
    return {
        "order_line_id": str(line.order_line_id), "quantity": line.quantity,
        "supplier_accepts": line.supplier_accepts, "with_shipping": line.with_shipping,
        "goods": _money_json(line.goods), "came_back": line.came_back,
    }  # fmt: skip


def _money_json(amount: Money | None) -> list[Any] | None:
    return None if amount is None else [amount.amount_minor, amount.currency]


def _money_of(body: Sequence[Any] | None) -> Money | None:
    return None if body is None else Money(*body)


def lines_of_json(rows: Sequence[Mapping[str, Any]]) -> list[RefundLine]:
    return [
        RefundLine(
            OrderLineId.parse(row["order_line_id"]), row["quantity"], row["supplier_accepts"],
            row.get("with_shipping", False), _money_of(row.get("goods")), row.get("came_back", False),
        )
        for row in rows
    ]  # fmt: skip


def _request_json(command: RefundCommand) -> dict[str, Any]:
    return {
        "lines": [_line_json(each) for each in command.lines], "shipping": command.shipping,
        "shipping_of": [
            [str(each.order_line_id) if each.order_line_id else None, _money_json(each.amount)]
            for each in command.shipping_of
        ],
        "amount": _money_json(command.amount), "everything": command.everything,
        "goodwill": command.goodwill,
    }  # fmt: skip


def _command_of(order_id: OrderId, body: Mapping[str, Any], reason: str, cause: RefundCause) -> RefundCommand:
    command = RefundCommand(order_id, reason=reason, cause=cause)
    return replace(
        command,
        lines=lines_of_json(body.get("lines", ())),
        shipping=body.get("shipping", False),
        shipping_of=[
            RefundShipping(OrderLineId.parse(line) if line else None, _money_of(amount))
            for line, amount in body.get("shipping_of", ())
        ],
        amount=_money_of(body.get("amount")),
        everything=body.get("everything", False),
        goodwill=body.get("goodwill", False),
    )


async def change_lines(session: AsyncSession, lines: Sequence[RefundLine], *, sign: int) -> None:
    """Count units as refunded, or with ``sign`` -1 as not."""
    if lines:
        values = {
            "ids": [each.order_line_id for each in lines],
            "quantities": [sign * each.quantity for each in lines],
        }
        await session.execute(_TAKE_LINES, values)


async def change_order(session: AsyncSession, order_id: OrderId, amount_minor: int) -> None:
    await session.execute(_TAKE_ORDER, {"id": order_id, "amount": amount_minor})
