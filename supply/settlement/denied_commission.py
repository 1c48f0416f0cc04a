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

from sqlalchemy import CheckConstraint, Column, Index, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import Field

from core.ids import BrandId, OrderId, OrderLineId, RefundId
from core.money import allocate_remaining, cumulative_part
from infra.db.base import Row, id_field, minor_field, table_of, utc_field
from infra.db.rows import insert_rows
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, merged
from supply.settlement import withheld
from supply.settlement.at_source.booking import settle_merchant
from supply.settlement.composition import COMMISSION_PARTS, LineState, Part, commission_due_back
from supply.settlement.disputes.thawing import thawed
from supply.settlement.errors import CommissionOnRail, OrderLineNotSettled, OrderNotSettled
from supply.settlement.ids import SplitLineId
from supply.settlement.kinds import Kind
from supply.settlement.order_book import BookLine, Cell, OrderBook, load, save
from supply.settlement.rails.recording import rail_of
from supply.settlement.taking import Share, accounts_touched, give, take
from supply.settlement.withheld import StandingRefund, Withheld

_KNOWN = text("SELECT EXISTS (SELECT FROM denied_shares WHERE reference = :reference)")
_DENIED = text(
    "SELECT * FROM denied_shares WHERE reference = :reference AND restored_at IS NULL ORDER BY line_id, seat"
)
_RESTORED = text(
    "UPDATE denied_shares d SET restored_minor = n.amount, restored_at = :now, withheld = n.withheld::jsonb"
    " FROM unnest(CAST(:lines AS uuid[]), CAST(:seats AS text[]), CAST(:amounts AS bigint[]),"
    "  CAST(:withheld AS text[])) AS n (line, seat, amount, withheld)"
    " WHERE d.reference = :reference AND d.line_id = n.line AND d.seat = n.seat"
)


