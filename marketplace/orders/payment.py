"""Payment state of a checkout: asked for, captured once, given up when the hold runs out.

The provider's word reaches us as a webhook, as our own look-up, or both, in any order and number. All of them
end in ``record_captured``, which acts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.clock import Clock
from core.ids import CheckoutId, OrderId, PaymentId, ReservationId
from core.money import Money
from infra import outbox
from marketplace.orders.events import CheckoutExpired, PaymentCameLate, PaymentCaptured
from marketplace.orders.models import CheckoutStatus, PaymentStatus
from marketplace.promotion.coupons import codes as coupons
from supply.inventory import queries as stock
from supply.inventory import reservations as inventory

_SET_INTENT = text(
    "UPDATE payments SET intent_id = :intent, client_secret = :secret"
    " WHERE checkout_id = :checkout AND intent_id IS NULL"
)
_PAYMENT = (
    "SELECT p.id, p.checkout_id, p.amount_minor, p.captured_minor, p.currency, p.status, p.intent_id,"
    " p.client_secret, c.status AS checkout_status, c.expires_at"
    " FROM payments p JOIN checkouts c ON c.id = p.checkout_id"
)
_BY_CHECKOUT = text(f"{_PAYMENT} WHERE p.checkout_id = :checkout")
_LOCK_BY_INTENT = text(f"{_PAYMENT} WHERE p.intent_id = :intent FOR UPDATE OF p, c")
_LOCK_BY_CHECKOUT = text(f"{_PAYMENT} WHERE p.checkout_id = :checkout FOR UPDATE OF p, c")
_CAPTURED = text(
    "UPDATE payments SET status = 'paid', captured_minor = :amount, charge_id = :charge, captured_at = :now,"
    " instrument_key = :instrument WHERE id = :id"
)
# Its handler gives it back; should the message be lost, the sweep does when it has not been done by then.
_CAME_LATE = text(
    "UPDATE payments SET came_late_at = :now, give_back_at = CAST(:now AS timestamptz) + interval '10 minutes'"
    " WHERE id = :id"
)
_CHECKOUT_PAID = text("UPDATE checkouts SET status = 'paid', paid_at = :now WHERE id = :id")
_ORDERS_PAID = text(
    "WITH paid AS (UPDATE orders SET payment_status = 'paid', paid_at = :now, version = version + 1"
    " WHERE checkout_id = :id RETURNING id) SELECT id FROM paid ORDER BY id"
)
_CHECKOUT_ENDED = text("UPDATE checkouts SET status = :status WHERE id = :id")
_ORDERS_VOID = text(
    "UPDATE orders SET payment_status = 'voided', fulfillment_status = 'cancelled', version = version + 1"
    " WHERE checkout_id = :id RETURNING id"
)
_PAYMENT_VOID = text("UPDATE payments SET status = 'voided' WHERE id = :id")
_DUE = text(
    "SELECT id FROM checkouts WHERE status = 'placed' AND expires_at <= :now ORDER BY expires_at, id LIMIT :batch"
)
_QUIET = text(
    "SELECT intent_id FROM payments WHERE status = 'pending' AND intent_id IS NOT NULL"
    " AND created_at <= :before ORDER BY created_at, id LIMIT :batch"
)


@dataclass(frozen=True, slots=True)
class PaymentRow:
    id: PaymentId
    checkout_id: CheckoutId
    amount: Money
    captured_minor: int
    status: PaymentStatus
    intent_id: str | None
    client_secret: str | None
    checkout_status: CheckoutStatus
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Captured:
    """What the provider says of a paid intent."""

    intent_id: str
    charge_id: str
    amount: Money
    instrument_key: str | None
    at: datetime


async def of_checkout(session: AsyncSession, checkout_id: CheckoutId) -> PaymentRow | None:
    return _row((await session.execute(_BY_CHECKOUT, {"checkout": checkout_id})).first())


async def set_intent(
    session: AsyncSession, checkout_id: CheckoutId, *, intent_id: str, client_secret: str
) -> None:
    """Remember the provider's intent. The fixed key makes a second call bring the same one."""
    values = {"checkout": checkout_id, "intent": intent_id, "secret": client_secret}
    await session.execute(_SET_INTENT, values)


