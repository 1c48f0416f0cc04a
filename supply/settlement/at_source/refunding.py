"""R15b: what a brand with a checkout of its own refunded. Told in any sequence, the books come out the same.

A refund's arithmetic rounds by what was refunded before it, so the sequence matters to the unit. It is the brand's:
every refund of the order is composed again, from the split as it was, in the sequence in which they happened, and the
books move by what that differs from where they are. A refund told in its turn takes exactly what R6 says; one told late
may also move a unit from one payee to another.

What a refund asks beyond what is left of the line is not ours: the brand may give its customer as much as it likes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.canonical import content_hash
from core.ids import OrderId, OrderLineId, RefundId
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, Leg, merged
from supply.settlement import composition
from supply.settlement.at_source.booking import settle_merchant
from supply.settlement.composition import LineState, OrderState, Returned, ShippingState, Taken
from supply.settlement.kinds import Kind
from supply.settlement.order_book import OrderBook, load, save
from supply.settlement.refunds import difference, shares_of
from supply.settlement.taking import accounts_touched, take
from supply.settlement.undoing import Positions, legs_body, moved, payees_body, positions, taken_body

_KNOWN = text("SELECT EXISTS (SELECT FROM split_refunds WHERE refund_id = :refund_id)")
_INSERT = text(
    "INSERT INTO split_refunds (refund_id, order_id, merchant_id, status, currency, amount_minor, request_hash,"
    " changes, reserved_at, ended_at, provider_ref) VALUES (:refund_id, :order_id, :merchant_id, 'settled', :currency,"
    " :amount_minor, :request_hash, CAST(:changes AS jsonb), :now, :now, :reference)"
)


@dataclass(frozen=True, slots=True)
class SourceLine:
    """``quantity`` units, and ``amount_minor`` of the line's value for them or without any: what the customer got,
    tax included. Units without an amount are worth their part of what the line still stands for."""

    order_line_id: OrderLineId
    quantity: int
    amount_minor: int | None = None


@dataclass(frozen=True, slots=True)
class SourceRefund:
    """One refund as the brand tells it; ``everything``: whatever is left."""

    lines: Sequence[SourceLine] = ()
    shipping_minor: int = 0
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Refunded:
    """What one refund changed. ``units`` and ``refunded_minor`` are of the order as it stands after it."""

    amount_minor: int
    refunded_minor: int
    units: dict[OrderLineId, int]


async def refund_at_source(
    session: AsyncSession,
    refund_id: RefundId,
    order_id: OrderId,
    refunds: Sequence[SourceRefund],
    *,
    reference: str,
    now: datetime,
) -> Refunded:
    """Bring the books to where ``refunds``, all of the order in the sequence in which they happened, leave it.

    ``refund_id`` names the one that is new. Again under the same id: nothing. Raises ``OrderNotSettled``.
    """
    book = await load(session, order_id)
    if (await session.execute(_KNOWN, {"refund_id": refund_id})).scalar_one():
        return Refunded(0, book.refunded_minor, _units(book))
    held = await ledger.hold(session, accounts_touched(book))
    state, taken = difference(book.state, composed(book, refunds))
    before, given = positions(book), sum(each.amount_minor for each in taken)
    book.take_over(state)
    legs = take(book, shares_of(book, taken), held)
    book.refunded_minor += given
    journal_legs = merged(await settle_merchant(session, book, legs, held, now=now))
    await save(session, [book])
    await session.execute(
        _INSERT,
        {
            "refund_id": refund_id, "order_id": order_id, "merchant_id": book.merchant_id,
            "currency": book.currency, "amount_minor": given, "reference": reference,
            "request_hash": content_hash([asdict(each) for each in refunds]),
            "changes": _changes(book, before, taken, given, journal_legs), "now": now,
        },
    )  # fmt: skip
    if journal_legs:
        key = f"refund:{refund_id}:source"
        await ledger.post(
            session, Journal(key, Kind.REFUND_AT_SOURCE, journal_legs, now, order_id, reference), now=now
        )
    return Refunded(given, book.refunded_minor, _units(book))


def composed(book: OrderBook, refunds: Sequence[SourceRefund]) -> OrderState:
    """The order as these refunds leave it, from the split as it was before any."""
    state = _untouched(book.state)
    for refund in refunds:
        for line in refund.lines:
            state = _refund_line(book, state, line)
        state = _refund_shipping(state, refund.shipping_minor)
        if refund.everything:
            state = _refund_rest(book, state)
    return state


def _untouched(state: OrderState) -> OrderState:
    return OrderState(
        tuple([replace(line, returned=Returned()) for line in state.lines]),
        tuple([replace(charge, returned=Returned()) for charge in state.shipping]),
    )


def _refund_line(book: OrderBook, state: OrderState, asked: SourceLine) -> OrderState:
    line = _line(book, state, asked.order_line_id)
    quantity = min(asked.quantity, line.sale.quantity - line.returned.quantity)
    value = None if asked.amount_minor is None else min(asked.amount_minor, _value_left(line))
    if not quantity and not value:
        return state
    return composition.refund_line(
        state, line.sale.line_id, quantity=quantity, supplier_accepts=False, goods_minor=value
    ).order


def _refund_shipping(state: OrderState, amount_minor: int) -> OrderState:
    """Over the order's charges in their sequence."""
    for charge in state.shipping:
        part = min(amount_minor, _charge_left(charge))
        if part:
            state = composition.refund_shipping(state, charge.sale.shipping_id, amount_minor=part).order
            amount_minor -= part
    return state


def _refund_rest(book: OrderBook, state: OrderState) -> OrderState:
    for line in {each.order_line_id: None for each in book.lines if each.is_goods}:
        left = _line(book, state, line)
        units = left.sale.quantity - left.returned.quantity
        state = _refund_line(book, state, SourceLine(line, units, _value_left(left)))
    return _refund_shipping(state, sum(_charge_left(charge) for charge in state.shipping))


def _line(book: OrderBook, state: OrderState, order_line_id: OrderLineId) -> LineState:
    split_line = str(book.goods_of(order_line_id)[0].id)
    return next(line for line in state.lines if line.sale.line_id == split_line)


def _value_left(line: LineState) -> int:
    return line.sale.goods_minor - line.returned.by_quantity_minor - line.returned.by_value_minor


def _charge_left(charge: ShippingState) -> int:
    return charge.sale.charged_minor - charge.returned.by_value_minor


def _units(book: OrderBook) -> dict[OrderLineId, int]:
    return {line.order_line_id: line.returned_quantity for line in book.lines if line.is_goods}


def _changes(
    book: OrderBook, before: Positions, taken: Sequence[Taken], given: int, legs: Sequence[Leg]
) -> str:
    cells = moved(before, positions(book))
    body = {
        "legs": legs_body(legs), "cells": cells, "payees": payees_body(book, cells),
        "taken": taken_body(taken), "given": given,
    }  # fmt: skip
    return orjson.dumps(body).decode()
