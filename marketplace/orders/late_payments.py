"""A payment that came after its order was given up goes back whole, however often that takes.

What came back from the customer's bank is owed again at once, and sent again later: an hour after the first attempt,
longer each time. What somebody gave back at the provider, past us, counts, and so does what the customer's bank took
back for it: a dispute that is lost. While one is open nothing is sent. After ``TRIES`` attempts of ours the rest is
owed (2100, an aged item of the reconciliation) until somebody gives it back there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.errors import LianyuError
from core.ids import PaymentId
from core.money import Money
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.gateway import Charge, PaymentGateway, Refund
from marketplace.orders.events import PaymentCameLate
from supply.settlement.disputes.events import DisputeWon
from supply.settlement.late_payments import SentBack, Standing, post_late_payment

TRIES = 8
"""With the pauses between them more than three days."""
FIRST_PAUSE, LONGEST_PAUSE = timedelta(hours=1), timedelta(days=1)
_BATCH = 50
_OURS = "late_payment"
_FAILED = frozenset({"failed", "canceled"})
log = structlog.get_logger("late payments")

_OF_CHARGE = text(
    "SELECT id FROM payments WHERE came_late_at IS NOT NULL AND (charge_id = :charge OR intent_id = :intent)"
)
_LOCK = text("SELECT FROM payments WHERE id = :id FOR UPDATE")
_STANDS = text(
    "UPDATE payments SET refunded_minor = captured_minor - :kept, give_back_at = :again, status ="
    " CASE :kept WHEN 0 THEN 'refunded' WHEN captured_minor THEN 'paid' ELSE 'partially_refunded' END WHERE id = :id"
)
_OWED_AGAIN = text(
    "UPDATE payments SET give_back_at = :now WHERE came_late_at IS NOT NULL AND charge_id = :charge"
)
_CLAIM = text(
    "UPDATE payments SET give_back_at = CAST(:now AS timestamptz) + CAST(:pause AS interval) WHERE id IN ("
    "SELECT id FROM payments WHERE give_back_at <= :now ORDER BY give_back_at, id LIMIT :batch"
    " FOR NO KEY UPDATE SKIP LOCKED) RETURNING id, charge_id"
)


async def late_payment_of(
    session: AsyncSession, *, charge_id: str | None, intent_id: str | None
) -> PaymentId | None:
    """The payment that a charge was, if it came late."""
    found = (await session.execute(_OF_CHARGE, {"charge": charge_id, "intent": intent_id})).scalar()
    return None if found is None else PaymentId.of(found)


async def on_payment_came_late(
    db: Database, event: PaymentCameLate, *, payments: PaymentGateway, clock: Clock
) -> None:
    await give_back(db, event.payment_id, event.charge_id, payments=payments, clock=clock)


async def on_dispute_won(session: AsyncSession, event: DisputeWon, *, clock: Clock) -> None:
    """What losing it had brought the customer, it is owed again."""
    await session.execute(_OWED_AGAIN, {"charge": event.charge_id, "now": clock.now()})


async def sweep_late_payments(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Send again what came back, and what nobody heard of. Returns how many were looked at."""
    async with db.unit_of_work(SYSTEM) as session:
        claim = {"now": clock.now(), "pause": FIRST_PAUSE, "batch": _BATCH}
        rows = (await session.execute(_CLAIM, claim)).all()
    for row in rows:
        payment_id = PaymentId.of(row.id)
        try:
            await give_back(db, payment_id, row.charge_id, payments=payments, clock=clock)
        except ProviderUnavailable:
            continue
        except LianyuError as error:  # of its own: the others are tried
            log.error(
                "a late payment is stuck", payment=str(payment_id), why=f"{error.code}: {error.message}"
            )
    return len(rows)


async def give_back(
    db: Database, payment_id: PaymentId, charge_id: str, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Look up what went back, send the rest when it is time, and book all of it. Safe to repeat, at once too: the
    rest is asked for whole, and the provider gives no more back than was paid. Raises ``ProviderUnavailable``."""
    charge = await payments.retrieve_charge(charge_id)
    known = list(reversed(await payments.find_refunds(charge_id)))
    stands = await _book(db, payment_id, charge, known, again=clock.now() + FIRST_PAUSE, clock=clock)
    sending = sum(each.amount_minor for each in known if _is_on_its_way(each))
    rest = stands.owed_minor - sending
    mine = [each for each in known if _OURS in each.metadata]
    again = _next_time(mine, clock.now()) if rest > 0 and not stands.disputed else clock.now() + LONGEST_PAUSE
    if again is not None and again <= clock.now():
        sent = await _send(payment_id, charge, rest, len(mine) + 1, payments=payments)
        known += [] if sent is None else [sent]
        again = clock.now() + (LONGEST_PAUSE if sent is None else FIRST_PAUSE)
    elif again is None:
        log.error("a late payment cannot be given back", payment=str(payment_id), charge=charge_id, rest=rest)
    await _book(db, payment_id, charge, known, again, clock=clock)


def _is_on_its_way(refund: Refund) -> bool:
    """Asked for, and its money has not left yet: the ledger does not know of it."""
    return refund.status not in _FAILED and not refund.balance_transaction_id


def _next_time(mine: Sequence[Refund], now: datetime) -> datetime | None:
    """When to send again after these attempts; None when there were enough."""
    if not mine:
        return now
    if len(mine) >= TRIES:
        return None
    return mine[-1].created_at + min(FIRST_PAUSE * (1 << len(mine) - 1), LONGEST_PAUSE)


async def _send(
    payment_id: PaymentId, charge: Charge, rest: int, attempt: int, *, payments: PaymentGateway
) -> Refund | None:
    """None when the provider refuses to, because of a dispute for instance."""
    try:
        return await payments.refund(
            charge_or_intent=charge.id,
            amount_minor=rest,
            key=f"late:{payment_id}" if attempt == 1 else f"late:{payment_id}:a{attempt}",
            metadata={_OURS: str(payment_id)},
        )
    except (ProviderRefused, IdempotencyMismatch) as refused:
        log.error("a late payment was not given back", payment=str(payment_id), why=str(refused))
        return None


async def _book(
    db: Database,
    payment_id: PaymentId,
    charge: Charge,
    known: Sequence[Refund],
    again: datetime | None,
    *,
    clock: Clock,
) -> Standing:
    """The ledger decides what is still owed: somebody else may have seen more than we have."""
    left = [
        SentBack(each.id, each.amount_minor, failed=each.status in _FAILED)
        for each in known
        if each.balance_transaction_id
    ]
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_LOCK, {"id": payment_id})
        stands = await post_late_payment(
            session, charge_id=charge.id, amount=Money(charge.amount_minor, charge.currency), sent_back=left,
            captured_at=charge.created_at, now=clock.now(),
        )  # fmt: skip
        values: dict[str, Any] = {
            "id": payment_id, "kept": stands.owed_minor + stands.charged_back_minor,
            "again": again if stands.owed_minor else None,
        }  # fmt: skip
        await session.execute(_STANDS, values)
    return stands