class DeniedShare(Row, table=True):
    """What a denial took of one share; the merchant's figures are those of its part right after it."""

    __tablename__ = "denied_shares"
    __table_args__ = (
        CheckConstraint("amount_minor >= 0 AND restored_minor BETWEEN 0 AND amount_minor", name="amounts"),
        Index("ix_denied_shares_order_line_id", "order_line_id"),
        Index("ix_denied_shares_order_id", "order_id"),
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
    withheld: list[Any] = Field(sa_column=Column(JSONB, nullable=False, server_default=text("'[]'::jsonb")))
    """When it was undone, what stayed with the merchant for refunds since (withheld.py)."""
    restored_at: datetime | None = utc_field(default=None, nullable=True)


@dataclass(frozen=True, slots=True)
class MovedShare:
    """Minor units of one payee's share that moved; ``payee_id`` is empty for the platform.

    Of a denial undone, ``withheld`` is what refunds since it would have taken: it stays with the merchant as long as
    the refund stands. What stays for nothing that can come back is in ``withheld_minor`` alone.
    """

    part: Part
    payee_id: str
    amount_minor: int
    withheld_minor: int = 0
    withheld: tuple[tuple[RefundId, int], ...] = ()


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
    ``OrderNotSettled``, ``OrderLineNotSettled``, ``CommissionOnRail``.
    """
    book = await _book_of(session, order_id)
    lines = book.goods_of(order_line_id)
    if not lines:
        raise OrderLineNotSettled(order_line_id)
    if (await session.execute(_KNOWN, {"reference": reference})).scalar_one():
        return []
    async with thawed(session, book, now=now):
        return await _deny(session, book, lines, reference, amount_minor, f"{reason} ({approved_by})", now)


async def _deny(
    session: AsyncSession,
    book: OrderBook,
    lines: Sequence[BookLine],
    reference: str,
    amount_minor: int | None,
    memo: str,
    now: datetime,
) -> list[MovedShare]:
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
    journal = Journal(
        f"deny:{reference}", Kind.COMMISSION_DENIED, merged(legs), now, book.order_id, memo=memo
    )
    await ledger.post(session, journal, now=now)
    return [MovedShare(share.cell.part, share.cell.payee_id, share.amount_minor) for _, share in shares]


async def _book_of(session: AsyncSession, order_id: OrderId) -> OrderBook:
    try:
        return await load(session, order_id)
    except OrderNotSettled:
        if rail := await rail_of(session, order_id):
            raise CommissionOnRail(order_id, rail) from None
        raise


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
    async with thawed(session, book, now=now):
        return await _restore(session, book, rows, reference, f"{reason} ({approved_by})", now)


async def _restore(
    session: AsyncSession, book: OrderBook, rows: Sequence[Any], reference: str, memo: str, now: datetime
) -> list[MovedShare]:
    refunds = await withheld.standing_refunds(session, book.order_id)
    held = await ledger.hold(session, accounts_touched(book))
    back: list[_Back] = []
    legs = []
    for line_id, group in groupby(rows, attrgetter("line_id")):
        line = book.line(str(SplitLineId.of(line_id)))
        given = _given_back(line, list(group), refunds)
        back += given
        shares = [Share(each.cell, each.kept_minor) for each in given if each.kept_minor]
        legs += take(book, [Share(line.cells[Part.MERCHANT], sum(s.amount_minor for s in shares))], held)
        legs += [give(book, share) for share in shares]
    if book.at_source:
        legs = await settle_merchant(session, book, legs, held, now=now)
    await save(session, [book])
    values = {
        "reference": reference, "now": now, "lines": [each.row.line_id for each in back],
        "seats": [each.row.seat for each in back], "amounts": [each.kept_minor for each in back],
        "withheld": [withheld.written(each.withheld) for each in back],
    }  # fmt: skip
    await session.execute(_RESTORED, values)
    if moved := merged(legs):
        key = f"restore:{reference}"
        journal = Journal(key, Kind.COMMISSION_RESTORED, moved, now, book.order_id, memo=memo)
        await ledger.post(session, journal, now=now)
    # A refund that was voided while the line was denied again gives back only now.
    await withheld.come_back(session, book, now=now)
    return [each.moved for each in back]


@dataclass(frozen=True, slots=True)
class _Back:
    """A row of the denial, what its cell has back of it, and what is withheld refund by refund."""

    row: Any
    cell: Cell
    withheld: list[Withheld]

    @property
    def kept_minor(self) -> int:
        gone = sum(each.by_line_minor + each.by_amount_minor for each in self.withheld)
        return int(self.row.amount_minor) - gone

    @property
    def moved(self) -> MovedShare:
        named = tuple(
            [
                (each.refund_id, each.by_line_minor + each.by_amount_minor)
                for each in self.withheld
                if each.refund_id
            ]
        )
        left = self.row.amount_minor - self.kept_minor
        return MovedShare(self.cell.part, self.cell.payee_id, self.kept_minor, left, named)


def _given_back(line: BookLine, rows: Sequence[Any], refunds: Sequence[StandingRefund]) -> list[_Back]:
    """The denial's rows with what their cells get: all of it, less what refunds since then took of the merchant in
    their stead. Refunds of the line by R6, refunds by amount in proportion to what the merchant held.
    """
    merchant = line.cells[Part.MERCHANT]
    rows = sorted(rows, key=lambda row: _in_order(line.cells[row.seat]))
    cells = [line.cells[row.seat] for row in rows]
    for row, cell in zip(rows, cells, strict=True):
        cell.amount_minor += row.amount_minor
        merchant.amount_minor -= row.amount_minor
    whole = rows[0].merchant_held_minor
    since = min(merchant.by_amount_minor - rows[0].merchant_by_amount_minor, whole)
    amounts = {row.seat: row.amount_minor for row in rows}
    by_amount = cumulative_part(sum(amounts.values()), since, whole) if since > 0 else 0
    # What went by amount no longer counts as part of the line: R6 is of the rest.
    taken = allocate_remaining(by_amount, list(amounts.values()))
    _by_amount(merchant, cells, taken)
    state = line.state()
    assert isinstance(state, LineState)
    due = commission_due_back(state)
    by_line = sum(
        min(due.get(row.seat, 0), row.amount_minor - gone) for row, gone in zip(rows, taken, strict=True)
    )
    named = withheld.by_refund(
        line, amounts, by_line_minor=by_line, by_amount_minor=by_amount, refunds=refunds,
        denied_at=rows[0].denied_at,
    )  # fmt: skip
    _by_amount(merchant, cells, [-amount for amount in taken])
    for each in named:
        cell = line.cells[each.seat]
        cell.by_line_minor += each.by_line_minor
        merchant.by_line_minor -= each.by_line_minor
        _by_amount(merchant, [cell], [each.by_amount_minor])
    return [
        _Back(row, cell, [each for each in named if each.seat == row.seat])
        for row, cell in zip(rows, cells, strict=True)
    ]


def _by_amount(merchant: Cell, cells: Sequence[Cell], amounts: Sequence[int]) -> None:
    """What refunds by amount took of the merchant they took of these cells."""
    for cell, amount in zip(cells, amounts, strict=True):
        cell.by_amount_minor += amount
        merchant.by_amount_minor -= amount


def _commission_of(line: BookLine) -> list[Cell]:
    """A line's commission in the order of R3, one winner after another."""
    cells = [cell for cell in line.cells.values() if cell.part in COMMISSION_PARTS and cell.held_minor > 0]
    return sorted(cells, key=_in_order)


def _in_order(cell: Cell) -> tuple[int, int]:
    return cell.winner, COMMISSION_PARTS.index(cell.part)


def _row(book: OrderBook, reference: str, line: BookLine, share: Share, *, now: datetime) -> dict[str, Any]:
    merchant = line.cells[Part.MERCHANT]
    return {
        "reference": reference, "line_id": line.id, "seat": share.cell.seat, "order_id": book.order_id,
        "order_line_id": line.order_line_id, "merchant_id": book.merchant_id,
        "amount_minor": share.amount_minor, "merchant_held_minor": max(merchant.held_minor, 0),
        "merchant_by_amount_minor": merchant.by_amount_minor, "denied_at": now,
    }  # fmt: skip
