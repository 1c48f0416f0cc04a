"""R5 to R7: a refund is reserved from the parties, then settled or voided by what the provider says.

Composition (who gives back what) is pure and lives in composition.py; here it meets balances: what a party no
longer holds it owes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import content_hash
from core.ids import OrderId, OrderLineId, RefundId
from core.money import allocate_remaining
from infra import outbox
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit, merged
from supply.settlement import composition, withheld
from supply.settlement.composition import LineState, OrderState, RefundTooLarge, ShippingState, Taken
from supply.settlement.delivery import settle_delivery
from supply.settlement.errors import (
    NothingToRefund,
    OrderDisputed,
    OrderLineNotSettled,
    RefundChanged,
    RefundEnded,
    RefundNotFound,
)
from supply.settlement.events import RefundBooked, RefundVoided
from supply.settlement.goodwill_owed import change_goodwill, is_goodwill
from supply.settlement.kinds import Kind
from supply.settlement.models import RefundStatus
from supply.settlement.order_book import BookLine, OrderBook, load, load_many, save
from supply.settlement.parties import provider_account, refund_account
from supply.settlement.taking import Share, accounts_touched, take
from supply.settlement.undoing import (
    legs_body,
    legs_of,
    moved,
    payees_body,
    payees_of,
    positions,
    put_back,
    taken_body,
    undo,
)

_INSERT = text(
    "INSERT INTO split_refunds (refund_id, order_id, merchant_id, status, currency, amount_minor,"
    " request_hash, changes, reserved_at) VALUES (:refund_id, :order_id, :merchant_id, 'reserved', :currency,"
    " :amount_minor, :request_hash, CAST(:changes AS jsonb), :now)"
)
_FIND = text("SELECT * FROM split_refunds WHERE refund_id = :refund_id")
_LOCK = text("SELECT * FROM split_refunds WHERE refund_id = :refund_id FOR NO KEY UPDATE")
_OPEN_DISPUTE = text("SELECT id FROM disputes WHERE charge_id = :charge_id AND stage = 'open' LIMIT 1")
_END = text(
    "UPDATE split_refunds SET status = :status, ended_at = :now, provider_ref = :provider_ref"
    " WHERE refund_id = :refund_id"
)


@dataclass(frozen=True, slots=True)
class LineRefund:
    """``quantity`` units of an order line; with ``quantity`` 0, ``goods_minor`` of its value (goodwill, price
    protection). ``goods_minor`` is without tax and overrides the value of the units when given."""

    order_line_id: OrderLineId
    quantity: int
    supplier_accepts: bool = True
    goods_minor: int | None = None


@dataclass(frozen=True, slots=True)
class ShippingRefund:
    """Shipping of one order line, or of the whole order; everything that is left when no amount is given.

    ``amount_minor`` is without tax.
    """

    order_line_id: OrderLineId | None = None
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True)
class RefundPlan:
    """What to refund of one order: lines and shipping, or an amount (tax included) with no line behind it,
    or everything that is left."""

    refund_id: RefundId
    order_id: OrderId
    lines: Sequence[LineRefund] = ()
    shipping: Sequence[ShippingRefund] = ()
    amount_minor: int | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Taking:
    """A party's part of a refund. ``line_id`` is the split line; platform and tax have no payee."""

    line_id: str
    seat: str
    payee_id: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class ReservedRefund:
    """``amount_minor`` is what the customer gets back and the provider must be asked for, tax included.

    ``taken`` may be more: what the platform had given out of goodwill is repaid first. And less: a refund of
    everything brings what the customer was owed already.
    """

    refund_id: RefundId
    order_id: OrderId
    currency: str
    amount_minor: int
    charge_id: str
    taken: tuple[Taking, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a customer paid for an order and has not got back; ``owed_minor`` of it is in 2100 already."""

    amount_minor: int
    owed_minor: int


async def preview_refund(session: AsyncSession, plan: RefundPlan) -> ReservedRefund:
    """What ``reserve_refund`` would take, and change nothing. Raises as it does."""
    book = await load(session, plan.order_id, lock=False)
    await refuse_disputed(session, book)
    _, taken = compose(book, plan)
    return _reserved(plan, book, taken, _repaid_goodwill(book, plan, taken))


async def reserve_refund(session: AsyncSession, plan: RefundPlan, *, now: datetime) -> ReservedRefund:
    """R5a, R6, R6a, R6b, R7: take the refund from the parties into 2100, before the provider is asked.

    The same plan under the same id again returns the first answer. Raises ``OrderNotSettled``,
    ``OrderLineNotSettled``, ``RefundTooLarge``, ``NothingToRefund``, ``RefundChanged``, ``OrderDisputed``.
    """
    book = await load(session, plan.order_id)
    digest = content_hash(_plain(plan))
    known = (await session.execute(_FIND, {"refund_id": plan.refund_id})).one_or_none()
    if known is not None:
        if known.request_hash != digest:
            raise RefundChanged(plan.refund_id)
        return _stored(known, book)
    await refuse_disputed(session, book)
    state, taken = compose(book, plan)
    repaid = _repaid_goodwill(book, plan, taken)
    given = sum(each.amount_minor for each in taken)
    amount = given - repaid
    if amount <= 0:
        raise NothingToRefund(f"nothing of {plan.order_id} is left to refund")
    customer = refund_account(plan.refund_id, book.currency)
    held = await ledger.hold(session, [*accounts_touched(book), customer])
    before = positions(book)
    book.take_over(state)
    shares = take(book, shares_of(book, taken), held)
    legs = merged([*shares, credit(customer, amount), *change_goodwill(book, -repaid)])
    book.refunded_minor += given
    settle_delivery(book, now)
    cells = moved(before, positions(book))
    changes = {
        "legs": legs_body(legs),
        "cells": cells,
        "payees": payees_body(book, cells),
        "taken": taken_body(taken),
        "given": given,
    }
    await session.execute(
        _INSERT,
        {
            "refund_id": plan.refund_id, "order_id": plan.order_id, "merchant_id": book.merchant_id,
            "currency": book.currency, "amount_minor": amount, "request_hash": digest,
            "changes": orjson.dumps(changes).decode(), "now": now,
        },
    )  # fmt: skip
    await save(session, [book])
    key = f"refund:{plan.refund_id}:reserve"
    await ledger.post(session, Journal(key, Kind.REFUND_RESERVED, legs, now, plan.order_id), now=now)
    return _reserved(plan, book, taken, repaid)


async def settle_refund(
    session: AsyncSession, refund_id: RefundId, *, now: datetime, provider_ref: str | None = None
) -> None:
    """R5b: the money has left our balance at the provider. Again: nothing happens.

    Raises ``RefundNotFound``, ``RefundEnded``.
    """
    row = await _open_refund(session, refund_id, RefundStatus.SETTLED)
    if row is None:
        return
    order = await load(session, OrderId.of(row.order_id), lock=False)
    legs = (
        debit(refund_account(refund_id, row.currency), row.amount_minor),
        credit(provider_account(Code.PROVIDER_AVAILABLE, order.provider, row.currency), row.amount_minor),
    )
    key = f"refund:{refund_id}:settle"
    journal = Journal(key, Kind.REFUND_SETTLED, legs, now, order.order_id, provider_ref)
    await ledger.post(session, journal, now=now)
    await _end(session, refund_id, RefundStatus.SETTLED, now, provider_ref)
    await outbox.record(session, RefundBooked(refund_id, order.order_id, row.amount_minor, row.currency, now))


async def void_refund(
    session: AsyncSession, refund_id: RefundId, *, now: datetime, provider_ref: str | None = None
) -> None:
    """R5c: the provider could not pay it; everybody gets back what the reservation took.

    One that was settled may still come back from the bank: the money is at the provider again then, not in
    2100. What a party owed for it and has paid off since comes back as available, and what the platform gave and
    was repaid since the customer is owed. Again: nothing happens.
    Raises ``RefundNotFound``.
    """
    found = (await session.execute(_FIND, {"refund_id": refund_id})).one_or_none()
    if found is None:
        raise RefundNotFound(refund_id)
    book = await load(session, OrderId.of(found.order_id))
    row = (await session.execute(_LOCK, {"refund_id": refund_id})).one()
    if row.status == RefundStatus.VOIDED:
        return
    reserved = [leg for leg in legs_of(row.changes["legs"], book) if not is_goodwill(book, leg)]
    held = await ledger.hold(session, [*accounts_touched(book), *(leg.account for leg in reserved)])
    payees = payees_of(row.changes["payees"])
    legs = undo(book, reserved, put_back(book, row.changes["cells"], payees), held)
    if row.status == RefundStatus.SETTLED:
        customer = refund_account(refund_id, book.currency)
        provider = provider_account(Code.PROVIDER_AVAILABLE, book.provider, book.currency)
        legs += [credit(customer, row.amount_minor), debit(provider, row.amount_minor)]
    given = row.changes["given"]
    legs += change_goodwill(book, given - row.amount_minor)
    book.refunded_minor -= given
    await save(session, [book])
    key = f"refund:{refund_id}:void"
    kind = Kind.REFUND_VOIDED if given else Kind.GOODWILL_VOIDED
    journal = Journal(key, kind, merged(legs), now, book.order_id, provider_ref)
    await ledger.post(session, journal, now=now)
    await _end(session, refund_id, RefundStatus.VOIDED, now, provider_ref)
    await withheld.come_back(session, book, now=now)
    await outbox.record(session, RefundVoided(refund_id, book.order_id, now))


def _repaid_goodwill(book: OrderBook, plan: RefundPlan, taken: Iterable[Taken]) -> int:
    """How much of what the parties give back the customer has already got from the platform. Below zero, how much
    more than that it gets: all that is left is also what it was owed."""
    beyond = sum(each.amount_minor for each in taken) - book.customer_keeps_minor
    return beyond if plan.everything else max(beyond, 0)


async def kept_by_customers(session: AsyncSession, order_ids: Sequence[OrderId]) -> dict[OrderId, Kept]:
    """What customers paid and have not got back, by order; locks the orders. Unsplit ones are out."""
    return {
        book.order_id: Kept(book.customer_keeps_minor, book.owed_to_customer_minor)
        for book in await load_many(session, order_ids)
    }


async def refuse_disputed(session: AsyncSession, book: OrderBook) -> None:
    """Raises ``OrderDisputed`` while a bank holds money of the order's charge."""
    dispute_id = (await session.execute(_OPEN_DISPUTE, {"charge_id": book.charge_id})).scalar_one_or_none()
    if dispute_id is not None:
        raise OrderDisputed(book.order_id, dispute_id)


def compose(book: OrderBook, plan: RefundPlan) -> tuple[OrderState, list[Taken]]:
    """The order's state after the refund, and every cell's part of it."""
    before = state = book.state
    if plan.everything:
        return difference(before, composition.refund_rest(state).order)
    for line in plan.lines:
        state = _refund_line(book, state, line)
    for shipping in plan.shipping:
        state = _refund_shipping(book, state, shipping)
    if plan.amount_minor is not None:
        state = composition.refund_amount(state, plan.amount_minor).order
    return difference(before, state)


def _refund_line(book: OrderBook, state: OrderState, refund: LineRefund) -> OrderState:
    """Over the suppliers of the line in their order: the first with units left gives them back first."""
    goods = book.goods_of(refund.order_line_id)
    if not goods:
        raise OrderLineNotSettled(refund.order_line_id)
    room = {str(line.id): _units_left(state, line) for line in goods}
    if refund.quantity > sum(room.values()):
        raise RefundTooLarge(refund.quantity, sum(room.values()))
    if refund.quantity == 0 or len(goods) == 1:
        line = goods[0] if refund.quantity else max(goods, key=lambda each: _value_left(state, each))
        return composition.refund_line(
            state, str(line.id), quantity=refund.quantity, supplier_accepts=refund.supplier_accepts,
            goods_minor=refund.goods_minor,
        ).order  # fmt: skip
    counts, left = [], refund.quantity
    for units in room.values():
        counts.append(min(units, left))
        left -= counts[-1]
    values: Sequence[int | None] = [None] * len(counts)
    if refund.goods_minor is not None:
        values = allocate_remaining(refund.goods_minor, [refund.goods_minor * count for count in counts])
    for line_id, count, value in zip(room, counts, values, strict=True):
        if count:
            state = composition.refund_line(
                state, line_id, quantity=count, supplier_accepts=refund.supplier_accepts, goods_minor=value
            ).order
    return state


def _units_left(state: OrderState, line: BookLine) -> int:
    found = next(each for each in state.lines if each.sale.line_id == str(line.id))
    return found.sale.quantity - found.returned.quantity


def _value_left(state: OrderState, line: BookLine) -> int:
    found = next(each for each in state.lines if each.sale.line_id == str(line.id))
    return found.sale.goods_minor - found.returned.by_quantity_minor - found.returned.by_value_minor


def _refund_shipping(book: OrderBook, state: OrderState, refund: ShippingRefund) -> OrderState:
    charges = book.shipping_of(refund.order_line_id)
    if not charges and refund.order_line_id is not None and not book.goods_of(refund.order_line_id):
        raise OrderLineNotSettled(refund.order_line_id)
    left = {str(line.id): _shipping_left(state, line) for line in charges}
    amount = sum(left.values()) if refund.amount_minor is None else refund.amount_minor
    if amount > sum(left.values()):
        raise RefundTooLarge(amount, sum(left.values()))
    shares = allocate_remaining(amount, list(left.values()))
    for line_id, share in zip(left, shares, strict=True):
        state = composition.refund_shipping(state, line_id, amount_minor=share).order
    return state


def _shipping_left(state: OrderState, line: BookLine) -> int:
    found = next(each for each in state.shipping if each.sale.shipping_id == str(line.id))
    by_amount = sum(n for part, n in found.returned.by_amount.items() if part is not composition.Part.TAX)
    return max(found.sale.charged_minor - by_amount - found.returned.by_value_minor, 0)


def difference(before: OrderState, after: OrderState) -> tuple[OrderState, list[Taken]]:
    """``after``, and what each cell gives on the way there; below zero, what it gets back."""
    taken = []
    pairs: Iterable[tuple[LineState | ShippingState, LineState | ShippingState]] = zip(
        (*before.lines, *before.shipping), (*after.lines, *after.shipping), strict=True
    )
    for was, now in pairs:
        left = composition.held_parts(now)
        line_id = was.sale.line_id if isinstance(was, LineState) else was.sale.shipping_id
        for seat, amount in composition.held_parts(was).items():
            if amount != left[seat]:
                taken.append(Taken(line_id, seat, was.sale.payee(seat), amount - left[seat]))
    return after, taken


def shares_of(book: OrderBook, taken: Iterable[Taken]) -> list[Share]:
    return [Share(book.line(each.source_id).cells[each.seat], each.amount_minor) for each in taken]


def _plain(plan: RefundPlan) -> dict[str, Any]:
    body = asdict(plan)
    body["lines"], body["shipping"] = list(body["lines"]), list(body["shipping"])
    return body


def _reserved(plan: RefundPlan, book: OrderBook, taken: Sequence[Taken], repaid_minor: int) -> ReservedRefund:
    takings = tuple(Taking(t.source_id, str(t.seat), t.payee.party_id, t.amount_minor) for t in taken)
    amount = sum(taking.amount_minor for taking in takings) - repaid_minor
    return ReservedRefund(plan.refund_id, plan.order_id, book.currency, amount, book.charge_id, takings)


def _stored(row: Any, book: OrderBook) -> ReservedRefund:
    takings = tuple(Taking(*each) for each in row.changes["taken"])
    return ReservedRefund(
        RefundId.of(row.refund_id), book.order_id, row.currency, row.amount_minor, book.charge_id, takings
    )


async def _open_refund(session: AsyncSession, refund_id: RefundId, wanted: RefundStatus) -> Any:
    """The reserved refund under its lock; None when it has ended as wanted already."""
    row = (await session.execute(_LOCK, {"refund_id": refund_id})).one_or_none()
    if row is None:
        raise RefundNotFound(refund_id)
    if row.status == wanted:
        return None
    if row.status != RefundStatus.RESERVED:
        raise RefundEnded(refund_id, row.status)
    return row


async def _end(
    session: AsyncSession, refund_id: RefundId, status: RefundStatus, now: datetime, provider_ref: str | None
) -> None:
    where = {"refund_id": refund_id, "status": status.value, "now": now, "provider_ref": provider_ref}
    await session.execute(_END, where)
