"""Refunds at the provider: asked under a fixed key, settled or undone by whatever it says, looked up when it is silent.

The answer, a webhook and the sweep all end in ``apply_provider_refund``, which acts once. A refund the provider takes
from our balance and leaves pending (a slow bank, a payer who must act) is booked when its money goes and decided when
it says so, days later perhaps. A bank may send a refund back long after it succeeded. A refund somebody made at the
provider, past us, becomes one of ours.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import OrderId, PaymentId, RefundId
from core.money import Money, allocate_remaining
from infra import outbox
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.gateway import PaymentGateway
from infra.payments.gateway import Refund as ProviderRefund
from marketplace.orders import late_payments, refund_commission, refunding
from marketplace.orders.errors import NotYet
from marketplace.orders.events import (
    ProviderNotified,
    RefundFailed,
    RefundRequested,
    RefundSettled,
)
from marketplace.orders.models import RefundCause, RefundStatus
from marketplace.orders.refunding import RefundCommand, lines_of_json
from marketplace.promotion.commission.reversal import lock_lines
from supply.settlement import refunds as settlement
from supply.settlement.at_source import owed_again
from supply.settlement.composition import RefundTooLarge
from supply.settlement.errors import NothingToRefund, OrderDisputed

LOOK_UP_AFTER = timedelta(minutes=10)
"""A refund without an answer is looked up this long after each try, later each time."""
EQUAL_ANSWERS = 3
"""A provider that stored a failure under a key replays it: after so many tries a new key is due."""
_BATCH = 50
log = structlog.get_logger("refunds")
_FINAL_YES, _FINAL_NO = "succeeded", frozenset({"failed", "canceled"})
_PROVIDERS_REASONS = frozenset(
    {RefundCause.DUPLICATE, RefundCause.FRAUDULENT, RefundCause.REQUESTED_BY_CUSTOMER}
)

_LOCK_REFUND = text(
    "SELECT r.*, p.charge_id FROM refunds r JOIN payments p ON p.id = r.payment_id WHERE r.id = :id"
    " FOR UPDATE OF r"
)
_SENDING = text(
    "UPDATE refunds SET tries = tries + 1, first_sent_at = coalesce(first_sent_at, :now),"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * (tries + 1)"
    " WHERE id = :id AND status = 'pending'"
)
_NEW_KEY = text(
    "UPDATE refunds SET attempt = attempt + 1, tries = 0, first_sent_at = :now WHERE id = :id AND status = 'pending'"
)
_UNANSWERED = text(
    "WITH claimed AS (UPDATE refunds"
    " SET next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * (tries + 1)"
    " WHERE id IN (SELECT id FROM refunds WHERE status = 'pending' AND next_try_at <= :now"
    " AND created_at <= :before ORDER BY next_try_at, id LIMIT :batch FOR NO KEY UPDATE SKIP LOCKED)"
    " RETURNING id, order_id) SELECT id, order_id FROM claimed ORDER BY id"
)
_END = text(
    "UPDATE refunds SET status = :status, provider_id = :provider, failure = :failure, settled_at = :now"
    " WHERE id = :id"
)
_PAYMENT_REFUNDED = text(
    "UPDATE payments SET refunded_minor = refunded_minor + :amount, status ="
    " CASE WHEN refunded_minor + :amount >= captured_minor THEN 'refunded'"
    " WHEN refunded_minor + :amount > 0 THEN 'partially_refunded' ELSE 'paid' END WHERE id = :id"
)
_OF_PROVIDER = text("SELECT id FROM refunds WHERE provider_id = :id ORDER BY id")
_ADOPTED = text("UPDATE refunds SET provider_id = :provider WHERE id = :id")
_PAYMENT = text(
    "SELECT p.id, p.currency, array_agg(o.id ORDER BY o.id) AS orders FROM payments p"
    " JOIN orders o ON o.checkout_id = p.checkout_id WHERE p.captured_minor > 0"
    " AND (p.charge_id = :charge OR p.intent_id = :intent) GROUP BY p.id, p.currency"
)


async def on_refund_requested(
    db: Database, event: RefundRequested, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Ask the provider. Raises ``ProviderUnavailable`` for the worker to try again under the same key."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": event.refund_id})).one()
        if refund.status != RefundStatus.PENDING or _forgotten(refund, payments, now):
            return
        await session.execute(_SENDING, {"id": event.refund_id, "now": now, "wait": LOOK_UP_AFTER})
    try:
        answer = await payments.refund(
            charge_or_intent=refund.charge_id,
            amount_minor=refund.amount_minor,
            key=refund_key(event.refund_id, refund.attempt),
            metadata={"refund": str(event.refund_id)},
            reason=refund.cause if refund.cause in _PROVIDERS_REASONS else None,
        )
    except ProviderRefused as refused:
        await _fail(db, event.refund_id, provider_id=None, why=refused.message, clock=clock)
        return
    except IdempotencyMismatch as reused:
        # A bug of ours, and asking again would only repeat it: somebody has to look.
        log.error("refund's key was used for another body", refund=str(event.refund_id), key=reused.key)
        return
    await apply_provider_refund(db, event.refund_id, answer, clock=clock)


def refund_key(refund_id: RefundId, attempt: int) -> str:
    return f"refund:{refund_id}" if attempt == 1 else f"refund:{refund_id}:a{attempt}"


async def on_refund(
    db: Database, notice: ProviderNotified, *, payments: PaymentGateway, clock: Clock
) -> None:
    """A webhook named a refund at the provider: look it up and apply what it says now."""
    found = await payments.retrieve_refund(notice.object_id)
    ours = found.metadata.get("refund", "")
    if ours.startswith(f"{RefundId.prefix}_"):
        await apply_provider_refund(db, RefundId.parse(ours), found, clock=clock)
    elif not (
        await _of_late_payment(db, found, payments=payments, clock=clock)
        or await _of_debt_payment(db, found, clock=clock)
    ):
        await _adopt(db, found, clock=clock)


async def _of_late_payment(
    db: Database, found: ProviderRefund, *, payments: PaymentGateway, clock: Clock
) -> bool:
    """Whoever made it: what of such a payment is back is looked up anew."""
    async with db.reading(SYSTEM) as session:
        late = await late_payments.late_payment_of(
            session, charge_id=found.charge_id, intent_id=found.intent_id
        )
    if late is None or found.charge_id is None:
        return False
    await late_payments.give_back(db, late, found.charge_id, payments=payments, clock=clock)
    return True


async def _of_debt_payment(db: Database, found: ProviderRefund, *, clock: Clock) -> bool:
    """Somebody gave back at the provider what a party had paid of its debt."""
    if found.charge_id is None or found.balance_transaction_id is None:
        return False
    async with db.unit_of_work(SYSTEM) as session:
        return await owed_again.book_refund(
            session, found.charge_id, Money(found.amount_minor, found.currency), refund_ref=found.id,
            failed=found.status in _FINAL_NO, now=clock.now(),
        )  # fmt: skip


async def apply_provider_refund(
    db: Database, refund_id: RefundId, answer: ProviderRefund, *, clock: Clock
) -> None:
    if answer.status == _FINAL_YES:
        await _succeed(db, refund_id, provider_id=answer.id, clock=clock)
    elif answer.status in _FINAL_NO:
        await _fail(
            db, refund_id, provider_id=answer.id, why=answer.failure_reason or answer.status, clock=clock
        )
    elif answer.balance_transaction_id is not None:
        await _leave(db, refund_id, provider_id=answer.id, clock=clock)


async def _leave(db: Database, refund_id: RefundId, *, provider_id: str, clock: Clock) -> None:
    """R5b at the moment the money leaves our balance; whether the customer gets it is not decided."""
    async with db.unit_of_work(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": refund_id})).first()
        if refund is None or refund.status != RefundStatus.PENDING:
            return
        await settlement.settle_refund(session, refund_id, now=clock.now(), provider_ref=provider_id)
        await session.execute(_ADOPTED, {"id": refund_id, "provider": provider_id})


async def _succeed(db: Database, refund_id: RefundId, *, provider_id: str, clock: Clock) -> None:
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": refund_id})).first()
        if refund is None or refund.status != RefundStatus.PENDING:
            return
        order_id = OrderId.of(refund.order_id)
        await lock_lines(session, [order_id])
        await settlement.settle_refund(session, refund_id, now=now, provider_ref=provider_id)
        await refund_commission.take(session, refund_id, clock=clock)
        await _end(session, refund_id, RefundStatus.SUCCEEDED, provider_id, None, now)
        await _payment_refunded(session, refund, refund.amount_minor)
        settled = RefundSettled(
            refund_id=refund_id, order_id=order_id, amount_minor=refund.amount_minor, currency=refund.currency,
            at=now,
        )  # fmt: skip
        await outbox.record(session, settled)


async def _fail(
    db: Database, refund_id: RefundId, *, provider_id: str | None, why: str, clock: Clock
) -> None:
    """Undo it, also when it had succeeded: the bank may send money back months later."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": refund_id})).first()
        if refund is None or refund.status == RefundStatus.FAILED:
            return
        if refund.provider_id not in (None, provider_id):
            return  # another try of this refund failed; the one that counts did not
        order_id = OrderId.of(refund.order_id)
        await refunding.lock_orders(session, [order_id])
        await refund_commission.give_back(session, refund_id, clock=clock)
        await settlement.void_refund(session, refund_id, now=now, provider_ref=provider_id)
        await refund_commission.deny_again(session, order_id, clock=clock)
        await refunding.change_lines(session, lines_of_json(refund.lines), sign=-1)
        await refunding.change_order(session, order_id, -refund.amount_minor)
        if refund.status == RefundStatus.SUCCEEDED:
            await _payment_refunded(session, refund, -refund.amount_minor)
        await _end(session, refund_id, RefundStatus.FAILED, provider_id, why[: refunding.LONGEST_REASON], now)
        await outbox.record(session, RefundFailed(refund_id=refund_id, order_id=order_id, at=now))


