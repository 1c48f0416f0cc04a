"""What a denial that was undone kept from its payees, because refunds had gone out in the meantime: refund by refund.

Until the denial is undone the merchant gives back in the payees' stead. From then on each refund is theirs as if the
commission had never been denied, so that one that fails afterwards comes back to them and not to the merchant. A
dispute that was lost is a refund by amount here, and one that is won after that failed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import OrderId, RefundId
from core.money import allocate_minor, allocate_remaining, cumulative_part
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, Leg, merged
from supply.settlement.composition import COMMISSION_PARTS, Part, part_of
from supply.settlement.ids import SplitLineId
from supply.settlement.kinds import Kind
from supply.settlement.order_book import BookLine, OrderBook, save
from supply.settlement.taken_commission import named_for
from supply.settlement.taking import Held, Share, accounts_touched, give, take

_STANDING = text(
    "SELECT refund_id, NULL AS dispute_id, changes -> 'cells' AS cells, reserved_at AS at FROM split_refunds"
    " WHERE order_id = :order_id AND status <> 'voided'"
    " UNION ALL SELECT NULL, o.dispute_id, o.lost -> 'cells', d.ended_at FROM dispute_orders o"
    " JOIN disputes d ON d.id = o.dispute_id AND d.stage = 'lost' WHERE o.order_id = :order_id AND o.lost IS NOT NULL"
    " ORDER BY at DESC, refund_id DESC, dispute_id DESC"
)
# Of a line that was denied again nothing comes back before that is undone too.
_OF_ORDER = text(
    "SELECT d.reference, d.line_id, d.seat, d.withheld FROM denied_shares d WHERE d.order_id = :order_id"
    " AND d.withheld <> '[]' AND NOT EXISTS (SELECT FROM denied_shares again WHERE again.line_id = d.line_id"
    "  AND again.restored_at IS NULL) ORDER BY d.reference, d.line_id, d.seat"
)
_VOIDED = text(
    "SELECT refund_id, NULL AS dispute_id FROM split_refunds WHERE order_id = :order_id AND status = 'voided'"
    " UNION ALL SELECT NULL, o.dispute_id FROM dispute_orders o JOIN disputes d ON d.id = o.dispute_id"
    " AND d.stage = 'won' WHERE o.order_id = :order_id AND o.lost IS NOT NULL"
)
_LEFT = text(
    "UPDATE denied_shares d SET withheld = n.withheld::jsonb FROM unnest(CAST(:references AS text[]),"
    " CAST(:lines AS uuid[]), CAST(:seats AS text[]), CAST(:left AS text[])) AS n (reference, line, seat, withheld)"
    " WHERE d.reference = n.reference AND d.line_id = n.line AND d.seat = n.seat"
)


@dataclass(frozen=True, slots=True)
class StandingRefund:
    """A refund that was not voided, or a dispute that was lost, and what it changed in the book: ``[line id, seat or
    "", four differences]``."""

    refund_id: RefundId
    at: datetime
    cells: Sequence[Sequence[Any]]

    def of(self, line: BookLine, seat: str) -> Sequence[int]:
        """What it changed of the line (units, accepted units, value by units, value alone), or of one of its cells (by
        line, by amount, pending, released)."""
        return next(
            (each[2:] for each in self.cells if each[0] == str(line.id) and each[1] == seat), (0,) * 4
        )

    def commission_of(self, line: BookLine) -> int:
        """What the payees of the commission gave themselves."""
        mine = [each for each in self.cells if each[0] == str(line.id) and each[1]]
        return sum(each[2] for each in mine if part_of(each[1]) in COMMISSION_PARTS)


@dataclass(frozen=True, slots=True)
class Withheld:
    """Minor units of one payee's share that a refund took of the merchant in its stead; of none that is known where
    another supplier took a part of the line over."""

    refund_id: RefundId | None
    seat: str
    by_line_minor: int
    by_amount_minor: int


async def standing_refunds(session: AsyncSession, order_id: OrderId) -> list[StandingRefund]:
    """Latest first."""
    rows = await session.execute(_STANDING, {"order_id": order_id})
    return [StandingRefund(_name_of(row, order_id), row.at, row.cells) for row in rows]


def _name_of(row: Any, order_id: OrderId) -> RefundId:
    return named_for(row.dispute_id, order_id) if row.dispute_id else RefundId.of(row.refund_id)


def by_refund(
    line: BookLine,
    amounts: Mapping[str, int],
    *,
    by_line_minor: int,
    by_amount_minor: int,
    refunds: Sequence[StandingRefund],
    denied_at: datetime,
) -> list[Withheld]:
    """Who is without how much of what a denial took (``amounts`` by seat), one refund after another as R6 would have.

    ``line`` is as the denial's undoing found it, with all of its commission back in its cells, and what refunds by
    amount took of it marked there.
    """
    slices = _slices(line, by_line_minor, refunds)
    shares = _by_amount(line, by_amount_minor, refunds, denied_at)
    left = dict(amounts)
    found: list[Withheld] = []
    nobodys = None, by_line_minor - sum(slices), by_amount_minor - sum(shares)
    ids = [refund.refund_id for refund in refunds]
    oldest_first = reversed([*zip(ids, slices, shares, strict=True), nobodys])
    for refund_id, of_line, of_amount in oldest_first:
        lines, more = _taken_from(left, of_line), _taken_from(left, of_amount)
        found += [
            Withheld(refund_id, seat, lines[seat], more[seat])
            for seat in amounts
            if lines[seat] or more[seat]
        ]
    return found


def _slices(line: BookLine, total: int, refunds: Sequence[StandingRefund]) -> list[int]:
    """R6 backwards: of each refund by units or value, its slice of the commission less what the payees gave."""
    commission = sum(
        cell.amount_minor - cell.by_amount_minor
        for cell in line.cells.values()
        if cell.part in COMMISSION_PARTS
    )
    amounts = sum(cell.by_amount_minor for cell in line.cells.values() if cell.part is not Part.TAX)
    standing = max(line.charged_minor - amounts, 0)
    done = line.by_quantity_minor + line.by_value_minor
    found = []
    for refund in refunds:
        _, _, by_quantity, by_value = refund.of(line, "")
        before = done - by_quantity - by_value
        gone = [cumulative_part(line.basis_minor, min(each, standing), standing) for each in (before, done)]
        due = [cumulative_part(commission, each, line.basis_minor) for each in gone]
        found.append(min(max(due[1] - due[0] - refund.commission_of(line), 0), total))
        total -= found[-1]
        done = before
    return found


def _by_amount(
    line: BookLine, total: int, refunds: Sequence[StandingRefund], denied_at: datetime
) -> list[int]:
    """What refunds since the denial took of the merchant by amount, in proportion."""
    given = [max(refund.of(line, Part.MERCHANT)[1], 0) if refund.at >= denied_at else 0 for refund in refunds]
    return allocate_minor(total if any(given) else 0, given)


def _taken_from(left: dict[str, int], amount: int) -> dict[str, int]:
    parts = dict(
        zip(left, allocate_remaining(min(amount, sum(left.values())), list(left.values())), strict=True)
    )
    for seat, part in parts.items():
        left[seat] -= part
    return parts


def written(withheld: Iterable[Withheld]) -> str:
    """For the row of one seat: ``[refund id, by line, by amount]``."""
    named = [each for each in withheld if each.refund_id is not None]
    return orjson.dumps([[str(e.refund_id), e.by_line_minor, e.by_amount_minor] for e in named]).decode()


async def come_back(
    session: AsyncSession, book: OrderBook, *, now: datetime, won: RefundId | None = None
) -> None:
    """Of refunds of this order that were voided, disputes that were won after all, and the one that is being ``won``:
    what they withheld goes from the merchant to whose share it was.

    It waits for its release. Again: nothing.
    """
    order_id = {"order_id": book.order_id}
    rows = (await session.execute(_OF_ORDER, order_id)).all()
    if not rows:
        return
    voided = {str(_name_of(row, book.order_id)) for row in await session.execute(_VOIDED, order_id)}
    voided |= {str(won)} if won else set()
    back = [row for row in rows if any(refund in voided for refund, *_ in row.withheld)]
    held = await ledger.hold(session, accounts_touched(book))
    legs: list[Leg] = []
    for row in back:
        line = book.line(str(SplitLineId.of(row.line_id)))
        of_row = [entry for entry in row.withheld if entry[0] in voided]
        legs += _moved(book, line, row.seat, sum(e[1] for e in of_row), sum(e[2] for e in of_row), held)
    await _note(session, back, voided)
    await save(session, [book])
    if moved := merged(legs):
        first = next(entry[0] for entry in back[0].withheld if entry[0] in voided)
        key = f"restore:{back[0].reference}:{first}:{SplitLineId.of(back[0].line_id)}:{back[0].seat}"
        await ledger.post(session, Journal(key, Kind.COMMISSION_RESTORED, moved, now, book.order_id), now=now)


def _moved(
    book: OrderBook, line: BookLine, seat: str, by_line_minor: int, by_amount_minor: int, held: Held
) -> list[Leg]:
    merchant, cell = line.cells[Part.MERCHANT], line.cells[seat]
    cell.by_line_minor -= by_line_minor
    merchant.by_line_minor += by_line_minor
    cell.by_amount_minor -= by_amount_minor
    merchant.by_amount_minor += by_amount_minor
    amount = by_line_minor + by_amount_minor
    return [*take(book, [Share(merchant, amount)], held), give(book, Share(cell, amount))]


async def _note(session: AsyncSession, rows: Sequence[Any], voided: set[str]) -> None:
    """What came back is withheld no longer."""
    left = [[entry for entry in row.withheld if entry[0] not in voided] for row in rows]
    values = {
        "references": [row.reference for row in rows], "lines": [row.line_id for row in rows],
        "seats": [row.seat for row in rows], "left": [orjson.dumps(each).decode() for each in left],
    }  # fmt: skip
    await session.execute(_LEFT, values)
