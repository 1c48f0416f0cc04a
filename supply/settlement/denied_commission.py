"""A commission that was not earned (fraud, self-promotion found later) goes back to the merchant that would pay it.

All of it or a part, only before it was paid; what refunds took of it before stays taken. The line's basis stands, so
that later refunds find nothing of it to take. A denial has a reference under which it can be undone: every share
comes back to the unit, less what refunds since then would have taken of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from core.ids import BrandId, OrderId, OrderLineId
from core.money import allocate_remaining, cumulative_part
from infra.db.base import Row, id_field, minor_field, table_of, utc_field
from infra.db.rows import insert_rows
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, merged
from supply.settlement.at_source.booking import settle_merchant
from supply.settlement.composition import LineState, Part, commission_due_back
from supply.settlement.errors import OrderLineNotSettled
from supply.settlement.ids import SplitLineId
from supply.settlement.kinds import Kind
from supply.settlement.order_book import BookLine, Cell, OrderBook, load, save
from supply.settlement.taking import Share, accounts_touched, give, take

_IN_ORDER = (Part.INDIVIDUAL, Part.PROMOTER_BRAND, Part.PLATFORM_COMMISSION)  # of R3
_KNOWN = text("SELECT EXISTS (SELECT FROM denied_shares WHERE reference = :reference)")
_DENIED = text(
    "SELECT * FROM denied_shares WHERE reference = :reference AND restored_at IS NULL ORDER BY line_id, seat"
)
_RESTORED = text(
    "UPDATE denied_shares d SET restored_minor = n.amount, restored_at = :now"
    " FROM unnest(CAST(:lines AS uuid[]), CAST(:seats AS text[]), CAST(:amounts AS bigint[])) AS n (line, seat, amount)"
    " WHERE d.reference = :reference AND d.line_id = n.line AND d.seat = n.seat"
)


class DeniedShare(Row, table=True):
    """What a denial took of one share; the merchant's figures are those of its part right after it."""

    __tablename__ = "denied_shares"
    __table_args__ = (
        CheckConstraint("amount_minor >= 0 AND restored_minor BETWEEN 0 AND amount_minor", name="amounts"),
        Index("ix_denied_shares_order_line_id", "order_line_id"),
    )

    reference: str = Field(primary_key=True)
    line_id: SplitLineId = id_field(SplitLineId, primary_key=True)
    seat: str = Field(primary_key=True)
    order_id: OrderId = id_field(OrderId)
    order_line_id: OrderLineId = id_field(OrderLineId)
    merchant_id: BrandId = id_field(BrandId)
    amount_minor: int = minor_field()
    merchant_held_minor: int = minor_field()
    merchant_by_amount_minor: int = minor_field()
    denied_at: datetime = utc_field()
    restored_minor: int | None = minor_field(default=None, nullable=True)
    restored_at: datetime | None = utc_field(default=None, nullable=True)


@dataclass(frozen=True, slots=True)
class MovedShare:
    """Minor units of one payee's share that moved; ``payee_id`` is empty for the platform.

    Of a denial undone, ``withheld_minor`` is what refunds since it would have taken and stays with the merchant.
    """

    part: Part
    payee_id: str
    amount_minor: int
    withheld_minor: int = 0


async def deny_commission(
    session: AsyncSession,
    order_id: OrderId,
    order_line_id: OrderLineId,
    *,
    reference: str,
    reason: str,
    approved_by: str,
    now: datetime,
    amount_minor: int | None = None,
) -> list[MovedShare]:
    """Take a line's commission back, or ``amount_minor`` of it as a refund would; what that took of whom.

    Again with the same reference: nothing. A payee that has been paid owes its share (1100). Raises
    ``OrderNotSettled``, ``OrderLineNotSettled``.
    """
    book = await load(session, order_id)
    lines = book.goods_of(order_line_id)
    if not lines:
        raise OrderLineNotSettled(order_line_id)
    if (await session.execute(_KNOWN, {"reference": reference})).scalar_one():
        return []
    held = await ledger.hold(session, accounts_touched(book))
    cells = [(line, cell) for line in lines for cell in _commission_of(line)]
    holding = [cell.held_minor for _, cell in cells]
    wanted = sum(holding) if amount_minor is None else min(amount_minor, sum(holding))
    shares = [
        (line, Share(cell, amount))
        for (line, cell), amount in zip(cells, allocate_remaining(wanted, holding), strict=True)
        if amount
    ]
    if not shares:
        return []
    legs = take(book, [share for _, share in shares], held)
    for line, share in shares:
        merchant = line.cells[Part.MERCHANT]
        share.cell.amount_minor -= share.amount_minor
        merchant.amount_minor += share.amount_minor
        legs.append(give(book, Share(merchant, share.amount_minor)))
    if book.at_source:
        legs = await settle_merchant(session, book, legs, held, now=now)
    await save(session, [book])
    await insert_rows(
        session, table_of(DeniedShare), [_row(book, reference, *each, now=now) for each in shares]
    )
    memo = f"{reason} ({approved_by})"
    journal = Journal(f"deny:{reference}", Kind.COMMISSION_DENIED, merged(legs), now, order_id, memo=memo)
    await ledger.post(session, journal, now=now)
    return [MovedShare(share.cell.part, share.cell.payee_id, share.amount_minor) for _, share in shares]


