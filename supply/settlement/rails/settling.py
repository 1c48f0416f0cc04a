"""What the rail did, or would not do: paid, named again, refused, finished, lost to the freeze.

Each of them once: under the order's lock, by the request's status and under its journal's key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from infra import outbox
from infra.db.session import Database
from infra.payments.sharing import ShareLine, ShareOrder, ShareResult
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, merged
from supply.settlement.rails import books
from supply.settlement.rails.errors import RailRequestNotRefused
from supply.settlement.rails.events import RailLost, RailRefused, RailShared
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.rails.kinds import RailKind
from supply.settlement.rails.models import InstructionStatus, RequestStatus
from supply.settlement.rails.recording import add_request
from supply.settlement.rails.requests import (
    end_request,
    instructions_of,
    journal_of,
    lock_order,
    locked,
    next_number,
    order_id_of,
    payee_ids,
    receiver_of,
)
from supply.settlement.split_plan import Instruction, PayeeKind, Request

AGAIN_AFTER = timedelta(days=1)
"""A receiver that was not paid is named again this much later …"""
ATTEMPTS = 3
"""… so often; then an operator decides."""
_END_ONE = text(
    "UPDATE rail_instructions SET status = :status, failure = :failure, detail_ref = :detail_ref,"
    " ended_at = :now WHERE request_id = :id AND payee_id = :payee_id"
)
_FAIL_ALL = text(
    "UPDATE rail_instructions SET status = 'failed', failure = :failure, ended_at = :now WHERE request_id = :id"
)
_CLOSE = text("UPDATE rail_orders SET closed_at = :now WHERE order_id = :order_id")
_WAITING = text(
    "SELECT i.* FROM rail_instructions i JOIN rail_requests r ON r.id = i.request_id WHERE i.order_id = :order_id"
    " AND r.status IN ('planned', 'refused', 'abandoned') AND NOT EXISTS (SELECT FROM rail_instructions p"
    " WHERE p.order_id = i.order_id AND p.payee_id = i.payee_id AND p.status = 'paid')"
    " ORDER BY i.request_id, i.payee_id FOR NO KEY UPDATE OF i"
)
_LOSE = text(
    "UPDATE rail_requests SET status = 'lost', ended_at = :now WHERE order_id = :order_id"
    " AND status IN ('planned', 'refused')"
)
_CLAIM_LATE = text(
    "SELECT DISTINCT order_id FROM rail_requests WHERE status IN ('planned', 'refused') AND send_before <= :now"
    " LIMIT :limit"
)
_UNENDED = text(
    "SELECT EXISTS (SELECT FROM rail_requests WHERE order_id = :order_id AND status IN ('sending', 'accepted'))"
)
ORDERS_AT_ONCE = 50


async def settle_share(db: Database, request_id: RailRequestId, found: ShareOrder, *, clock: Clock) -> None:
    """What the rail did. The first to tell counts; the same again changes nothing."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        request, order = await locked(session, request_id)
        if request.status not in (RequestStatus.SENDING, RequestStatus.ACCEPTED):
            return
        if request.finish:
            await _finish(session, order, request, now)
            return
        rows = (await instructions_of(session, [request_id])).get(request_id, [])
        lines = {(line.receiver.kind.value, line.receiver.account): line for line in found.lines}
        paid, failed = _divided(rows, lines)
        legs = merged((*books.paid(order, paid), *books.taken_back(order, failed)))
        await ledger.post(session, journal_of(request, "settled", RailKind.SETTLED, legs, now), now=now)
        for row in rows:
            await _end_one(session, row, lines[receiver_of(row).kind.value, row.account_id], now)
        await end_request(session, request_id, RequestStatus.FINISHED, now)
        if paid:
            await outbox.record(session, RailShared(request_id, order_id_of(order), payee_ids(paid), now))
        if failed:
            await _name_again(session, order, request, failed, lines, now)


async def _name_again(
    session: AsyncSession,
    order: Any,
    request: Any,
    failed: Sequence[Any],
    lines: Mapping[Any, ShareLine],
    now: datetime,
) -> None:
    given_up = request.attempt >= ATTEMPTS
    status = RequestStatus.REFUSED if given_up else RequestStatus.PLANNED
    fresh = await _again(session, order, request, failed, at=now + AGAIN_AFTER, status=status)
    if given_up:
        reasons = {lines[receiver_of(row).kind.value, row.account_id].failure or "" for row in failed}
        reason = ", ".join(sorted(reasons))
        await outbox.record(session, RailRefused(fresh, order_id_of(order), payee_ids(failed), reason, now))


async def _again(
    session: AsyncSession,
    order: Any,
    request: Any,
    rows: Sequence[Any],
    *,
    at: datetime,
    status: RequestStatus,
) -> RailRequestId:
    number = await next_number(session, order.order_id)
    told = tuple(Instruction(row.payee_id, PayeeKind(row.kind), row.amount_minor) for row in rows)
    asked = Request(number, at, request.send_before, told, finish=request.finish)
    return await add_request(session, order, asked, rows, attempt=request.attempt + 1, status=status.value)