async def _payment_refunded(session: AsyncSession, refund: Any, amount_minor: int) -> None:
    values = {"id": PaymentId.of(refund.payment_id), "amount": amount_minor}
    await session.execute(_PAYMENT_REFUNDED, values)


async def _end(
    session: AsyncSession,
    refund_id: RefundId,
    status: RefundStatus,
    provider_id: str | None,
    failure: str | None,
    now: datetime,
) -> None:
    values = {
        "id": refund_id, "status": status.value, "provider": provider_id, "failure": failure, "now": now,
    }  # fmt: skip
    await session.execute(_END, values)


async def sweep_refunds(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Refunds the provider has not decided: look them up, and ask again if it knows none. How many ended."""
    now = clock.now()
    claim = {"now": now, "before": now - LOOK_UP_AFTER, "wait": LOOK_UP_AFTER, "batch": _BATCH}
    async with db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_UNANSWERED, claim)).all()
    done = 0
    for row in rows:
        with contextlib.suppress(ProviderUnavailable, IdempotencyMismatch):
            await _chase(db, RefundId.of(row.id), OrderId.of(row.order_id), payments=payments, clock=clock)
        async with db.reading(SYSTEM) as session:
            after = (await session.execute(_LOCK_REFUND, {"id": RefundId.of(row.id)})).one()
        done += after.status != RefundStatus.PENDING
    return done


async def _chase(
    db: Database, refund_id: RefundId, order_id: OrderId, *, payments: PaymentGateway, clock: Clock
) -> None:
    async with db.reading(SYSTEM) as session:
        refund = (await session.execute(_LOCK_REFUND, {"id": refund_id})).one()
    for known in await payments.find_refunds(refund.charge_id):
        if known.id == refund.provider_id or known.metadata.get("refund") == str(refund_id):
            await apply_provider_refund(db, refund_id, known, clock=clock)
            return
    if refund.provider_id is not None:
        return  # it was made past us, and is not ours to make again
    await _fresh_key_when_due(db, refund, payments, clock.now())
    event = RefundRequested(refund_id=refund_id, order_id=order_id, at=clock.now())
    await on_refund_requested(db, event, payments=payments, clock=clock)


def _forgotten(refund: Any, payments: PaymentGateway, now: datetime) -> bool:
    """Whether the provider may not know the key any more. A message that comes again after days must not be the
    second refund: the sweep looks first."""
    first = refund.first_sent_at or now
    return bool(now - first >= timedelta(hours=payments.capabilities().idempotency_hours))


async def _fresh_key_when_due(db: Database, refund: Any, payments: PaymentGateway, now: datetime) -> None:
    """The look-up has found nothing: past the key's memory, or after equal failures, a new key is safe."""
    if _forgotten(refund, payments, now) or refund.tries >= EQUAL_ANSWERS:
        async with db.unit_of_work(SYSTEM) as session:
            await session.execute(_NEW_KEY, {"id": RefundId.of(refund.id), "now": now})


async def _adopt(db: Database, found: ProviderRefund, *, clock: Clock) -> None:
    """A refund made past us: shared by amount over the charge's orders. Raises ``NotYet``."""
    async with db.unit_of_work(SYSTEM) as session:
        where = {"charge": found.charge_id, "intent": found.intent_id}
        payment = (await session.execute(_PAYMENT, where)).first()
        if payment is None:
            raise NotYet("the refunded charge is not in the books")
        orders = [OrderId.of(each) for each in payment.orders]
        await refunding.lock_orders(session, orders)  # who hears of it too waits here, and finds it known
        known = (await session.execute(_OF_PROVIDER, {"id": found.id})).scalars().all()
        if not known and found.status not in _FINAL_NO:
            known = await _share_out(session, found, orders, clock=clock)
    for refund_id in known:
        await apply_provider_refund(db, RefundId.of(refund_id), found, clock=clock)


async def _share_out(
    session: AsyncSession, found: ProviderRefund, orders: list[OrderId], *, clock: Clock
) -> list[RefundId]:
    """What a customer was owed for an order goes first, then its parties' shares."""
    kept = await settlement.kept_by_customers(session, orders)
    room = [max(each.amount_minor, 0) for each in kept.values()]
    if found.amount_minor > sum(room):
        raise NotYet("more was refunded than the orders hold")
    made = []
    for order_id, amount in zip(kept, allocate_remaining(found.amount_minor, room), strict=True):
        for command in _made_at_provider(found, order_id, amount, kept[order_id].owed_minor):
            try:
                refund_id = await refunding.record(session, SYSTEM, command, clock=clock)
            except (OrderDisputed, RefundTooLarge, NothingToRefund) as refused:
                raise NotYet(refused.message) from refused
            await session.execute(_ADOPTED, {"id": refund_id, "provider": found.id})
            made.append(refund_id)
    return made


def _made_at_provider(
    found: ProviderRefund, order_id: OrderId, amount_minor: int, owed_minor: int
) -> list[RefundCommand]:
    owed = min(amount_minor, owed_minor)
    parts = ((owed, True, f"{found.id}:owed"), (amount_minor - owed, False, found.id))
    return [
        RefundCommand(
            order_id, amount=Money(amount, found.currency), reason="made at the provider",
            cause=RefundCause.MADE_AT_PROVIDER, goodwill=goodwill, reference=reference,
        )
        for amount, goodwill, reference in parts
        if amount
    ]  # fmt: skip
