"""What refunds take back of commission lines (R6), on record.

``reverse_taken`` records what the ledger took, whatever kind of refund or lost dispute it was, and ``restore`` gives it
back when the money came back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import insert, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import CommissionLineId, OrderId, OrderLineId, RefundId
from core.money import allocate_remaining
from infra import outbox
from infra.db.base import table_of
from marketplace.promotion.commission import states
from marketplace.promotion.events import CommissionReversed, ReversedLine
from marketplace.promotion.models import CommissionReversal, CommissionStatus, ShareRole
from supply.settlement.refunded_goods import GoodsRefunded

_LOCK_LINES = text("SELECT FROM commission_lines WHERE order_id = ANY(:orders) ORDER BY id FOR UPDATE")
_LOCK = text(
    "SELECT id, order_line_id, basis_minor, commission_minor - denied_minor AS commission_minor,"
    " refunded_basis_minor, reversed_minor, status,"
    " counters FROM commission_lines WHERE order_line_id = ANY(:lines) ORDER BY id FOR UPDATE"
)
_SHARES = text(
    "SELECT s.commission_line_id, s.position, s.role, s.payee,"
    " s.earned_minor - s.reversed_minor - s.denied_minor AS held, r.amount_minor AS taken"
    " FROM commission_shares s LEFT JOIN commission_reversals r"
    " ON r.commission_line_id = s.commission_line_id AND r.position = s.position AND r.refund_id = :refund"
    " WHERE s.commission_line_id = ANY(:lines) ORDER BY s.commission_line_id, s.position"
)
_NEW_REVERSALS = insert(table_of(CommissionReversal))
_NOTED = text(
    "SELECT EXISTS (SELECT FROM commission_reversals WHERE refund_id = :name AND commission_line_id = :line)"
)
_TAKE = text(
    "UPDATE commission_shares s SET reversed_minor = s.reversed_minor + t.amount"
    " FROM unnest(CAST(:lines AS uuid[]), CAST(:positions AS int[]), CAST(:amounts AS bigint[]))"
    " AS t(line_id, position, amount) WHERE s.commission_line_id = t.line_id AND s.position = t.position"
)
_ADVANCE = text(
    "UPDATE commission_lines l SET refunded_basis_minor = t.refunded,"
    " reversed_minor = l.reversed_minor + t.taken, status = t.status, next_look_at = NULL"
    " FROM unnest(CAST(:lines AS uuid[]), CAST(:refunded AS bigint[]), CAST(:taken AS bigint[]),"
    " CAST(:statuses AS text[])) AS t(line_id, refunded, taken, status) WHERE l.id = t.line_id"
)


@dataclass(slots=True)
class _Line:
    id: CommissionLineId
    row: Any
    refunded: int
    shares: list[Any]
    taken: list[int]
    status: CommissionStatus


async def _shares_by_line(
    session: AsyncSession, refund_id: RefundId, line_ids: Sequence[Any]
) -> dict[CommissionLineId, list[Any]]:
    found: dict[CommissionLineId, list[Any]] = {}
    if line_ids:
        for share in await session.execute(_SHARES, {"lines": list(line_ids), "refund": refund_id}):
            found.setdefault(CommissionLineId.of(share.commission_line_id), []).append(share)
    return found


async def _store(session: AsyncSession, refund_id: RefundId, lines: Sequence[_Line], now: datetime) -> None:
    if not lines:
        return
    taken = [
        (line, share.position, amount)
        for line in lines
        for share, amount in zip(line.shares, line.taken, strict=True)
    ]
    reversals = [
        {
            "refund_id": refund_id, "commission_line_id": line.id, "position": position,
            "refunded_basis_minor": line.refunded, "amount_minor": amount, "reversed_at": now,
        }
        for line, position, amount in taken
    ]  # fmt: skip
    await session.execute(_NEW_REVERSALS, reversals)
    await session.execute(
        _TAKE,
        {
            "lines": [line.id for line, _, _ in taken], "positions": [position for _, position, _ in taken],
            "amounts": [amount for _, _, amount in taken],
        },
    )  # fmt: skip
    await _free(session, [(line.id, line.row, sum(line.taken), line.refunded) for line in lines])
    await session.execute(
        _ADVANCE,
        {
            "lines": [line.id for line in lines], "refunded": [line.refunded for line in lines],
            "taken": [sum(line.taken) for line in lines], "statuses": [line.status.value for line in lines],
        },
    )  # fmt: skip


async def _free(session: AsyncSession, lines: Iterable[tuple[CommissionLineId, Any, int, int]]) -> None:
    """What these lines counted in caps and tiers counts no longer: (line, its row before, taken, refunded basis).

    The basis of an invalid line has not counted since it was found so.
    """
    freed = [
        ReversedLine(
            line_id,
            taken,
            0 if row.status == CommissionStatus.INVALID else refunded - row.refunded_basis_minor,
        )
        for line_id, row, taken, refunded in lines
        if row.counters
    ]
    if freed:
        await outbox.record(session, CommissionReversed(tuple(freed)))


async def lock_lines(session: AsyncSession, order_ids: Sequence[OrderId]) -> None:
    """Every commission line of these orders, until the transaction ends. SYSTEM session.

    For whoever reads how much of an order is refunded and records it here: the figure is absolute, and only who holds
    the lines before reading it writes what is still true. Before split orders and ledger (orders/refunding.py).
    """
    await session.execute(_LOCK_LINES, {"orders": list(order_ids)})


@dataclass(frozen=True, slots=True)
class TakenShare:
    """What the ledger took of one payee's share of an order line. ``payee`` is empty for the platform.

    Below zero it gave that back: a refund that was told late may round an earlier one the other way.
    """

    order_line_id: OrderLineId
    role: ShareRole
    payee: str
    amount_minor: int


async def reverse_taken(
    session: AsyncSession,
    refund_id: RefundId,
    taken: Sequence[TakenShare],
    goods: Mapping[OrderLineId, GoodsRefunded],
    *,
    clock: Clock,
) -> None:
    """Record what a refund took of commissions, and how much of each line's ``goods`` has gone back with it; lines
    nobody earned from are left out. Needs a SYSTEM session, and ``lock_lines`` before ``goods`` is read.

    Once per ``refund_id``: again, nothing changes.
    """
    wanted = {share.order_line_id for share in taken} | set(goods)
    rows = (await session.execute(_LOCK, {"lines": list(wanted)})).all() if wanted else []
    shares = await _shares_by_line(session, refund_id, [row.id for row in rows])
    lines = []
    for row in rows:
        held = shares.get(CommissionLineId.of(row.id), [])
        if any(share.taken is not None for share in held):
            continue
        amounts = [0] * len(held)
        for each in taken:
            if each.order_line_id == OrderLineId.of(row.order_line_id):
                spread_over_positions(each, held, [share.held for share in held], amounts)
        line = _recorded(row, held, amounts, goods.get(OrderLineId.of(row.order_line_id)))
        if any(amounts) or line.refunded != row.refunded_basis_minor:
            lines.append(line)
    await _store(session, refund_id, lines, clock.now())


def spread_over_positions(
    taken: TakenShare, shares: Sequence[Any], room: Sequence[int], amounts: list[int]
) -> None:
    """Add to ``amounts`` over a payee's positions by the room left there; one who came through several touches has
    several. ``shares`` have role and payee."""
    mine = [
        n for n, share in enumerate(shares) if share.role == taken.role and taken.payee in ("", share.payee)
    ]
    left = [room[n] - amounts[n] for n in mine]
    if taken.amount_minor < 0:
        amounts[mine[0]] += taken.amount_minor
        return
    for n, amount in zip(mine, allocate_remaining(min(taken.amount_minor, sum(left)), left), strict=True):
        amounts[n] += amount


def _recorded(row: Any, shares: Sequence[Any], amounts: Sequence[int], goods: GoodsRefunded | None) -> _Line:
    reversed_minor = row.reversed_minor + sum(amounts)
    refunded = row.refunded_basis_minor if goods is None else goods.part_of(row.basis_minor)
    status = CommissionStatus(row.status)
    # By the amount a small commission may be gone before its goods are.
    gone = reversed_minor == row.commission_minor > 0 or refunded == row.basis_minor > 0
    if gone and status not in (CommissionStatus.PAID, CommissionStatus.INVALID):
        status = CommissionStatus.REVERSED
    line_id = CommissionLineId.of(row.id)
    return _Line(line_id, row, refunded, list(shares), list(amounts), status)


_RESTORE = text(
    "WITH back AS (INSERT INTO commission_reversals (refund_id, commission_line_id, position,"
    " refunded_basis_minor, amount_minor, reversed_at) SELECT :new, r.commission_line_id, r.position, 0,"
    " -r.amount_minor, :now FROM commission_reversals r WHERE r.refund_id = :refund"
    " RETURNING commission_line_id, position, amount_minor),"
    " shares AS (UPDATE commission_shares s SET reversed_minor = s.reversed_minor + b.amount_minor FROM back b"
    " WHERE s.commission_line_id = b.commission_line_id AND s.position = b.position)"
    " UPDATE commission_lines l SET reversed_minor = l.reversed_minor + b.amount"
    " FROM (SELECT commission_line_id, sum(amount_minor)::bigint AS amount FROM back GROUP BY 1) b"
    " WHERE l.id = b.commission_line_id RETURNING l.id, l.counters, b.amount"
)
_BASES = text(
    "SELECT id, order_line_id, basis_minor, refunded_basis_minor, status, counters FROM commission_lines"
    " WHERE order_line_id = ANY(:lines) ORDER BY id FOR UPDATE"
)
_SET_BASES = text(
    "UPDATE commission_lines l SET refunded_basis_minor = n.refunded"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:refunded AS bigint[])) AS n (id, refunded) WHERE l.id = n.id"
)
# Lines the refund took nothing of too: another may have reversed one wholly only because this one's goods counted. What
# ended with nothing to pay, in no statement, has something again.
_NO_LONGER_ENDED = text(
    "SELECT id FROM commission_lines WHERE order_line_id = ANY(:lines)"
    " AND (status = 'PAID' AND payable_at IS NULL AND id = ANY(:back)"
    "  OR status = 'REVERSED' AND NOT (basis_minor > 0 AND refunded_basis_minor = basis_minor)"
    "  AND NOT (commission_minor > denied_minor AND reversed_minor = commission_minor - denied_minor)) ORDER BY id"
)


async def note_withheld(
    session: AsyncSession,
    refund_id: RefundId,
    commission_line_id: CommissionLineId,
    amounts: Mapping[int, int],
    *,
    clock: Clock,
) -> None:
    """A denial that was undone left these amounts, by position, with the merchant, because this refund would have taken
    them: they are in ``reversed_minor`` already, and come back with the refund."""
    taken = {position: amount for position, amount in amounts.items() if amount}
    if not taken:
        return
    times = 0
    while await session.scalar(_NOTED, {"name": _withheld_by(refund_id, times), "line": commission_line_id}):
        times += 1  # another denial of the line was undone before
    rows = [
        {
            "refund_id": _withheld_by(refund_id, times), "commission_line_id": commission_line_id,
            "position": position, "refunded_basis_minor": 0, "amount_minor": amount, "reversed_at": clock.now(),
        }
        for position, amount in taken.items()
    ]  # fmt: skip
    await session.execute(_NEW_REVERSALS, rows)


def _withheld_by(refund_id: RefundId, times: int) -> RefundId:
    """The id under which is kept what a refund took in others' stead: what it took itself is told apart. The rows are
    append-only, so every denial that is undone has one of its own."""
    return RefundId.of(uuid5(NAMESPACE_URL, f"withheld:{refund_id}:{times}"))


async def restore(
    session: AsyncSession, refund_id: RefundId, goods: Mapping[OrderLineId, GoodsRefunded], *, clock: Clock
) -> None:
    """The refund's money came back: everybody has its share again, by rows that undo those of the refund. ``goods`` is
    what is refunded without it, of every line of its order.

    Call it once per refund, after ``lock_lines``. A line that was wholly reversed and is no longer, or had ended with
    nothing to pay and has something, goes on (``states.stand_again``).
    """
    restored = await _restore(session, refund_id, clock)
    for times in count():
        back = await _restore(session, _withheld_by(refund_id, times), clock)
        restored += back
        if not back:
            break
    freed: dict[CommissionLineId, tuple[int, int]] = {}
    for row in restored:
        line_id = CommissionLineId.of(row.id)
        if row.counters:
            freed[line_id] = (freed.get(line_id, (0, 0))[0] + row.amount, 0)
    for line_id, basis in (await _bases_back(session, goods)).items():
        freed[line_id] = (freed.get(line_id, (0, 0))[0], basis)
    back = [row.id for row in restored if row.amount]
    await _go_on(session, list(goods), back, clock.now())
    counted = tuple(ReversedLine(line_id, *amounts) for line_id, amounts in freed.items() if any(amounts))
    if counted:
        await outbox.record(session, CommissionReversed(counted))


async def _go_on(
    session: AsyncSession, order_line_ids: Sequence[OrderLineId], back: Sequence[Any], now: datetime
) -> None:
    where = {"lines": list(order_line_ids), "back": list(back)}
    ended = list((await session.execute(_NO_LONGER_ENDED, where)).scalars())
    if ended:
        await states.stand_again(session, [CommissionLineId.of(each) for each in ended], now=now)
    if ids := [CommissionLineId.of(each) for each in dict.fromkeys([*ended, *back])]:
        await states.expect_again(session, ids, now=now)


async def _bases_back(
    session: AsyncSession, goods: Mapping[OrderLineId, GoodsRefunded]
) -> dict[CommissionLineId, int]:
    """Set what of each line's basis is refunded; by how much that rose, of lines that count anywhere."""
    rows = (await session.execute(_BASES, {"lines": list(goods)})).all() if goods else []
    moved = {row.id: goods[OrderLineId.of(row.order_line_id)].part_of(row.basis_minor) for row in rows}
    moved = {row.id: moved[row.id] for row in rows if moved[row.id] != row.refunded_basis_minor}
    if moved:
        await session.execute(_SET_BASES, {"ids": list(moved), "refunded": list(moved.values())})
    return {
        CommissionLineId.of(row.id): moved[row.id] - row.refunded_basis_minor
        for row in rows
        if row.id in moved and row.counters and row.status != CommissionStatus.INVALID
    }


async def _restore(session: AsyncSession, refund_id: RefundId, clock: Clock) -> list[Any]:
    values = {"refund": refund_id, "new": RefundId.new(), "now": clock.now()}
    return list((await session.execute(_RESTORE, values)).all())
