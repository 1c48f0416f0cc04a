"""Requests that are due go to the rail; results are asked for; whatever fails is asked again or told.

Reserve, call, settle or void, as payouts do (money.md §0.5): the request is marked and its journal posted before
the call, its number never changes, and only the rail's own answer ends it. A process killed in between leaves
a request whose result is asked for by its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId
from infra import outbox
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.sharing import (
    Receiver,
    ReceiverKind,
    Relation,
    ShareLine,
    ShareOrder,
    ShareResult,
    ShareState,
    ShareTo,
    SharingRail,
)
from supply.ledger import service as ledger
from supply.ledger.journal import Journal, Leg, merged
from supply.settlement.rails import books
from supply.settlement.rails.errors import RailRequestNotFound, RailRequestNotRefused
from supply.settlement.rails.events import RailLost, RailRefused, RailShared
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.rails.kinds import RailKind
from supply.settlement.rails.models import InstructionStatus, RequestStatus
from supply.settlement.rails.recording import add_request
from supply.settlement.split_plan import Instruction, PayeeKind, Request

REQUESTS_AT_ONCE = 50
ASK_AFTER = timedelta(minutes=1)
"""How long a request is left alone before its result is asked for; each time it waits longer."""
AGAIN_AFTER = timedelta(days=1)
"""A receiver that was not paid is named again this much later …"""
ATTEMPTS = 3
"""… so often; then an operator decides."""
_RELATIONS = {
    PayeeKind.BUSINESS: Relation.SUPPLIER,
    PayeeKind.INDIVIDUAL: Relation.PROMOTER,
    PayeeKind.PLATFORM: Relation.PLATFORM,
    PayeeKind.MERCHANT: Relation.PARTNER,
}
_NOT_YET = frozenset({"SHARING_IN_PROGRESS"})
"""Refused now, not for good: the same request is sent again."""
_OVER = frozenset({"ALREADY_UNFROZEN"})
_OPEN = "('planned', 'sending', 'accepted', 'refused')"

# The rest is the merchant's only when nobody else of the order can still be paid.
_CLAIM_PLANNED = text(
    "UPDATE rail_requests SET status = 'sending', tries = tries + 1,"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval)"
    " WHERE id IN (SELECT r.id FROM rail_requests r WHERE r.status = 'planned' AND r.next_try_at <= :now"
    " AND (r.send_before IS NULL OR r.send_before > :now) AND (NOT r.finish OR NOT EXISTS ("
    f"SELECT FROM rail_requests o WHERE o.order_id = r.order_id AND NOT o.finish AND o.status IN {_OPEN}))"
    " ORDER BY r.next_try_at, r.id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING *"
)
_CLAIM_UNKNOWN = text(
    "UPDATE rail_requests SET tries = tries + 1,"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * least(tries + 1, 60)"
    " WHERE id IN (SELECT id FROM rail_requests WHERE status IN ('sending', 'accepted') AND next_try_at <= :now"
    " ORDER BY next_try_at, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING *"
)
_CLAIM_LATE = text(
    "SELECT DISTINCT order_id FROM rail_requests WHERE status IN ('planned', 'refused') AND send_before <= :now"
    " LIMIT :limit"
)
_LOCK = text("SELECT * FROM rail_requests WHERE id = :id FOR NO KEY UPDATE")
_ORDER_OF = text("SELECT order_id FROM rail_requests WHERE id = :id")
_LOCK_ORDER = text("SELECT * FROM rail_orders WHERE order_id = :order_id FOR NO KEY UPDATE")
_ORDERS = text("SELECT * FROM rail_orders WHERE order_id = ANY(:ids)")
_INSTRUCTIONS = text(
    "SELECT * FROM rail_instructions WHERE request_id = ANY(:ids) ORDER BY request_id, payee_id"
)
_MARK_INSTRUCTED = text("UPDATE rail_instructions SET status = 'instructed' WHERE request_id = ANY(:ids)")
_ACCEPTED = text(
    "UPDATE rail_requests SET status = 'accepted', next_try_at = :next WHERE id = :id AND status = 'sending'"
)
_END = text("UPDATE rail_requests SET status = :status, failure = :failure, ended_at = :now WHERE id = :id")
_END_ONE = text(
    "UPDATE rail_instructions SET status = :status, failure = :failure, detail_ref = :detail_ref,"
    " ended_at = :now WHERE request_id = :id AND payee_id = :payee_id"
)
_FAIL_ALL = text(
    "UPDATE rail_instructions SET status = 'failed', failure = :failure, ended_at = :now WHERE request_id = :id"
)
_NEXT_NUMBER = text("SELECT max(number) + 1 FROM rail_requests WHERE order_id = :order_id")
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
_UNENDED = text(
    "SELECT EXISTS (SELECT FROM rail_requests WHERE order_id = :order_id AND status IN ('sending', 'accepted'))"
)
_HASTEN = text(
    "UPDATE rail_requests SET next_try_at = :now WHERE id = :id AND status IN ('sending', 'accepted')"
)


async def send_shares(db: Database, *, rails: Mapping[str, SharingRail], clock: Clock) -> int:
    """Sweep: send what is due, some at a time; close orders whose freeze ended first. How many were tried."""
    lost = await _lose_late(db, clock)
    requests = await _claim_planned(db, clock.now())
    for request in requests:
        if request.rail in rails:
            await _send(db, request, rail=rails[request.rail], clock=clock)
    return len(requests) + lost


async def resolve_shares(db: Database, *, rails: Mapping[str, SharingRail], clock: Clock) -> int:
    """Sweep: ask what became of requests; one the rail never got goes out again under its number."""
    async with db.unit_of_work(SYSTEM) as session:
        requests = (await session.execute(_CLAIM_UNKNOWN, _limits(clock.now()))).all()
    for request in requests:
        if request.rail in rails:
            await _resolve(db, request, rail=rails[request.rail], clock=clock)
    return len(requests)


async def hasten(session: AsyncSession, number: str, *, now: datetime) -> None:
    """The rail gave notice of a request: a hint that its result can be asked for at the next sweep."""
    await session.execute(_HASTEN, {"id": RailRequestId.parse(number), "now": now})


async def retry_refused(session: AsyncSession, request_id: RailRequestId, *, now: datetime) -> RailRequestId:
    """Operator: name the receivers of a refused request once more, under a new number."""
    request, order = await _refused(session, request_id)
    rows = (await session.execute(_INSTRUCTIONS, {"ids": [request_id]})).all()
    fresh = await _again(session, order, request, rows, at=now, status=RequestStatus.PLANNED)
    await _end(session, request_id, RequestStatus.ABANDONED, now, request.failure)
    return fresh


async def abandon_refused(session: AsyncSession, request_id: RailRequestId, *, now: datetime) -> None:
    """Operator: these receivers will not be paid on the rail. Their parts go to the merchant with the rest, who
    owes them outside."""
    request, _ = await _refused(session, request_id)
    await _end(session, request_id, RequestStatus.ABANDONED, now, request.failure)


async def _claim_planned(db: Database, now: datetime) -> Sequence[Any]:
    """Marked as sent and journalled before anything is sent."""
    async with db.unit_of_work(SYSTEM) as session:
        requests = (await session.execute(_CLAIM_PLANNED, _limits(now))).all()
        ids = [request.id for request in requests]
        orders = await _orders(session, requests)
        told = await _instructions(session, ids)
        journals = [
            _journal(
                request,
                "instructed",
                RailKind.INSTRUCTED,
                books.instructed(orders[request.order_id], rows),
                now,
            )
            for request in requests
            if (rows := told.get(request.id, []))
        ]
        await ledger.post_together(session, journals, now=now)
        await session.execute(_MARK_INSTRUCTED, {"ids": ids})
    return requests


async def _send(db: Database, request: Any, *, rail: SharingRail, clock: Clock) -> None:
    async with db.reading(SYSTEM) as session:
        order = (await _orders(session, [request]))[request.order_id]
        rows = (await _instructions(session, [request.id])).get(request.id, [])
    try:
        if request.finish:
            await rail.finish(**_names(order, request))
        else:
            await _share(rail, order, request, rows)
    except ProviderRefused as refusal:
        code = refusal.provider_code or refusal.message
        if code in _NOT_YET:
            return
        if request.finish and code in _OVER:
            await _end_of_freeze(db, request.id, clock=clock)
        else:
            await _void(db, request.id, code, clock=clock)
    except (ProviderUnavailable, IdempotencyMismatch):
        return  # not known, or a bug of ours: it stays until its result has been asked for
    else:
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(_ACCEPTED, {"id": request.id, "next": clock.now() + ASK_AFTER})


async def _share(rail: SharingRail, order: Any, request: Any, rows: Sequence[Any]) -> None:
    receivers = [ShareTo(_receiver(row), row.amount_minor, f"{OrderId.of(order.order_id)}") for row in rows]
    try:
        await rail.share(**_names(order, request), receivers=receivers, finish=False)
    except ProviderRefused as refusal:
        if refusal.provider_code != "RECEIVER_NOT_ADDED":
            raise
        for row in rows:
            await rail.add_receiver(
                merchant_id=order.merchant_account,
                receiver=_receiver(row),
                relation=_RELATIONS[PayeeKind(row.kind)],
            )
        await rail.share(**_names(order, request), receivers=receivers, finish=False)


async def _resolve(db: Database, request: Any, *, rail: SharingRail, clock: Clock) -> None:
    async with db.reading(SYSTEM) as session:
        order = (await _orders(session, [request]))[request.order_id]
    try:
        found = await rail.retrieve_share(**_names(order, request))
    except (ProviderRefused, ProviderUnavailable):
        return
    if found is None:
        await _send(db, request, rail=rail, clock=clock)
    elif found.state is ShareState.FINISHED:
        await settle_share(db, RailRequestId.of(request.id), found, clock=clock)


async def settle_share(db: Database, request_id: RailRequestId, found: ShareOrder, *, clock: Clock) -> None:
    """What the rail did. The first to tell counts; the same again changes nothing."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        request, order = await _locked(session, request_id)
        if request.status not in (RequestStatus.SENDING, RequestStatus.ACCEPTED):
            return
        if request.finish:
            await _finish(session, order, request, now)
            return
        rows = (await session.execute(_INSTRUCTIONS, {"ids": [request_id]})).all()
        lines = {(line.receiver.kind.value, line.receiver.account): line for line in found.lines}
        paid, failed = _divided(rows, lines)
        legs = merged((*books.paid(order, paid), *books.taken_back(order, failed)))
        await ledger.post(session, _journal(request, "settled", RailKind.SETTLED, legs, now), now=now)
        for row in rows:
            await _end_one(session, row, lines[_receiver(row).kind.value, row.account_id], now)
        await _end(session, request_id, RequestStatus.FINISHED, now)
        if paid:
            await outbox.record(session, RailShared(request_id, _order_id(order), _payee_ids(paid), now))
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
        reasons = {lines[_receiver(row).kind.value, row.account_id].failure or "" for row in failed}
        reason = ", ".join(sorted(reasons))
        await outbox.record(session, RailRefused(fresh, _order_id(order), _payee_ids(failed), reason, now))


