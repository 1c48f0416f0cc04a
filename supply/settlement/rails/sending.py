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
from core.ids import MalformedId, OrderId
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.sharing import (
    Relation,
    ShareState,
    ShareTo,
    SharingRail,
)
from supply.ledger import service as ledger
from supply.settlement.rails import books
from supply.settlement.rails.held import put_back_held, set_apart
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.rails.kinds import RailKind
from supply.settlement.rails.models import RequestStatus
from supply.settlement.rails.requests import (
    end_request,
    instructions_of,
    journal_of,
    names_of,
    orders_of,
    receiver_of,
)
from supply.settlement.rails.settling import end_of_freeze, lose_late, settle_share, void_request
from supply.settlement.split_plan import PayeeKind

REQUESTS_AT_ONCE = 50
ASK_AFTER = timedelta(minutes=1)
"""How long a request is left alone before its result is asked for; each time it waits longer."""
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
    "WITH claimed AS (UPDATE rail_requests SET status = 'sending', tries = tries + 1,"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval)"
    " WHERE id IN (SELECT r.id FROM rail_requests r WHERE r.status = 'planned' AND r.next_try_at <= :now"
    " AND r.rail = ANY(:rails)"
    " AND (r.send_before IS NULL OR r.send_before > :now) AND (NOT r.finish OR NOT EXISTS ("
    f"SELECT FROM rail_requests o WHERE o.order_id = r.order_id AND NOT o.finish AND o.status IN {_OPEN})"
    " AND NOT EXISTS (SELECT FROM rail_refunds f WHERE f.order_id = r.order_id"
    " AND f.status IN ('reserved', 'sending', 'refused')))"
    " ORDER BY r.next_try_at, r.id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING *)"
    " SELECT * FROM claimed ORDER BY id"
)
_CLAIM_UNKNOWN = text(
    "WITH claimed AS (UPDATE rail_requests SET tries = tries + 1,"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * least(tries + 1, 60)"
    " WHERE id IN (SELECT id FROM rail_requests WHERE status IN ('sending', 'accepted') AND next_try_at <= :now"
    " AND rail = ANY(:rails) ORDER BY next_try_at, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING *)"
    " SELECT * FROM claimed ORDER BY id"
)
_MARK_INSTRUCTED = text("UPDATE rail_instructions SET status = 'instructed' WHERE request_id = ANY(:ids)")
_ACCEPTED = text(
    "UPDATE rail_requests SET status = 'accepted', next_try_at = :next WHERE id = :id AND status = 'sending'"
)
_HASTEN = text(
    "UPDATE rail_requests SET next_try_at = :now WHERE id = :id AND status IN ('sending', 'accepted')"
)


async def send_shares(db: Database, *, rails: Mapping[str, SharingRail], clock: Clock) -> int:
    """Sweep: send what is due, some at a time; close orders whose freeze ended first. How many were tried."""
    lost = await lose_late(db, clock)
    limits = _limits(clock.now(), rails)
    requests, mixed = await _claim_planned(db, limits)
    if mixed:
        for request in mixed:
            await set_apart(db, request.id, request.order_id, now=limits["now"])
        more, _ = await _claim_planned(db, limits)
        requests = [*requests, *more]
    for request in requests:
        await _send(db, request, rail=rails[request.rail], clock=clock)
    return len(requests) + lost


async def resolve_shares(db: Database, *, rails: Mapping[str, SharingRail], clock: Clock) -> int:
    """Sweep: ask what became of requests; one the rail never got goes out again under its number."""
    async with db.unit_of_work(SYSTEM) as session:
        requests = (await session.execute(_CLAIM_UNKNOWN, _limits(clock.now(), rails))).all()
    for request in requests:
        await _resolve(db, request, rail=rails[request.rail], clock=clock)
    return len(requests)


async def hasten(session: AsyncSession, number: str, *, now: datetime) -> None:
    """The rail gave notice of a request: a hint that its result can be asked for at the next sweep."""
    try:
        id = RailRequestId.parse(number)
    except MalformedId:
        return  # a request made by hand at the rail
    await session.execute(_HASTEN, {"id": id, "now": now})


async def _claim_planned(db: Database, limits: Mapping[str, Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Marked as sent and journalled before anything is sent; beside them those that pay held payees and others, which
    are planned still."""
    now = limits["now"]
    async with db.unit_of_work(SYSTEM) as session:
        claimed = (await session.execute(_CLAIM_PLANNED, limits)).all()
        orders = await orders_of(session, claimed)
        told = await instructions_of(session, [request.id for request in claimed])
        requests, mixed = await put_back_held(session, claimed, orders, told, now=now)
        ids = [request.id for request in requests]
        journals = [
            journal_of(
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
    return requests, mixed


async def _send(db: Database, request: Any, *, rail: SharingRail, clock: Clock) -> None:
    async with db.reading(SYSTEM) as session:
        order = (await orders_of(session, [request]))[request.order_id]
        rows = (await instructions_of(session, [request.id])).get(request.id, [])
    if not rows and not request.finish:
        # Refunds took everything it was to pay.
        async with db.unit_of_work(SYSTEM) as session:
            await end_request(session, request.id, RequestStatus.FINISHED, clock.now())
        return
    try:
        if request.finish:
            await rail.finish(**names_of(order, request))
        else:
            await _share(rail, order, request, rows)
    except ProviderRefused as refusal:
        code = refusal.provider_code or refusal.message
        if code in _NOT_YET:
            return
        if request.finish and code in _OVER:
            await end_of_freeze(db, request.id, clock=clock)
        else:
            await void_request(db, request.id, code, clock=clock)
    except (ProviderUnavailable, IdempotencyMismatch):
        return  # not known, or a bug of ours: it stays until its result has been asked for
    else:
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(_ACCEPTED, {"id": request.id, "next": clock.now() + ASK_AFTER})


async def _share(rail: SharingRail, order: Any, request: Any, rows: Sequence[Any]) -> None:
    receivers = [ShareTo(receiver_of(row), row.amount_minor, f"{OrderId.of(order.order_id)}") for row in rows]
    try:
        await rail.share(**names_of(order, request), receivers=receivers, finish=False)
    except ProviderRefused as refusal:
        if refusal.provider_code != "RECEIVER_NOT_ADDED":
            raise
        for row in rows:
            await rail.add_receiver(
                merchant_id=order.merchant_account,
                receiver=receiver_of(row),
                relation=_RELATIONS[PayeeKind(row.kind)],
            )
        await rail.share(**names_of(order, request), receivers=receivers, finish=False)


async def _resolve(db: Database, request: Any, *, rail: SharingRail, clock: Clock) -> None:
    async with db.reading(SYSTEM) as session:
        order = (await orders_of(session, [request]))[request.order_id]
    try:
        found = await rail.retrieve_share(**names_of(order, request))
    except (ProviderRefused, ProviderUnavailable):
        return
    if found is None:
        await _send(db, request, rail=rail, clock=clock)
    elif found.state is ShareState.FINISHED:
        await settle_share(db, RailRequestId.of(request.id), found, clock=clock)


def _limits(now: datetime, rails: Mapping[str, SharingRail]) -> dict[str, Any]:
    return {"now": now, "wait": ASK_AFTER, "limit": REQUESTS_AT_ONCE, "rails": list(rails)}
