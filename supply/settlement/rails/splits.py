"""The split of an order on a sharing rail, kept beside it: what every party's part is, and what refunds took of it.

The rail knows payees and amounts, not lines. Who bears a refund is composed here by the very rules of the other rail
(refunds.compose); what each payee was already paid, and can give back, is refunding.py's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import BrandId, OrderId, OrderLineId, SupplierId
from supply.settlement.composition import Part, Taken, part_of
from supply.settlement.ids import SplitLineId
from supply.settlement.models import LineKind
from supply.settlement.order_book import BookLine, Cell, OrderBook, platform_part
from supply.settlement.parties import PLATFORM
from supply.settlement.undoing import positions

_KEEP = text("UPDATE rail_orders SET split = CAST(:split AS jsonb) WHERE order_id = :order_id")
_OF_LINE = ("returned_quantity", "accepted_quantity", "by_quantity_minor", "by_value_minor")


def split_body(book: OrderBook) -> dict[str, Any]:
    """The book as JSON: what composition needs of it."""
    return {
        "refunded_minor": book.refunded_minor,
        "lines": [
            {
                "id": str(line.id), "order_line_id": str(line.order_line_id), "kind": line.kind.value,
                "supplier_id": str(line.supplier_id), "quantity": line.quantity,
                "charged_minor": line.charged_minor, "basis_minor": line.basis_minor,
                **{name: getattr(line, name) for name in _OF_LINE},
                "cells": [
                    [c.part.value, c.winner, c.payee_id, c.amount_minor, c.by_line_minor, c.by_amount_minor]
                    for c in line.cells.values()
                ],
            }
            for line in book.lines
        ],
    }  # fmt: skip


def split_of(order: Any) -> OrderBook:
    """The book of a row of ``rail_orders``. Its cells say nothing of accounts: nothing lies in ours."""
    book = OrderBook(
        OrderId.of(order.order_id), BrandId.of(order.merchant_id), order.currency, order.rail, order.payment_id,
        "", order.paid_at, order.return_window_days, order.paid_minor,
        refunded_minor=order.split["refunded_minor"],
    )  # fmt: skip
    book.lines = [_line(body) for body in order.split["lines"]]
    return book


def _line(body: Mapping[str, Any]) -> BookLine:
    cells = [
        Cell(Part(part), payee, None, amount, by_line, by_amount, winner=winner)
        for part, winner, payee, amount, by_line, by_amount in body["cells"]
    ]
    return BookLine(
        SplitLineId.parse(body["id"]), OrderLineId.parse(body["order_line_id"]), LineKind(body["kind"]),
        SupplierId.parse(body["supplier_id"]), body["quantity"], body["charged_minor"], body["basis_minor"], 0,
        {cell.seat: cell for cell in cells}, **{name: body[name] for name in _OF_LINE},
    )  # fmt: skip


def borne(merchant: str, taken: Iterable[Taken]) -> dict[str, int]:
    """A refund by payee of the rail. The merchant is the seller there: tax is its own."""
    shares: dict[str, int] = {}
    for each in taken:
        payee = each.payee.party_id
        if platform_part(part_of(each.seat)):
            payee = PLATFORM
        elif part_of(each.seat) is Part.TAX:
            payee = merchant
        shares[payee] = shares.get(payee, 0) + each.amount_minor
    return {payee: amount for payee, amount in shares.items() if amount}


def give_back(book: OrderBook, changes: Iterable[Any]) -> None:
    """Undo what a refund changed (``undoing.moved``): each number less what it added."""
    now = positions(book)
    for line_id, seat, *numbers in changes:
        left = [was - number for was, number in zip(now[line_id, seat], numbers, strict=True)]
        line = book.line(line_id)
        if seat:
            line.cells[seat].by_line_minor, line.cells[seat].by_amount_minor = left[:2]
        else:
            for name, number in zip(_OF_LINE, left, strict=True):
                setattr(line, name, number)


async def keep_split(session: AsyncSession, book: OrderBook) -> None:
    """Needs the order's row locked."""
    split = orjson.dumps(split_body(book)).decode()
    await session.execute(_KEEP, {"order_id": book.order_id, "split": split})