async def retry_refused(session: AsyncSession, request_id: RailRequestId, *, now: datetime) -> RailRequestId:
    """Operator: name the receivers of a refused request once more, under a new number."""
    request, order = await _refused(session, request_id)
    rows = (await instructions_of(session, [request_id])).get(request_id, [])
    fresh = await _again(session, order, request, rows, at=now, status=RequestStatus.PLANNED)
    # Not abandoned: what is left of these parts is the new request's to say, nothing after a refund of all of them.
    await end_request(session, request_id, RequestStatus.FINISHED, now, request.failure)
    return fresh


async def abandon_refused(session: AsyncSession, request_id: RailRequestId, *, now: datetime) -> None:
    """Operator: these receivers will not be paid on the rail. Their parts go to the merchant with the rest, who
    owes them outside."""
    request, _ = await _refused(session, request_id)
    await end_request(session, request_id, RequestStatus.ABANDONED, now, request.failure)


async def _refused(session: AsyncSession, request_id: RailRequestId) -> tuple[Any, Any]:
    request, order = await locked(session, request_id)
    if request.status != RequestStatus.REFUSED:
        raise RailRequestNotRefused(request_id, request.status)
    return request, order


async def void_request(db: Database, request_id: Any, reason: str, *, clock: Clock) -> None:
    """A definite no to the whole request: everybody is entitled again, somebody decides."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        request, order = await locked(session, request_id)
        if request.status != RequestStatus.SENDING:
            return
        rows = (await instructions_of(session, [request_id])).get(request_id, [])
        if rows:
            legs = books.taken_back(order, rows)
            await ledger.post(session, journal_of(request, "voided", RailKind.VOIDED, legs, now), now=now)
        await session.execute(_FAIL_ALL, {"id": request_id, "failure": reason, "now": now})
        await end_request(session, request_id, RequestStatus.REFUSED, now, reason)
        refused = RailRefused(RailRequestId.of(request_id), order_id_of(order), payee_ids(rows), reason, now)
        await outbox.record(session, refused)


async def end_of_freeze(db: Database, request_id: Any, *, clock: Clock) -> None:
    """The rail gave the rest to the merchant before we asked it to."""
    async with db.unit_of_work(SYSTEM) as session:
        request, order = await locked(session, request_id)
        if request.status == RequestStatus.SENDING:
            await _finish(session, order, request, clock.now())


async def _finish(session: AsyncSession, order: Any, request: Any, now: datetime) -> None:
    unpaid = (await session.execute(_WAITING, {"order_id": order.order_id})).all()
    await _close(session, order, _latest(unpaid), RailKind.FINISHED, now)
    await end_request(session, request.id, RequestStatus.FINISHED, now)


async def lose_late(db: Database, clock: Clock) -> int:
    """The freeze ends: what was not sent by now has gone to the merchant. How many orders that were."""
    now = clock.now()
    async with db.reading(SYSTEM) as session:
        late = (await session.execute(_CLAIM_LATE, {"now": now, "limit": ORDERS_AT_ONCE})).scalars().all()
    closed = 0
    for order_id in late:
        async with db.unit_of_work(SYSTEM) as session:
            order = await lock_order(session, order_id)
            if (await session.execute(_UNENDED, {"order_id": order_id})).scalar_one():
                continue  # first what is under way
            unpaid = _latest((await session.execute(_WAITING, {"order_id": order_id})).all())
            await session.execute(_LOSE, {"order_id": order_id, "now": now})
            if order.closed_at is None:
                await _close(session, order, unpaid, RailKind.LOST, now)
                closed += 1
    return closed


async def _close(
    session: AsyncSession, order: Any, unpaid: Sequence[Any], kind: RailKind, now: datetime
) -> None:
    if legs := merged(books.finished(order, unpaid)):
        key = f"rail:{order.payment_id}:{order_id_of(order)}:closed"
        journal = Journal(key, kind, legs, now, order_id_of(order), order.payment_id)
        await ledger.post(session, journal, now=now)
    await session.execute(_CLOSE, {"order_id": order.order_id, "now": now})
    if unpaid:
        await outbox.record(session, RailLost(order_id_of(order), payee_ids(unpaid), now))


def _latest(rows: Sequence[Any]) -> list[Any]:
    """One row per payee: a receiver named again is not owed twice."""
    return list({row.payee_id: row for row in rows}.values())


def _divided(rows: Sequence[Any], lines: Mapping[Any, ShareLine]) -> tuple[list[Any], list[Any]]:
    paid: list[Any] = []
    failed: list[Any] = []
    for row in rows:
        line = lines[receiver_of(row).kind.value, row.account_id]
        (paid if line.result is ShareResult.SUCCESS else failed).append(row)
    return paid, failed


async def _end_one(session: AsyncSession, row: Any, line: ShareLine, now: datetime) -> None:
    done = line.result is ShareResult.SUCCESS
    status = InstructionStatus.PAID if done else InstructionStatus.FAILED
    values = {
        "id": row.request_id, "payee_id": row.payee_id, "status": status.value, "failure": line.failure,
        "detail_ref": line.detail_id, "now": now,
    }  # fmt: skip
    await session.execute(_END_ONE, values)