async def record_captured(session: AsyncSession, captured: Captured, *, clock: Clock) -> bool:
    """The checkout is paid: stock is committed and the orders go on. False when it was known.

    Paid after the hold ran out, the money goes straight back instead (``PaymentCameLate``): the stock may be
    somebody else's by now.
    """
    payment = _row((await session.execute(_LOCK_BY_INTENT, {"intent": captured.intent_id})).first())
    if payment is None or payment.captured_minor:
        return False
    now = clock.now()
    values = {
        "id": payment.id, "amount": captured.amount.amount_minor, "charge": captured.charge_id,
        "now": captured.at, "instrument": captured.instrument_key,
    }  # fmt: skip
    await session.execute(_CAPTURED, values)
    if payment.checkout_status is not CheckoutStatus.PLACED:
        await session.execute(_CAME_LATE, {"id": payment.id, "now": now})
        late = PaymentCameLate(
            checkout_id=payment.checkout_id,
            payment_id=payment.id,
            charge_id=captured.charge_id,
            amount_minor=captured.amount.amount_minor,
            currency=captured.amount.currency,
            at=now,
        )
        await outbox.record(session, late)
        return True
    await session.execute(_CHECKOUT_PAID, {"id": payment.checkout_id, "now": captured.at})
    rows = await session.execute(_ORDERS_PAID, {"id": payment.checkout_id, "now": captured.at})
    order_ids = tuple(sorted(OrderId.of(row.id) for row in rows))
    # The checkout still stands, so its stock was not given back: a hold a moment past its time counts.
    await inventory.commit(session, await _held(session, payment.checkout_id), now=now, late_is_fine=True)
    paid = PaymentCaptured(
        checkout_id=payment.checkout_id,
        payment_id=payment.id,
        order_ids=order_ids,
        charge_id=captured.charge_id,
        amount_minor=captured.amount.amount_minor,
        currency=captured.amount.currency,
        at=captured.at,
    )
    await outbox.record(session, paid)
    return True


async def expire(session: AsyncSession, checkout_id: CheckoutId, *, clock: Clock) -> bool:
    """Give the stock of an unpaid checkout back and void its orders. False when it was paid meanwhile."""
    payment = _row((await session.execute(_LOCK_BY_CHECKOUT, {"checkout": checkout_id})).first())
    if payment is None or payment.checkout_status is not CheckoutStatus.PLACED or payment.captured_minor:
        return False
    now = clock.now()
    await session.execute(_CHECKOUT_ENDED, {"id": checkout_id, "status": CheckoutStatus.EXPIRED.value})
    await session.execute(_ORDERS_VOID, {"id": checkout_id})
    await session.execute(_PAYMENT_VOID, {"id": payment.id})
    await inventory.release(session, await _held(session, checkout_id), cause=str(checkout_id), now=now)
    await coupons.give_back(session, checkout_id, now=now)
    await outbox.record(
        session, CheckoutExpired(checkout_id=checkout_id, intent_id=payment.intent_id, at=now)
    )
    return True


async def due_checkouts(session: AsyncSession, *, now: datetime, batch: int) -> list[CheckoutId]:
    """Placed checkouts whose hold ran out. ``expire`` locks and looks again."""
    rows = await session.execute(_DUE, {"now": now, "batch": batch})
    return [CheckoutId.of(row.id) for row in rows]


async def quiet_intents(session: AsyncSession, *, before: datetime, batch: int) -> list[str]:
    """Intents asked for before then and not heard of since."""
    rows = await session.execute(_QUIET, {"before": before, "batch": batch})
    return [row.intent_id for row in rows]


async def _held(session: AsyncSession, checkout_id: CheckoutId) -> Sequence[ReservationId]:
    return [held.id for held in await stock.reservations_of(session, checkout_id)]


def _row(row: Any) -> PaymentRow | None:
    if row is None:
        return None
    return PaymentRow(
        id=PaymentId.of(row.id),
        checkout_id=CheckoutId.of(row.checkout_id),
        amount=Money(row.amount_minor, row.currency),
        captured_minor=row.captured_minor,
        status=PaymentStatus(row.status),
        intent_id=row.intent_id,
        client_secret=row.client_secret,
        checkout_status=CheckoutStatus(row.checkout_status),
        expires_at=row.expires_at,
    )
