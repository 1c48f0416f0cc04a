"""Refunds: checked against the order, reserved in the ledger, asked of the provider, settled or undone.

The order, its quantities and the ledger change in one transaction before the provider is asked; a refusal
puts everything back. The provider's key is the refund's id, so asking twice pays once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.ids import OrderId, OrderLineId, PaymentId, RefundId
from core.money import Money
from infra import outbox
from infra.db.session import Database
from infra.payments.errors import ProviderRefused
from infra.payments.gateway import PaymentGateway
from infra.payments.gateway import Refund as ProviderRefund
from marketplace.orders import queries
from marketplace.orders.errors import (
    OrderNotFound,
    OrderNotPaid,
    RefundEmpty,
    RefundExceedsOrder,
    RefundLineUnknown,
)
from marketplace.orders.events import PaymentCameLate, RefundFailed, RefundRequested, RefundSettled
from marketplace.orders.models import PaymentStatus, RefundStatus
from marketplace.orders.queries import OrderLineRow
from marketplace.promotion import reversal
from marketplace.promotion.attribute import attributed
from supply.fulfillment import service as fulfillment
from supply.settlement import refunds as settlement
from supply.settlement.late_payments import post_late_payment
from supply.settlement.refunds import LineRefund, RefundPlan, ShippingRefund

LONGEST_REASON = 500
_UNANSWERED_AFTER = timedelta(minutes=10)
_BATCH = 50
_FINAL_YES, _FINAL_NO = "succeeded", frozenset({"failed", "canceled"})

_LOCK_ORDER = text(
    "SELECT o.id, o.merchant_id, o.currency, o.total_minor, o.refunded_minor, o.payment_status, p.id AS payment_id,"
    " p.charge_id, p.captured_minor FROM orders o JOIN payments p ON p.checkout_id = o.checkout_id"
    " WHERE o.id = :id AND (:everything OR o.merchant_id = :merchant) FOR UPDATE OF o"
)
_INSERT = text(
    "INSERT INTO refunds (id, order_id, payment_id, merchant_id, currency, amount_minor, reason, lines, status,"
    " requested_by, created_at) VALUES (:id, :order, :payment, :merchant, :currency, :amount, :reason,"
    " CAST(:lines AS jsonb), 'pending', :by, :now)"
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
_LOCK_REFUND = text(
    "SELECT r.id, r.order_id, r.payment_id, r.amount_minor, r.currency, r.status, r.lines, r.created_at,"
    " p.charge_id FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE r.id = :id FOR UPDATE OF r"
)
_END = text(
    "UPDATE refunds SET status = :status, provider_id = :provider, failure = :failure, settled_at = :now"
    " WHERE id = :id"
)
_PAYMENT_REFUNDED = text(
    "UPDATE payments SET refunded_minor = refunded_minor + :amount, status ="
    " CASE WHEN refunded_minor + :amount >= captured_minor THEN 'refunded' ELSE 'partially_refunded' END"
    " WHERE id = :id"
)
_SETTLED = text("SELECT lines FROM refunds WHERE order_id = :order AND status = 'succeeded'")
_UNANSWERED = text(
    "SELECT id FROM refunds WHERE status = 'pending' AND created_at <= :before ORDER BY created_at LIMIT :batch"
)


@dataclass(frozen=True, slots=True)
class RefundLine:
    """``supplier_accepts``: the supplier takes the goods back (or never sent them) and bears its cost.

    ``with_shipping``: what is left of the line's own shipping too, as for goods that never left.
    """

    order_line_id: OrderLineId
    quantity: int
    supplier_accepts: bool = True
    with_shipping: bool = False


@dataclass(frozen=True, slots=True)
class RefundCommand:
    """Lines, shipping, a goodwill ``amount``, or everything that is left. At least one of them."""

    order_id: OrderId
    lines: Sequence[RefundLine] = ()
    shipping: bool = False
    amount: Money | None = None
    everything: bool = False
    reason: str = ""


async def request(session: AsyncSession, actor: Actor, command: RefundCommand, *, clock: Clock) -> RefundId:
    """Reserve a refund. ``session`` acts as SYSTEM (the parts belong to many tenants); ``actor`` must be the
    merchant or the platform. Raises ``OrderNotFound``, ``OrderNotPaid``, ``RefundEmpty``,
    ``RefundLineUnknown``, ``RefundExceedsOrder`` and settlement's refusals.
    """
    order = await _lock_order(session, actor, command.order_id)
    if not (command.lines or command.shipping or command.amount or command.everything):
        raise RefundEmpty
    lines = {
        line.id: line for line in (await queries.lines_of(session, [command.order_id]))[command.order_id]
    }
    asked = _asked_lines(command, lines)
    refund_id, now = RefundId.new(), clock.now()
    plan = RefundPlan(
        refund_id=refund_id,
        order_id=command.order_id,
        lines=[LineRefund(each.order_line_id, each.quantity, each.supplier_accepts) for each in asked],
        shipping=_shipping(command),
        amount_minor=_goodwill(command, order.currency),
        everything=command.everything,
    )
    reserved = await settlement.reserve_refund(session, plan, now=now)
    if reserved.amount_minor > order.total_minor - order.refunded_minor:
        raise RefundExceedsOrder(reserved.amount_minor, order.total_minor - order.refunded_minor)
    row = {
        "id": refund_id, "order": command.order_id, "payment": order.payment_id, "merchant": order.merchant_id,
        "currency": order.currency, "amount": reserved.amount_minor, "reason": command.reason[:LONGEST_REASON],
        "lines": orjson.dumps([_line_json(each) for each in asked]).decode(), "by": str(actor), "now": now,
    }  # fmt: skip
    await session.execute(_INSERT, row)
    await _change_lines(session, asked, sign=1)
    await session.execute(_TAKE_ORDER, {"id": command.order_id, "amount": reserved.amount_minor})
    # What has not shipped need not: its units go back to stock instead of travelling twice.
    units = {each.order_line_id: each.quantity for each in asked}
    if units:
        await fulfillment.cancel_unshipped(session, SYSTEM, command.order_id, clock=clock, lines=units)
    await outbox.record(session, RefundRequested(refund_id=refund_id, order_id=command.order_id, at=now))
    return refund_id


async def _lock_order(session: AsyncSession, actor: Actor, order_id: OrderId) -> Any:
    who = {"everything": actor.sees_everything, "merchant": None if actor.sees_everything else actor.brand_id}
    order = (await session.execute(_LOCK_ORDER, {"id": order_id, **who})).first()
    if order is None:
        raise OrderNotFound(order_id)
    if order.payment_status in (PaymentStatus.PENDING, PaymentStatus.VOIDED):
        raise OrderNotPaid(order_id)
    return order


def _asked_lines(command: RefundCommand, lines: dict[OrderLineId, OrderLineRow]) -> list[RefundLine]:
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
        left = line.quantity - line.refunded_quantity
        if not 1 <= asked.quantity <= left:
            raise RefundExceedsOrder(asked.quantity, left, line_id=line.id)
    if len({asked.order_line_id for asked in command.lines}) != len(command.lines):
        raise RefundLineUnknown(command.lines[0].order_line_id)
    return list(command.lines)


def _shipping(command: RefundCommand) -> list[ShippingRefund]:
    if command.shipping:
        return [ShippingRefund()]
    return [ShippingRefund(line.order_line_id) for line in command.lines if line.with_shipping]


def _goodwill(command: RefundCommand, currency: str) -> int | None:
    if command.amount is None:
        return None
    return (command.amount - Money(0, currency)).amount_minor


def _line_json(line: RefundLine) -> dict[str, Any]:
    return {**asdict(line), "order_line_id": str(line.order_line_id)}


async def _change_lines(session: AsyncSession, lines: Sequence[RefundLine], *, sign: int) -> None:
    if lines:
        values = {
            "ids": [each.order_line_id for each in lines],
            "quantities": [sign * each.quantity for each in lines],
        }
        await session.execute(_TAKE_LINES, values)


async def _take_back_commission(
    session: AsyncSession,
    refund_id: RefundId,
    order_id: OrderId,
    lines: Sequence[RefundLine],
    *,
    clock: Clock,
) -> None:
    """R6 on the commission lines, the record both brands read. The ledger took its parts when it was reserved.

    Done when the refund is certain: these rows are append-only, a failed refund must never have touched them.
    """
    sold = {line.id: line for line in (await queries.lines_of(session, [order_id]))[order_id]}
    earned = {line.order_line_id: line for line in (await attributed(session, order_id)).lines}
    settled = await _settled_units(session, order_id)
    refunds = []
    for line in lines:
        if line.order_line_id not in earned:
            continue
        before = settled.get(line.order_line_id, 0)
        basis = [
            reversal.refunded_basis(
                earned[line.order_line_id].basis_minor,
                refunded_goods_minor=units,
                goods_minor=sold[line.order_line_id].quantity,
            )
            for units in (before, before + line.quantity)
        ]
        refunds.append(reversal.LineRefund(line.order_line_id, basis[1] - basis[0]))
    await reversal.reverse_lines(session, refund_id, refunds, clock=clock)


async def _settled_units(session: AsyncSession, order_id: OrderId) -> dict[OrderLineId, int]:
    """Units of each line in refunds that have succeeded."""
    units: dict[OrderLineId, int] = defaultdict(int)
    for row in await session.execute(_SETTLED, {"order": order_id}):
        for line in _lines_of_json(row.lines):
            units[line.order_line_id] += line.quantity
    return units


def _lines_of_json(rows: Sequence[Mapping[str, Any]]) -> list[RefundLine]:
    return [
        RefundLine(OrderLineId.parse(row["order_line_id"]), row["quantity"], row["supplier_accepts"])
        for row in rows
    ]


async def on_refund_requested(
    db: Database, event: RefundRequested, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Ask the provider. Raises ``ProviderUnavailable`` for the worker to try again under the same key."""
    async with db.reading(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": event.refund_id})).one()
    if refund.status != RefundStatus.PENDING:
        return
    try:
        answer = await payments.refund(
            charge_or_intent=refund.charge_id,
            amount_minor=refund.amount_minor,
            key=f"refund:{event.refund_id}",
            metadata={"refund": str(event.refund_id)},
        )
    except ProviderRefused as refused:
        await _fail(db, event.refund_id, provider_id=None, why=refused.message, clock=clock)
        return
    await apply_provider_refund(db, event.refund_id, answer, clock=clock)


async def refresh(db: Database, provider_refund_id: str, *, payments: PaymentGateway, clock: Clock) -> None:
    """A webhook named a refund at the provider: look it up and apply what it says now."""
    found = await payments.retrieve_refund(provider_refund_id)
    ours = found.metadata.get("refund")
    if ours is not None and ours.startswith(f"{RefundId.prefix}_"):
        await apply_provider_refund(db, RefundId.parse(ours), found, clock=clock)


async def apply_provider_refund(
    db: Database, refund_id: RefundId, answer: ProviderRefund, *, clock: Clock
) -> None:
    if answer.status == _FINAL_YES:
        await _succeed(db, refund_id, provider_id=answer.id, clock=clock)
    elif answer.status in _FINAL_NO:
        await _fail(
            db, refund_id, provider_id=answer.id, why=answer.failure_reason or answer.status, clock=clock
        )


async def _succeed(db: Database, refund_id: RefundId, *, provider_id: str, clock: Clock) -> None:
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": refund_id})).first()
        if refund is None or refund.status != RefundStatus.PENDING:
            return
        await settlement.settle_refund(session, refund_id, now=now, provider_ref=provider_id)
        order_id = OrderId.of(refund.order_id)
        await _take_back_commission(session, refund_id, order_id, _lines_of_json(refund.lines), clock=clock)
        await _end(session, refund_id, RefundStatus.SUCCEEDED, provider_id, None, now)
        values = {"id": PaymentId.of(refund.payment_id), "amount": refund.amount_minor}
        await session.execute(_PAYMENT_REFUNDED, values)
        settled = RefundSettled(
            refund_id=refund_id, order_id=order_id, amount_minor=refund.amount_minor,
            currency=refund.currency, at=now,
        )  # fmt: skip
        await outbox.record(session, settled)


async def _fail(
    db: Database, refund_id: RefundId, *, provider_id: str | None, why: str, clock: Clock
) -> None:
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": refund_id})).first()
        if refund is None or refund.status != RefundStatus.PENDING:
            return
        order_id = OrderId.of(refund.order_id)
        await settlement.void_refund(session, refund_id, now=now, provider_ref=provider_id)
        await _change_lines(session, _lines_of_json(refund.lines), sign=-1)
        await session.execute(_TAKE_ORDER, {"id": order_id, "amount": -refund.amount_minor})
        await _end(session, refund_id, RefundStatus.FAILED, provider_id, why[:LONGEST_REASON], now)
        await outbox.record(session, RefundFailed(refund_id=refund_id, order_id=order_id, at=now))


async def _end(
    session: AsyncSession,
    refund_id: RefundId,
    status: RefundStatus,
    provider_id: str | None,
    failure: str | None,
    now: datetime,
) -> None:
    values = {
        "id": refund_id, "status": status.value, "provider": provider_id, "failure": failure, "now": now,
    }  # fmt: skip
    await session.execute(_END, values)


async def sweep_refunds(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Refunds the provider never answered: look them up, and ask again under the same key if it knows none."""
    async with db.reading(SYSTEM) as session:
        before = clock.now() - _UNANSWERED_AFTER
        rows = (await session.execute(_UNANSWERED, {"before": before, "batch": _BATCH})).all()
    done = 0
    for row in rows:
        done += await _chase(db, RefundId.of(row.id), payments=payments, clock=clock)
    return done


async def _chase(db: Database, refund_id: RefundId, *, payments: PaymentGateway, clock: Clock) -> bool:
    async with db.reading(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": refund_id})).one()
    for known in await payments.find_refunds(refund.charge_id):
        if known.metadata.get("refund") == str(refund_id):
            await apply_provider_refund(db, refund_id, known, clock=clock)
            return known.status == _FINAL_YES or known.status in _FINAL_NO
    event = RefundRequested(refund_id=refund_id, order_id=OrderId.of(refund.order_id), at=clock.now())
    await on_refund_requested(db, event, payments=payments, clock=clock)
    return False


async def on_payment_came_late(
    db: Database, event: PaymentCameLate, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Paid after the hold ran out: the whole charge goes back, and the books say both."""
    answer = await payments.refund(
        charge_or_intent=event.charge_id,
        amount_minor=event.amount_minor,
        key=f"late:{event.payment_id}",
        metadata={"late_payment": str(event.payment_id)},
    )
    async with db.unit_of_work(SYSTEM) as session:
        await post_late_payment(
            session,
            charge_id=event.charge_id,
            amount=Money(event.amount_minor, event.currency),
            refund_ref=answer.id,
            captured_at=event.at,
            now=clock.now(),
        )