async def restore_commission(
    session: AsyncSession,
    order_id: OrderId,
    reference: str,
    *,
    reason: str,
    approved_by: str,
    now: datetime,
) -> list[MovedShare]:
    """Undo the denial ``reference``: what each payee has back. Again, or for one that never was: nothing.

    The merchant gives it out of what it holds, the rest it owes (1100). It waits for its release as before.
    """
    book = await load(session, order_id)
    rows = (await session.execute(_DENIED, {"reference": reference})).all()
    if not rows:
        return []
    held = await ledger.hold(session, accounts_touched(book))
    back: list[tuple[Any, Cell, int]] = []
    legs = []
    for line_id, group in groupby(rows, attrgetter("line_id")):
        line = book.line(str(SplitLineId.of(line_id)))
        given = _given_back(line, list(group))
        back += given
        shares = [Share(cell, amount) for _, cell, amount in given if amount]
        legs += take(book, [Share(line.cells[Part.MERCHANT], sum(s.amount_minor for s in shares))], held)
        legs += [give(book, share) for share in shares]
    if book.at_source:
        legs = await settle_merchant(session, book, legs, held, now=now)
    await save(session, [book])
    values = {
        "reference": reference, "now": now, "lines": [row.line_id for row, _, _ in back],
        "seats": [row.seat for row, _, _ in back], "amounts": [amount for _, _, amount in back],
    }  # fmt: skip
    await session.execute(_RESTORED, values)
    if moved := merged(legs):
        memo = f"{reason} ({approved_by})"
        journal = Journal(f"restore:{reference}", Kind.COMMISSION_RESTORED, moved, now, order_id, memo=memo)
        await ledger.post(session, journal, now=now)
    return [MovedShare(cell.part, cell.payee_id, kept, row.amount_minor - kept) for row, cell, kept in back]


def _given_back(line: BookLine, rows: Sequence[Any]) -> list[tuple[Any, Cell, int]]:
    """The denial's rows with what their cells get: all of it, less what refunds since then took of the merchant in
    their stead. Refunds of the line by R6, refunds by amount in proportion to what the merchant held.
    """
    merchant = line.cells[Part.MERCHANT]
    cells = [line.cells[row.seat] for row in rows]
    for row, cell in zip(rows, cells, strict=True):
        cell.amount_minor += row.amount_minor
        merchant.amount_minor -= row.amount_minor
    state = line.state()
    assert isinstance(state, LineState)
    due = commission_due_back(state)
    by_line = [min(due.get(row.seat, 0), row.amount_minor) for row in rows]
    left = [row.amount_minor - taken for row, taken in zip(rows, by_line, strict=True)]
    whole = rows[0].merchant_held_minor
    since = min(merchant.by_amount_minor - rows[0].merchant_by_amount_minor, whole)
    by_amount = allocate_remaining(cumulative_part(sum(left), since, whole) if since > 0 else 0, left)
    for cell, line_part, amount_part in zip(cells, by_line, by_amount, strict=True):
        cell.by_line_minor += line_part
        cell.by_amount_minor += amount_part
        merchant.by_line_minor -= line_part
        merchant.by_amount_minor -= amount_part
    kept = [each - gone for each, gone in zip(left, by_amount, strict=True)]
    return list(zip(rows, cells, kept, strict=True))


def _commission_of(line: BookLine) -> list[Cell]:
    """A line's commission in the order of R3, one winner after another."""
    cells = [cell for cell in line.cells.values() if cell.part in _IN_ORDER and cell.held_minor > 0]
    return sorted(cells, key=lambda cell: (cell.winner, _IN_ORDER.index(cell.part)))


def _row(book: OrderBook, reference: str, line: BookLine, share: Share, *, now: datetime) -> dict[str, Any]:
    merchant = line.cells[Part.MERCHANT]
    return {
        "reference": reference, "line_id": line.id, "seat": share.cell.seat, "order_id": book.order_id,
        "order_line_id": line.order_line_id, "merchant_id": book.merchant_id,
        "amount_minor": share.amount_minor, "merchant_held_minor": max(merchant.held_minor, 0),
        "merchant_by_amount_minor": merchant.by_amount_minor, "denied_at": now,
    }  # fmt: skip
