"""A commission, or a part of it, that was not earned: taken back to the merchant, and given back when that was wrong.

A denial has a reference. What it took of every share is kept under it (``commission_denials``; the ledger has its own),
so that undoing it brings back exactly that, less what refunds since then would have taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import BrandId, CommissionLineId, OrderId, OrderLineId
from infra import outbox
from marketplace.promotion.commission import states
from marketplace.promotion.commission.events import CommissionInvalidated, CommissionReinstated
from marketplace.promotion.commission.reversal import TakenShare, note_withheld, spread_over_positions
from marketplace.promotion.errors import CommissionLineNotFound, CommissionNotPending
from marketplace.promotion.events import CommissionReversed, ReversedLine
from marketplace.promotion.models import CommissionStatus, ShareRole
from supply.settlement.composition import Part
from supply.settlement.denied_commission import MovedShare, deny_commission, restore_commission

_ROLES = {
    Part.INDIVIDUAL: ShareRole.INDIVIDUAL,
    Part.PROMOTER_BRAND: ShareRole.PROMOTER_BRAND,
    Part.PLATFORM_COMMISSION: ShareRole.PLATFORM,
}
_ONE = text("SELECT * FROM commission_lines WHERE id = :id FOR UPDATE")
_SHARES = text(
    "SELECT position, role, payee, earned_minor - reversed_minor - denied_minor AS held FROM commission_shares"
    " WHERE commission_line_id = :id ORDER BY position"
)
_TIMES = text(
    "SELECT count(DISTINCT reference) FROM commission_denials WHERE commission_line_id = :id"
    " AND reference LIKE 'invalid:%'"
)
_TAKE = text(
    "WITH n AS (SELECT * FROM unnest(CAST(:positions AS int[]), CAST(:amounts AS bigint[])) AS n (position, amount)),"
    " kept AS (INSERT INTO commission_denials (commission_line_id, reference, position, amount_minor, reason,"
    "  denied_by, denied_at) SELECT :id, :reference, position, amount, :reason, :by, :now FROM n),"
    " shares AS (UPDATE commission_shares s SET denied_minor = s.denied_minor + n.amount FROM n"
    "  WHERE s.commission_line_id = :id AND s.position = n.position)"
    " UPDATE commission_lines SET denied_minor = denied_minor + (SELECT coalesce(sum(amount), 0) FROM n),"
    " next_look_at = NULL WHERE id = :id"
)
_INVALID = text("UPDATE commission_lines SET status = 'INVALID', invalid_reason = :reason WHERE id = :id")
_DENIED = text(
    "SELECT d.position, d.amount_minor, s.role, s.payee FROM commission_denials d JOIN commission_shares s"
    " ON s.commission_line_id = d.commission_line_id AND s.position = d.position"
    " WHERE d.commission_line_id = :id AND d.reference = :reference AND d.restored_at IS NULL ORDER BY d.position"
)
_UNDOABLE = text(
    "SELECT reference FROM commission_denials WHERE commission_line_id = :id AND reference LIKE 'invalid:%'"
    " AND restored_at IS NULL GROUP BY reference ORDER BY max(denied_at) DESC, length(reference) DESC, reference DESC"
)
_INVALID_WITH_SHARES = text(
    "SELECT * FROM commission_lines WHERE order_id = ANY(:orders) AND status = 'INVALID'"
    " AND commission_minor > reversed_minor + denied_minor ORDER BY id FOR UPDATE"
)
_GIVE = text(
    "WITH n AS (SELECT * FROM unnest(CAST(:positions AS int[]), CAST(:amounts AS bigint[]),"
    "  CAST(:withheld AS bigint[])) AS n (position, amount, withheld)),"
    " kept AS (UPDATE commission_denials SET restored_at = :now, restored_by = :by WHERE commission_line_id = :id"
    "  AND reference = :reference),"
    " shares AS (UPDATE commission_shares s SET denied_minor = s.denied_minor - n.amount,"
    "  reversed_minor = s.reversed_minor + n.withheld FROM n"
    "  WHERE s.commission_line_id = :id AND s.position = n.position)"
    " UPDATE commission_lines SET denied_minor = :denied, reversed_minor = :reversed WHERE id = :id"
)
_PENDING = text(
    "UPDATE commission_lines SET invalid_reason = NULL, status = CASE"
    " WHEN commission_minor > 0 AND reversed_minor + denied_minor = commission_minor THEN 'REVERSED'"
    " WHEN basis_minor > 0 AND refunded_basis_minor = basis_minor THEN 'REVERSED' ELSE 'PENDING' END"
    " WHERE id = :id AND status = 'INVALID'"
)


async def invalidate(
    session: AsyncSession,
    commission_line_id: CommissionLineId,
    *,
    reason: str,
    approved_by: str,
    clock: Clock,
) -> int:
    """A pending line was not earned: the merchant gets its commission back. Minor units; again: 0.

    Raises ``CommissionNotPending`` for a line that is confirmed or further. Needs a SYSTEM session.
    """
    row = await _locked(session, commission_line_id)
    if row.status == CommissionStatus.INVALID:
        return 0
    if row.status != CommissionStatus.PENDING:
        raise CommissionNotPending(f"the line is {row.status}")
    taken = await _deny_all(session, row, reason, approved_by, clock)
    await session.execute(_INVALID, {"id": commission_line_id, "reason": reason})
    await _count(session, row, taken, row.basis_minor - row.refunded_basis_minor)
    await outbox.record(session, _told(CommissionInvalidated, row, reason, clock))
    return taken


async def deny_what_came_back(
    session: AsyncSession, order_ids: Sequence[OrderId], *, by: str, clock: Clock
) -> int:
    """A refund of these orders failed, or a lost dispute was won: what their invalid lines have again goes to the
    merchant like the rest of them. Minor units. Needs a SYSTEM session, after the books and the record have it back.
    """
    rows = (await session.execute(_INVALID_WITH_SHARES, {"orders": list(order_ids)})).all()
    denied = 0
    for row in rows:
        taken = await _deny_all(session, row, row.invalid_reason, by, clock)
        await _count(session, row, taken, 0)
        denied += taken
    return denied


async def _deny_all(session: AsyncSession, row: Any, reason: str, approved_by: str, clock: Clock) -> int:
    line_id = CommissionLineId.of(row.id)
    times = (await session.execute(_TIMES, {"id": line_id})).scalar_one()
    reference = f"invalid:{line_id}:{times + 1}"
    moved = await deny_commission(
        session, OrderId.of(row.order_id), OrderLineId.of(row.order_line_id), reference=reference,
        reason=reason, approved_by=approved_by, now=clock.now(),
    )  # fmt: skip
    shares = (await session.execute(_SHARES, {"id": line_id})).all()
    # What a refund under way has reserved is not denied: the record takes it when that refund succeeds.
    taken = _by_position(moved, row, shares, [share.held for share in shares])
    await _record(session, row, reference, shares, taken, reason, approved_by, clock)
    return sum(taken)


async def reinstate(
    session: AsyncSession,
    commission_line_id: CommissionLineId,
    *,
    reason: str,
    approved_by: str,
    clock: Clock,
) -> int:
    """A line was found invalid wrongly: its commission is as if it never had been, and waits for its release. Minor
    units that come back; a line that is not invalid: 0. Needs a SYSTEM session.
    """
    row = await _locked(session, commission_line_id)
    if row.status != CommissionStatus.INVALID:
        return 0
    restored = 0
    # One for the line, and one for what came back to it since; none where there was nothing to take.
    for reference in (await session.execute(_UNDOABLE, {"id": commission_line_id})).scalars().all():
        row = await _locked(session, commission_line_id)
        restored += await _restore(session, row, reference, reason, approved_by, clock)
    await session.execute(_PENDING, {"id": commission_line_id})
    await states.expect_again(session, [commission_line_id], now=clock.now())
    await _count(session, row, -restored, row.refunded_basis_minor - row.basis_minor)
    await outbox.record(session, _told(CommissionReinstated, row, reason, clock))
    return restored


async def deny_part(
    session: AsyncSession,
    commission_line_id: CommissionLineId,
    amount_minor: int,
    *,
    reference: str,
    reason: str,
    approved_by: str,
    clock: Clock,
) -> int:
    """``amount_minor`` of a pending line was not earned; it is taken as a refund would. Minor units; again: 0.

    Nothing of a line that is confirmed or further. Needs a SYSTEM session.
    """
    row = await _locked(session, commission_line_id)
    if row.status != CommissionStatus.PENDING or amount_minor <= 0:
        return 0
    moved = await deny_commission(
        session, OrderId.of(row.order_id), OrderLineId.of(row.order_line_id), reference=reference,
        reason=reason, approved_by=approved_by, now=clock.now(), amount_minor=amount_minor,
    )  # fmt: skip
    shares = (await session.execute(_SHARES, {"id": commission_line_id})).all()
    taken = _by_position(moved, row, shares, [share.held for share in shares])
    await _record(session, row, reference, shares, taken, reason, approved_by, clock)
    await _count(session, row, sum(taken), 0)
    return sum(taken)


async def give_back_part(
    session: AsyncSession,
    commission_line_id: CommissionLineId,
    *,
    reference: str,
    reason: str,
    approved_by: str,
    clock: Clock,
) -> int:
    """Undo one ``deny_part``. Minor units that come back; again, or of a line that is invalid by now: 0.

    They wait for their release, and so does the line, unless it is in a statement. Needs a SYSTEM session.
    """
    row = await _locked(session, commission_line_id)
    if row.status == CommissionStatus.INVALID:
        return 0
    restored = await _restore(session, row, reference, reason, approved_by, clock)
    if restored:
        await states.wait_again(session, [commission_line_id])
        await states.expect_again(session, [commission_line_id], now=clock.now())
    await _count(session, row, -restored, 0)
    return restored


async def _locked(session: AsyncSession, commission_line_id: CommissionLineId) -> Row[Any]:
    row = (await session.execute(_ONE, {"id": commission_line_id})).one_or_none()
    if row is None:
        raise CommissionLineNotFound("no such commission line", field="commissionLineId")
    return row


async def _record(
    session: AsyncSession,
    row: Any,
    reference: str,
    shares: Sequence[Any],
    amounts: Sequence[int],
    reason: str,
    by: str,
    clock: Clock,
) -> None:
    values = {
        "id": row.id, "reference": reference, "reason": reason, "by": by, "now": clock.now(),
        "positions": [share.position for share in shares], "amounts": list(amounts),
    }  # fmt: skip
    if any(amounts):
        await session.execute(_TAKE, values)


async def _restore(
    session: AsyncSession, row: Any, reference: str, reason: str, by: str, clock: Clock
) -> int:
    denied = (await session.execute(_DENIED, {"id": row.id, "reference": reference})).all()
    if not denied:
        return 0
    moved = await restore_commission(
        session, OrderId.of(row.order_id), reference, reason=reason, approved_by=by, now=clock.now()
    )
    withheld = [MovedShare(share.part, share.payee_id, share.withheld_minor) for share in moved]
    amounts: list[int] = [share.amount_minor for share in denied]
    kept = _by_position(withheld, row, denied, amounts)
    await _name_withheld(session, row, moved, denied, kept, clock)
    denied_minor, reversed_minor = row.denied_minor - sum(amounts), row.reversed_minor + sum(kept)
    values = {
        "id": row.id, "reference": reference, "by": by, "now": clock.now(), "withheld": kept,
        "positions": [share.position for share in denied], "amounts": amounts, "denied": denied_minor,
        "reversed": reversed_minor,
    }  # fmt: skip
    await session.execute(_GIVE, values)
    return sum(amounts) - sum(kept)


async def _name_withheld(
    session: AsyncSession,
    row: Any,
    moved: Sequence[MovedShare],
    denied: Sequence[Any],
    kept: Sequence[int],
    clock: Clock,
) -> None:
    """What refunds since then would have taken, by the refund: one that fails yet gives it back to the shares."""
    left = list(kept)
    for refund_id in dict.fromkeys(refund_id for share in moved for refund_id, _ in share.withheld):
        of_refund = [
            MovedShare(share.part, share.payee_id, amount)
            for share in moved
            for named, amount in share.withheld
            if named == refund_id
        ]
        amounts = _by_position(of_refund, row, denied, left)
        left = [has - gone for has, gone in zip(left, amounts, strict=True)]
        positions = [share.position for share in denied]
        await note_withheld(
            session,
            refund_id,
            CommissionLineId.of(row.id),
            dict(zip(positions, amounts, strict=True)),
            clock=clock,
        )


def _by_position(
    moved: Sequence[MovedShare], row: Any, shares: Sequence[Any], room: Sequence[int]
) -> list[int]:
    """What the ledger moved, on the positions of the line's record."""
    line = OrderLineId.of(row.order_line_id)
    amounts = [0] * len(shares)
    for each in moved:
        taken = TakenShare(line, _ROLES[each.part], each.payee_id, each.amount_minor)
        spread_over_positions(taken, shares, room, amounts)
    return amounts


async def _count(session: AsyncSession, row: Any, commission_minor: int, basis_minor: int) -> None:
    """What it counted in caps and tiers counts no longer, or again."""
    if row.counters and (commission_minor or basis_minor):
        line = ReversedLine(CommissionLineId.of(row.id), commission_minor, basis_minor)
        await outbox.record(session, CommissionReversed((line,)))


def _told(
    kind: type[CommissionInvalidated] | type[CommissionReinstated], row: Any, reason: str, clock: Clock
) -> CommissionInvalidated | CommissionReinstated:
    return kind(
        CommissionLineId.of(row.id), OrderId.of(row.order_id), BrandId.of(row.advertiser_id),
        BrandId.of(row.promoter_brand_id), reason, clock.now(),
    )  # fmt: skip
