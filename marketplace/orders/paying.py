"""Talks to the payment provider about checkouts. No call is made inside a transaction.

Every call has a key fixed by what it is for, so a retry, a second worker or a crash in between has one effect.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import CheckoutId
from core.money import Money
from infra.db.session import Database
from infra.payments.errors import ProviderRefused, ProviderUnavailable
from infra.payments.gateway import IntentStatus, PaymentGateway
from marketplace.orders import payment
from marketplace.orders.errors import CheckoutNotOpen, PaymentUnavailable, ReservationExpired
from marketplace.orders.events import CheckoutExpired, ProviderNotified
from marketplace.orders.models import CheckoutStatus
from marketplace.orders.payment import Captured, PaymentRow

_BATCH = 100
_QUIET_FOR = timedelta(minutes=10)


async def ask(
    db: Database,
    checkout_id: CheckoutId,
    row: PaymentRow | None,
    *,
    payments: PaymentGateway,
    clock: Clock,
) -> PaymentRow:
    """The payment of a placed checkout (``row``, as it was read), with an intent the shopper can pay.

    Safe to repeat. Raises ``ReservationExpired``, ``CheckoutNotOpen`` and ``PaymentUnavailable`` (the order
    stands).
    """
    if row is None:
        raise CheckoutNotOpen(checkout_id, CheckoutStatus.OPEN)
    if row.intent_id is not None:
        return row
    if row.checkout_status is not CheckoutStatus.PLACED:
        raise CheckoutNotOpen(checkout_id, row.checkout_status)
    if row.expires_at is not None and row.expires_at <= clock.now():
        raise ReservationExpired(row.expires_at)
    try:
        intent = await payments.create_intent(
            order_ref=str(checkout_id),
            amount_minor=row.amount.amount_minor,
            currency=row.amount.currency,
            key=f"intent:{checkout_id}",
        )
    except (ProviderUnavailable, ProviderRefused) as error:
        raise PaymentUnavailable("the payment provider does not answer; ask again") from error
    async with db.unit_of_work(SYSTEM) as session:
        await payment.set_intent(
            session, checkout_id, intent_id=intent.id, client_secret=intent.client_secret
        )
    # Whoever else asked meanwhile got the same intent: its key is fixed by the checkout.
    return replace(row, intent_id=intent.id, client_secret=intent.client_secret)


def pay_url(row: PaymentRow, *, payments: PaymentGateway) -> str | None:
    """The provider's own page for a payment, where it has one."""
    if row.intent_id is None or row.client_secret is None:
        return None
    return payments.pay_page_url(row.intent_id, row.client_secret)


async def on_intent(
    db: Database, notice: ProviderNotified, *, payments: PaymentGateway, clock: Clock
) -> None:
    """An intent may have been paid."""
    await refresh_intent(db, notice.object_id, payments=payments, clock=clock)


async def refresh_intent(db: Database, intent_id: str, *, payments: PaymentGateway, clock: Clock) -> bool:
    """Look an intent up and record a capture. True when it was news."""
    intent = await payments.retrieve_intent(intent_id)
    if intent.status is not IntentStatus.SUCCEEDED or intent.latest_charge_id is None:
        return False
    charge = await payments.retrieve_charge(intent.latest_charge_id)
    captured = Captured(
        intent_id=intent.id,
        charge_id=charge.id,
        amount=Money(charge.amount_minor, charge.currency),
        instrument_key=charge.instrument,
        at=charge.created_at,
    )
    async with db.unit_of_work(SYSTEM) as session:
        return await payment.record_captured(session, captured, clock=clock)


async def on_checkout_expired(
    db: Database, event: CheckoutExpired, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Take the intent back, so that nobody pays for stock that was given back.

    One that was paid after all cannot be taken back: the payment is recorded, as late, and returned.
    """
    if event.intent_id is None:
        return
    try:
        await payments.cancel_intent(event.intent_id, key=f"cancel:{event.intent_id}")
    except ProviderRefused:
        await refresh_intent(db, event.intent_id, payments=payments, clock=clock)


async def sweep_checkouts(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Give up placed checkouts whose hold ran out, unless the provider says that they were paid.

    While the provider does not answer their stock stays held: nobody knows whether it is sold.
    """
    async with db.reading(SYSTEM) as session:
        due = await payment.due_checkouts(session, now=clock.now(), batch=_BATCH)
    done = 0
    for checkout_id in due:
        with contextlib.suppress(ProviderUnavailable):
            if not await _paid_unheard(db, checkout_id, payments=payments, clock=clock):
                async with db.unit_of_work(SYSTEM) as session:
                    await payment.expire(session, checkout_id, clock=clock)
            done += 1
    return done


async def _paid_unheard(
    db: Database, checkout_id: CheckoutId, *, payments: PaymentGateway, clock: Clock
) -> bool:
    """Whether a checkout was paid and the webhook that says so never came."""
    async with db.reading(SYSTEM) as session:
        row = await payment.of_checkout(session, checkout_id)
    if row is None or row.intent_id is None:
        return False
    return await refresh_intent(db, row.intent_id, payments=payments, clock=clock)


async def sweep_payments(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Look up intents whose webhook may never have come. Returns how many turned out paid."""
    async with db.reading(SYSTEM) as session:
        quiet = await payment.quiet_intents(session, before=clock.now() - _QUIET_FOR, batch=_BATCH)
    news = [await refresh_intent(db, intent_id, payments=payments, clock=clock) for intent_id in quiet]
    return sum(news)