async def _again(
    session: AsyncSession,
    order: Any,
    request: Any,
    rows: Sequence[Any],
    *,
    at: datetime,
    status: RequestStatus,
) -> RailRequestId:
    number = (await session.execute(_NEXT_NUMBER, {"order_id": order.order_id})).scalar_one()
    told = tuple(Instruction(row.payee_id, PayeeKind(row.kind), row.amount_minor) for row in rows)
    asked = Request(number, at, request.send_before, told, finish=request.finish)
    return await add_request(session, order, asked, rows, attempt=request.attempt + 1, status=status.value)


async def _void(db: Database, request_id: Any, reason: str, *, clock: Clock) -> None:
    """A definite no to the whole request: everybody is entitled again, somebody decides."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        request, order = await _locked(session, request_id)
        if request.status != RequestStatus.SENDING:
            return
        rows = (await session.execute(_INSTRUCTIONS, {"ids": [request_id]})).all()
        if rows:
            legs = books.taken_back(order, rows)
            await ledger.post(session, _journal(request, "voided", RailKind.VOIDED, legs, now), now=now)
        await session.execute(_FAIL_ALL, {"id": request_id, "failure": reason, "now": now})
        await _end(session, request_id, RequestStatus.REFUSED, now, reason)
        refused = RailRefused(RailRequestId.of(request_id), _order_id(order), _payee_ids(rows), reason, now)
        await outbox.record(session, refused)


async def _end_of_freeze(db: Database, request_id: Any, *, clock: Clock) -> None:
    """The rail gave the rest to the merchant before we asked it to."""
    async with db.unit_of_work(SYSTEM) as session:
        request, order = await _locked(session, request_id)
        if request.status == RequestStatus.SENDING:
            await _finish(session, order, request, clock.now())


async def _finish(session: AsyncSession, order: Any, request: Any, now: datetime) -> None:
    unpaid = (await session.execute(_WAITING, {"order_id": order.order_id})).all()
    await _close(session, order, _latest(unpaid), RailKind.FINISHED, now)
    await _end(session, request.id, RequestStatus.FINISHED, now)


async def _lose_late(db: Database, clock: Clock) -> int:
    """The freeze ends: what was not sent by now has gone to the merchant. How many orders that were."""
    now = clock.now()
    async with db.reading(SYSTEM) as session:
        late = (await session.execute(_CLAIM_LATE, {"now": now, "limit": REQUESTS_AT_ONCE})).scalars().all()
    closed = 0
    for order_id in late:
        async with db.unit_of_work(SYSTEM) as session:
            order = (await session.execute(_LOCK_ORDER, {"order_id": order_id})).one()
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
        key = f"rail:{order.payment_id}:{_order_id(order)}:closed"
        journal = Journal(key, kind, legs, now, _order_id(order), order.payment_id)
        await ledger.post(session, journal, now=now)
    await session.execute(_CLOSE, {"order_id": order.order_id, "now": now})
    if unpaid:
        await outbox.record(session, RailLost(_order_id(order), _payee_ids(unpaid), now))


def _latest(rows: Sequence[Any]) -> list[Any]:
    """One row per payee: a receiver named again is not owed twice."""
    return list({row.payee_id: row for row in rows}.values())


def _divided(rows: Sequence[Any], lines: Mapping[Any, ShareLine]) -> tuple[list[Any], list[Any]]:
    paid: list[Any] = []
    failed: list[Any] = []
    for row in rows:
        line = lines[_receiver(row).kind.value, row.account_id]
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


async def _end(
    session: AsyncSession, request_id: Any, status: RequestStatus, now: datetime, failure: str | None = None
) -> None:
    await session.execute(_END, {"id": request_id, "status": status.value, "now": now, "failure": failure})


async def _refused(session: AsyncSession, request_id: RailRequestId) -> tuple[Any, Any]:
    request, order = await _locked(session, request_id)
    if request.status != RequestStatus.REFUSED:
        raise RailRequestNotRefused(request_id, request.status)
    return request, order


async def _locked(session: AsyncSession, request_id: Any) -> tuple[Any, Any]:
    """The order's row first: everything that changes an order's requests takes it, in this sequence."""
    found = (await session.execute(_ORDER_OF, {"id": request_id})).first()
    if found is None:
        raise RailRequestNotFound(f"{request_id} was never planned")
    order = (await session.execute(_LOCK_ORDER, {"order_id": found.order_id})).one()
    return (await session.execute(_LOCK, {"id": request_id})).one(), order


async def _orders(session: AsyncSession, requests: Sequence[Any]) -> dict[Any, Any]:
    rows = await session.execute(_ORDERS, {"ids": [request.order_id for request in requests]})
    return {row.order_id: row for row in rows}


async def _instructions(session: AsyncSession, ids: Sequence[Any]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = {}
    for row in await session.execute(_INSTRUCTIONS, {"ids": list(ids)}):
        found.setdefault(row.request_id, []).append(row)
    return found


def _journal(request: Any, step: str, kind: RailKind, legs: Sequence[Leg], now: datetime) -> Journal:
    id = RailRequestId.of(request.id)
    return Journal(f"rail:{id}:{step}", kind, merged(legs), now, OrderId.of(request.order_id), str(id))


def _names(order: Any, request: Any) -> dict[str, str]:
    return {
        "merchant_id": order.merchant_account,
        "payment_id": order.payment_id,
        "order_no": str(RailRequestId.of(request.id)),
    }


def _receiver(row: Any) -> Receiver:
    person = row.kind == PayeeKind.INDIVIDUAL
    return Receiver(ReceiverKind.INDIVIDUAL if person else ReceiverKind.MERCHANT, row.account_id)


def _order_id(order: Any) -> OrderId:
    return OrderId.of(order.order_id)


def _payee_ids(rows: Sequence[Any]) -> tuple[str, ...]:
    return tuple(row.payee_id for row in rows)


def _limits(now: datetime) -> dict[str, Any]:
    return {"now": now, "wait": ASK_AFTER, "limit": REQUESTS_AT_ONCE}
