"""A refund on a sharing rail: out of what is frozen, and out of shares that businesses give back.

The caller says who bears how much (the composition of money.md §2). What a payee was not paid yet is taken out of
its next instructions; what a business was paid is taken back first; what an individual was paid never comes back,
so the merchant carries it. Reserve, take back, refund, settle or void: one key each, whatever is repeated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import BrandId, OrderId, RefundId
from infra import outbox
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.sharing import SharingRail
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, Leg, credit, debit, merged, mirrored
from supply.settlement.parties import PLATFORM
from supply.settlement.rails import books
from supply.settlement.rails.errors import (
    RailRefundChanged,
    RailRefundNotRefused,
    RailRefundTooLarge,
    RailShareUnderWay,
)
from supply.settlement.rails.events import RailRefundRefused, RailRefundSettled
from supply.settlement.rails.ids import RailRequestId
from supply.settlement.rails.kinds import RailKind
from supply.settlement.rails.models import InstructionStatus, RailRefundStatus, RequestStatus
from supply.settlement.rails.recording import add_request
from supply.settlement.rails.requests import lock_order, next_number
from supply.settlement.rails.splits import give_back, keep_split, split_of
from supply.settlement.split_plan import Instruction, PayeeKind, Request

REFUNDS_AT_ONCE = 50
_UNSAID = "RETURN_FAILED"
"""Of a return that failed and nobody says why."""
_UNSENT = (RequestStatus.PLANNED, RequestStatus.REFUSED)
ASK_AFTER = timedelta(minutes=1)

_ORDER_OF = text("SELECT order_id FROM rail_refunds WHERE refund_id = :id")
_KNOWN = text("SELECT * FROM rail_refunds WHERE refund_id = :id FOR NO KEY UPDATE")
_SHARES = text(
    "SELECT i.*, r.status AS request_status, coalesce((SELECT sum(b.amount_minor) FROM rail_returns b"
    " WHERE b.request_id = i.request_id AND b.payee_id = i.payee_id AND b.status <> 'failed'), 0) AS returned_minor"
    " FROM rail_instructions i JOIN rail_requests r ON r.id = i.request_id WHERE i.order_id = :order_id"
    " AND (r.status NOT IN ('finished', 'abandoned', 'lost') OR i.status = 'paid')"
    " ORDER BY i.payee_id FOR NO KEY UPDATE OF r"
)
_INSERT = text(
    "INSERT INTO rail_refunds (refund_id, order_id, merchant_id, rail, amount_minor, returned_minor,"
    " fee_back_minor, taken, status, next_try_at, reserved_at) VALUES (:id, :order_id, :merchant_id, :rail,"
    " :amount_minor, :returned_minor, 0, CAST(:taken AS jsonb), 'reserved', :now, :now)"
)
_INSERT_RETURN = text(
    "INSERT INTO rail_returns (refund_id, payee_id, request_id, merchant_id, tenant_id, account_id,"
    " amount_minor, attempt, status) VALUES (:refund_id, :payee_id, :request_id, :merchant_id, :tenant_id,"
    " :account_id, :amount_minor, 1, 'asked')"
)
_LOWER = text(
    "UPDATE rail_instructions SET amount_minor = amount_minor - :amount"
    " WHERE request_id = :request_id AND payee_id = :payee_id AND amount_minor > :amount"
)
_DROP = text("DELETE FROM rail_instructions WHERE request_id = :request_id AND payee_id = :payee_id")
_MERCHANT = text(
    "UPDATE rail_orders SET merchant_minor = merchant_minor + :change WHERE order_id = :order_id"
)
_CLAIM = text(
    "WITH claimed AS (UPDATE rail_refunds SET next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval)"
    " WHERE refund_id IN (SELECT refund_id FROM rail_refunds WHERE status IN ('reserved', 'sending')"
    " AND next_try_at <= :now AND rail = ANY(:rails) ORDER BY next_try_at, refund_id LIMIT :limit"
    " FOR NO KEY UPDATE SKIP LOCKED) RETURNING *) SELECT * FROM claimed ORDER BY reserved_at, refund_id"
)
_RETURNS = text("SELECT * FROM rail_returns WHERE refund_id = :id ORDER BY payee_id, request_id")
_RETURN_ENDED = text(
    "UPDATE rail_returns SET status = :status, failure = :failure"
    " WHERE refund_id = :id AND request_id = :request_id AND payee_id = :payee_id AND status = 'asked' RETURNING 1"
)
_SENDING = text("UPDATE rail_refunds SET status = 'sending' WHERE refund_id = :id AND status = 'reserved'")
_END = text(
    "UPDATE rail_refunds SET status = :status, failure = :failure, fee_back_minor = :fee_back, ended_at = :now"
    " WHERE refund_id = :id"
)
_RETRY = text(
    "UPDATE rail_refunds SET status = 'reserved', failure = NULL, ended_at = NULL, next_try_at = :now"
    " WHERE refund_id = :id"
)
_ASK_AGAIN = text(
    "UPDATE rail_returns SET status = 'asked', failure = NULL, attempt = attempt + 1"
    " WHERE refund_id = :id AND status = 'failed'"
)
# What was never asked back is the payee's again.
_NOT_ASKED = text(
    "UPDATE rail_returns SET status = 'failed', failure = 'NOT_ASKED' WHERE refund_id = :id AND status = 'asked'"
)


@dataclass(frozen=True, slots=True)
class _Taking:
    """What a refund takes: from whom of the frozen money, and of which paid shares."""

    frozen: dict[str, int]
    returns: list[tuple[Any, int]]
    lowered: list[tuple[Any, int]]

    @property
    def returned_minor(self) -> int:
        return sum(amount for _, amount in self.returns)


async def reserve_shared_refund(
    session: AsyncSession,
    refund_id: RefundId,
    order_id: OrderId,
    borne: Mapping[str, int],
    *,
    now: datetime,
) -> None:
    """``borne`` is the refund by payee, the merchant included. Again the same: nothing happens.

    Raises ``RailRefundTooLarge``, ``RailShareUnderWay`` (ask again in a minute), ``RailRefundChanged``.
    """
    order = await lock_order(session, order_id)
    amount = sum(borne.values())
    known = (await session.execute(_KNOWN, {"id": refund_id})).first()
    if known is not None:
        if known.amount_minor != amount or OrderId.of(known.order_id) != order_id:
            raise RailRefundChanged(f"{refund_id} was reserved for something else")
        return
    shares = (await session.execute(_SHARES, {"order_id": order_id})).all()
    taking = _taking(order, shares, borne)
    values = {
        "id": refund_id, "order_id": order_id, "merchant_id": order.merchant_id, "rail": order.rail,
        "amount_minor": amount, "returned_minor": taking.returned_minor,
        "taken": orjson.dumps(taking.frozen).decode(), "now": now,
    }  # fmt: skip
    await session.execute(_INSERT, values)
    await _write_taking(session, refund_id, order, taking)
    if taking.frozen:
        legs = _reserved(order, refund_id, taking.frozen, shares)
        await ledger.post(session, _journal(refund_id, order, "reserve", legs, now), now=now)


async def send_shared_refunds(db: Database, *, rails: Mapping[str, SharingRail], clock: Clock) -> int:
    """Sweep: take back what has to come back, then refund. How many were tried."""
    limits = {"now": clock.now(), "wait": ASK_AFTER, "limit": REFUNDS_AT_ONCE, "rails": list(rails)}
    async with db.unit_of_work(SYSTEM) as session:
        refunds = (await session.execute(_CLAIM, limits)).all()
    for refund in refunds:
        await _carry_on(db, refund, rail=rails[refund.rail], clock=clock)
    return len(refunds)


async def retry_shared_refund(session: AsyncSession, refund_id: RefundId, *, now: datetime) -> None:
    """Operator: try a refused refund again, its failed returns under new numbers."""
    await _refused(session, refund_id)
    await session.execute(_ASK_AGAIN, {"id": refund_id})
    await session.execute(_RETRY, {"id": refund_id, "now": now})


async def void_shared_refund(session: AsyncSession, refund_id: RefundId, *, now: datetime) -> None:
    """Operator: this refund will not happen on the rail. What was taken of the frozen money is instructed again;
    what businesses gave back already stays with the merchant."""
    refund, order = await _refused(session, refund_id)
    await session.execute(_NOT_ASKED, {"id": refund_id})
    accounts = await _payees_of(session, order, list(refund.taken))
    held = sum(refund.taken.values())
    legs = mirrored(_reserved(order, refund_id, refund.taken, accounts))
    if order.closed_at is not None:
        # It has gone to the merchant with the rest meanwhile.
        legs = (
            debit(_customer(refund_id, order.currency), held),
            credit(books.frozen(order.rail, order.currency), held),
        )
    if held:
        await ledger.post(session, _journal(refund_id, order, "void", legs, now), now=now)
    await _change_merchant(session, order, refund.taken.get(_merchant(order), 0))
    if refund.changes is not None:
        book = split_of(order)
        give_back(book, refund.changes["moved"])
        book.refunded_minor -= refund.amount_minor
        await keep_split(session, book)
    await _instruct_again(session, order, refund.taken, now)
    await _end(session, refund_id, RailRefundStatus.VOIDED, now, failure=refund.failure)


def _taking(order: Any, shares: Sequence[Any], borne: Mapping[str, int]) -> _Taking:
    merchant = _merchant(order)
    taking = _Taking({}, [], [])
    carried = borne.get(merchant, 0)
    for payee_id, asked in borne.items():
        if payee_id != merchant and asked:
            carried += _take_of(taking, payee_id, asked, [row for row in shares if row.payee_id == payee_id])
    # The rail gives its fee back in proportion, so that the merchant can bear as much more.
    most = order.merchant_minor + order.fee_minor
    if order.closed_at is None and carried > most:
        raise RailRefundTooLarge(merchant, carried, most)
    if carried:
        taking.frozen[merchant] = carried
    return taking if order.closed_at is None else _Taking({}, taking.returns, taking.lowered)


def _take_of(taking: _Taking, payee_id: str, asked: int, rows: Sequence[Any]) -> int:
    """What one payee bears: first of what it was not paid, then of what it was. Returns what the merchant carries
    for an individual, who gives nothing back."""
    unpaid = [row for row in rows if row.request_status in _UNSENT]
    paid = [row for row in rows if row.status == InstructionStatus.PAID]
    most = sum(row.amount_minor for row in unpaid) + sum(_kept(row) for row in paid)
    if len(unpaid) + len(paid) < len(rows):
        raise RailShareUnderWay(payee_id)
    if not 0 < asked <= most:
        raise RailRefundTooLarge(payee_id, asked, most)
    for row in unpaid:
        amount = min(asked, row.amount_minor)
        if amount:
            taking.lowered.append((row, amount))
            taking.frozen[payee_id] = taking.frozen.get(payee_id, 0) + amount
        asked -= amount
    if asked and paid[0].kind == PayeeKind.INDIVIDUAL:
        return asked
    for row in paid:
        amount = min(asked, _kept(row))
        if amount:
            taking.returns.append((row, amount))
        asked -= amount
    return 0


def _kept(row: Any) -> int:
    """Of a share that was paid, what was not asked back yet."""
    return int(row.amount_minor) - int(row.returned_minor)


async def _write_taking(session: AsyncSession, refund_id: RefundId, order: Any, taking: _Taking) -> None:
    for share, amount in taking.lowered:
        where = {"request_id": share.request_id, "payee_id": share.payee_id}
        lowered = await session.execute(_LOWER, {**where, "amount": amount})
        if not lowered.rowcount:  # type: ignore[attr-defined]
            await session.execute(_DROP, where)
    for share, amount in taking.returns:
        values = {
            "refund_id": refund_id, "payee_id": share.payee_id, "request_id": share.request_id,
            "merchant_id": share.merchant_id, "tenant_id": share.tenant_id, "account_id": share.account_id,
            "amount_minor": amount,
        }  # fmt: skip
        await session.execute(_INSERT_RETURN, values)
    await _change_merchant(session, order, -taking.frozen.get(_merchant(order), 0))


async def _change_merchant(session: AsyncSession, order: Any, change: int) -> None:
    if change and order.closed_at is None:
        await session.execute(_MERCHANT, {"order_id": order.order_id, "change": change})


async def _instruct_again(session: AsyncSession, order: Any, taken: Mapping[str, int], now: datetime) -> None:
    """One more request for the payees whose parts were taken; they may have no instruction left."""
    payees = await _payees_of(session, order, [id for id in taken if id != _merchant(order)])
    if not payees or order.closed_at is not None:
        return
    told = tuple(Instruction(row.payee_id, PayeeKind(row.kind), taken[row.payee_id]) for row in payees)
    number = await next_number(session, order.order_id)
    await add_request(session, order, Request(number, now, None, told), payees)


_ACCOUNTS = text(
    "SELECT payee_id, tenant_id, kind, account_id, 1 AS amount_minor, 0 AS days FROM rail_accounts"
    " WHERE rail = :rail AND payee_id = ANY(:ids) ORDER BY payee_id"
)


async def _payees_of(session: AsyncSession, order: Any, payee_ids: Sequence[str]) -> Sequence[Any]:
    return (await session.execute(_ACCOUNTS, {"rail": order.rail, "ids": list(payee_ids)})).all()


async def _carry_on(db: Database, refund: Any, *, rail: SharingRail, clock: Clock) -> None:
    async with db.reading(SYSTEM) as session:
        returns = (await session.execute(_RETURNS, {"id": refund.refund_id})).all()
        order = (await session.execute(_ORDER, {"order_id": refund.order_id})).one()
    try:
        if not await _all_came_back(db, refund, order, returns, rail=rail, clock=clock):
            return
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(_SENDING, {"id": refund.refund_id})
        made = await rail.refund(
            merchant_id=order.merchant_account,
            payment_id=order.payment_id,
            refund_no=str(RefundId.of(refund.refund_id)),
            amount_minor=refund.amount_minor,
            from_available_minor=refund.returned_minor if order.closed_at is None else 0,
        )
    except ProviderRefused as refusal:
        await _refuse(db, refund, refusal.provider_code or refusal.message, clock=clock)
    except (ProviderUnavailable, IdempotencyMismatch):
        return  # asked again under the same numbers at the next sweep
    else:
        await _settle(db, refund, made.fee_back_minor, clock=clock)


_ORDER = text("SELECT * FROM rail_orders WHERE order_id = :order_id")


async def _all_came_back(
    db: Database, refund: Any, order: Any, returns: Sequence[Any], *, rail: SharingRail, clock: Clock
) -> bool:
    """Asks for every return that is not done; False while one has no result, or after one failed.

    After one that failed no further one is asked for; those that are under way have to end before it is refused,
    because what they bring counts.
    """
    failure = next((row.failure for row in returns if row.status == "failed"), None)
    waiting = False
    for place, row in enumerate(returns, 1):
        if row.status != "asked":
            continue
        # A payee gives back of each request that paid it, so its name alone would not do.
        number = f"{RefundId.of(refund.refund_id)}:{place}:{row.attempt}"
        try:
            if failure is None:
                await _ask_back(order, row, number, rail=rail)
            found = await rail.retrieve_return(merchant_id=order.merchant_account, return_no=number)
        except ProviderRefused as refusal:
            failure = refusal.provider_code or refusal.message
            await _end_return(db, order, row, done=False, failure=failure, clock=clock)
            continue
        if found is None:
            continue  # never asked for
        if found.state == "PROCESSING":
            waiting = True
            continue
        done = found.state == "SUCCESS"
        await _end_return(
            db, order, row, done=done, failure=None if done else found.failure or _UNSAID, clock=clock
        )
        if not done:
            failure = found.failure or _UNSAID
    if failure is not None and not waiting:
        await _refuse(db, refund, failure, clock=clock)
    return failure is None and not waiting


async def _ask_back(order: Any, row: Any, number: str, *, rail: SharingRail) -> None:
    await rail.take_back(
        merchant_id=order.merchant_account,
        payment_id=order.payment_id,
        order_no=str(RailRequestId.of(row.request_id)),
        return_no=number,
        account=row.account_id,
        amount_minor=row.amount_minor,
    )


async def _end_return(
    db: Database, order: Any, row: Any, *, done: bool, failure: str | None, clock: Clock
) -> None:
    """Once. What the platform gave back is gone from its own balance there, whatever becomes of the refund."""
    now, refund_id = clock.now(), RefundId.of(row.refund_id)
    values = {
        "id": refund_id, "request_id": row.request_id, "payee_id": row.payee_id,
        "status": "done" if done else "failed", "failure": failure,
    }  # fmt: skip
    async with db.unit_of_work(SYSTEM) as session:
        ended = (await session.execute(_RETURN_ENDED, values)).first()
        if ended is None or not done or row.payee_id != PLATFORM:
            return
        step = f"returned:{RailRequestId.of(row.request_id)}"
        legs = books.fee_returned(order, row.amount_minor)
        await ledger.post(session, _journal(refund_id, order, step, legs, now), now=now)


async def _settle(db: Database, claimed: Any, fee_back_minor: int, *, clock: Clock) -> None:
    now, id = clock.now(), RefundId.of(claimed.refund_id)
    async with db.unit_of_work(SYSTEM) as session:
        order = await lock_order(session, claimed.order_id)
        refund = (await session.execute(_KNOWN, {"id": id})).one()
        if refund.status != RailRefundStatus.SENDING:
            return
        if held := sum(refund.taken.values()):
            # Of money that went to the merchant meanwhile, the fee comes back to it there; and what of the fee is more
            # than the frozen money gave is with it too.
            back = min(fee_back_minor, held) if order.closed_at is None else 0
            await _change_merchant(session, order, back)
            legs = (
                debit(_customer(id, order.currency), held),
                credit(books.frozen(order.rail, order.currency), held - back),
                credit(books.entitled_merchant(order), back),
            )
            await ledger.post(session, _journal(id, order, "settle", legs, now), now=now)
        await _end(session, id, RailRefundStatus.SETTLED, now, fee_back=fee_back_minor)
        told = RailRefundSettled(id, OrderId.of(refund.order_id), refund.amount_minor, now)
        await outbox.record(session, told)


async def _refuse(db: Database, refund: Any, reason: str, *, clock: Clock) -> None:
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        known = (await session.execute(_KNOWN, {"id": refund.refund_id})).one()
        if known.status not in (RailRefundStatus.RESERVED, RailRefundStatus.SENDING):
            return
        await _end(session, refund.refund_id, RailRefundStatus.REFUSED, now, failure=reason)
        id, order_id = RefundId.of(refund.refund_id), OrderId.of(refund.order_id)
        await outbox.record(session, RailRefundRefused(id, order_id, reason, now))


async def _end(
    session: AsyncSession,
    refund_id: Any,
    status: RailRefundStatus,
    now: datetime,
    *,
    failure: str | None = None,
    fee_back: int = 0,
) -> None:
    values = {"id": refund_id, "status": status.value, "now": now, "failure": failure, "fee_back": fee_back}
    await session.execute(_END, values)


async def _refused(session: AsyncSession, refund_id: RefundId) -> tuple[Any, Any]:
    """The order's row first, as everywhere."""
    found = (await session.execute(_ORDER_OF, {"id": refund_id})).first()
    if found is None:
        raise RailRefundNotRefused(f"{refund_id} is unknown")
    order = await lock_order(session, found.order_id)
    refund = (await session.execute(_KNOWN, {"id": refund_id})).one()
    if refund.status != RailRefundStatus.REFUSED:
        raise RailRefundNotRefused(f"{refund_id} is {refund.status}")
    return refund, order


def _reserved(
    order: Any, refund_id: RefundId, taken: Mapping[str, int], shares: Sequence[Any]
) -> tuple[Leg, ...]:
    """Whose part of the frozen money the customer gets."""
    tenants = {row.payee_id: row.tenant_id for row in shares}
    legs = [
        debit(books.of_payee(Code.RAIL_ENTITLED, payee_id, order.currency, tenants.get(payee_id)), amount)
        for payee_id, amount in taken.items()
        if payee_id != _merchant(order)
    ]
    if carried := taken.get(_merchant(order), 0):
        legs.append(debit(books.entitled_merchant(order), carried))
    return merged((*legs, credit(_customer(refund_id, order.currency), sum(taken.values()))))


def _customer(refund_id: RefundId, currency: str) -> AccountKey:
    return AccountKey(Code.RAIL_INSTRUCTED, f"customer:{refund_id}", currency)


def _merchant(order: Any) -> str:
    return str(BrandId.of(order.merchant_id))


_KINDS = {
    "reserve": RailKind.REFUND_RESERVED,
    "settle": RailKind.REFUND_SETTLED,
    "void": RailKind.REFUND_VOIDED,
    "returned": RailKind.FEE_RETURNED,
}


def _journal(refund_id: RefundId, order: Any, step: str, legs: Sequence[Leg], now: datetime) -> Journal:
    order_id, id = OrderId.of(order.order_id), RefundId.of(refund_id)
    return Journal(f"rail:{id}:{step}", _KINDS[step.partition(":")[0]], merged(legs), now, order_id, str(id))
