"""Notices of the payment provider: stored once, applied by looking the object up, parked when they come too early.

A notice is a hint. Its handler fetches the object and applies what the state machine allows now; what cannot be
applied yet (``NotYet``) waits in ``provider_events`` and is tried again, longer each time, for three days. A
message the broker lost is found there as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.errors import LianyuError
from infra import outbox
from infra.db.session import Database
from infra.payments.errors import ProviderRefused, ProviderUnavailable, WebhookRejected
from infra.payments.gateway import Event as ProviderEvent
from infra.payments.gateway import PaymentGateway
from marketplace.orders import paying, payout_notices, refund_sending
from marketplace.orders.errors import NotYet
from marketplace.orders.events import ProviderNotified
from supply.settlement import provider_accounts
from supply.settlement.at_source import paying as debts
from supply.settlement.disputes import applying as disputes
from supply.settlement.disputes.stages import Stage

NoticeHandler = Callable[..., Awaitable[None]]
"""``async def on_x(db, notice: ProviderNotified, *, payments, clock)``; raises ``NotYet`` to be called again."""
FIRST_PAUSE = timedelta(minutes=1)
GIVE_UP_AFTER = timedelta(days=3)
FEWEST_TRIES = 12
"""Three days in which nobody worked are no three days of trying."""
_BATCH = 50
_MOST_DOUBLINGS = 6
log = structlog.get_logger("notices")

_STORE = text(
    "INSERT INTO provider_events (id, provider, type, object_id, account, body, received_at, tries, next_try_at,"
    " applied_at) VALUES (:id, :provider, :type, :object_id, :account, CAST(:body AS jsonb), :now, 0,"
    " :next_try_at, :applied_at) ON CONFLICT (id) DO NOTHING RETURNING 1"
)
_APPLIED = text(
    "UPDATE provider_events SET applied_at = :now, next_try_at = NULL, parked = :why"
    " WHERE id = :id AND applied_at IS NULL"
)
_PARKED = text(
    "UPDATE provider_events SET parked = :why, tries = tries + 1,"
    " next_try_at = CASE WHEN received_at + CAST(:longest AS interval) > :now OR tries + 1 < :fewest"
    " THEN CAST(:now AS timestamptz) + CAST(:pause AS interval) * (1 << least(tries, :most)) END"
    " WHERE id = :id AND applied_at IS NULL RETURNING next_try_at"
)
_IS_APPLIED = text("SELECT applied_at FROM provider_events WHERE id = :id")
_CLAIM = text(
    "WITH claimed AS (UPDATE provider_events SET next_try_at = CAST(:now AS timestamptz) + CAST(:pause AS interval)"
    " WHERE id IN (SELECT id FROM provider_events WHERE applied_at IS NULL AND next_try_at <= :now"
    " ORDER BY next_try_at, id LIMIT :batch FOR NO KEY UPDATE SKIP LOCKED)"
    " RETURNING id, type, object_id, account, received_at)"
    " SELECT id, type, object_id, account FROM claimed ORDER BY received_at, id"
)


async def on_dispute(
    db: Database, notice: ProviderNotified, *, payments: PaymentGateway, clock: Clock
) -> None:
    stage = await disputes.refresh(db, notice.object_id, payments=payments, clock=clock)
    if stage is Stage.NOTICED:
        raise NotYet("the disputed charge is not in the books")


async def on_intent(
    db: Database, notice: ProviderNotified, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Of a checkout, or of a debt that a party pays."""
    if await debts.is_debt_payment(db, notice.object_id):
        await debts.refresh(db, notice.object_id, payments=payments, clock=clock)
    else:
        await paying.on_intent(db, notice, payments=payments, clock=clock)


NEWS: Mapping[str, NoticeHandler] = {
    "payment_intent.succeeded": on_intent,
    "refund.": refund_sending.on_refund,
    "charge.refund.updated": refund_sending.on_refund,
    "charge.dispute.": on_dispute,
    "transfer.": payout_notices.on_transfer,
    "payout.": payout_notices.on_payout_notified,
}
"""By type, or by its beginning with a dot at the end. Everything else is only kept."""


def handler_of(event_type: str) -> NoticeHandler | None:
    found = NEWS.get(event_type)
    while found is None and event_type:
        event_type = event_type[:-1].rpartition(".")[0]
        found = NEWS.get(f"{event_type}.") if event_type else None
    return found


async def receive(
    session: AsyncSession, event: ProviderEvent, *, now: datetime, provider: str = "stripe"
) -> bool:
    """Store a verified notice under the provider's id and have it applied. False when it is here already.

    Raises ``WebhookRejected`` for one about an account that is none of ours. ``session`` acts as SYSTEM.
    """
    if event.account is not None and not await provider_accounts.is_ours(session, event.account):
        raise WebhookRejected(f"{event.account} is no account of ours")
    news = handler_of(event.type) is not None
    row = {
        "id": event.id, "provider": provider, "type": event.type, "object_id": event.object_id,
        "account": event.account, "body": orjson.dumps(event.payload).decode(), "now": now,
        "next_try_at": now + FIRST_PAUSE if news else None, "applied_at": None if news else now,
    }  # fmt: skip
    if (await session.execute(_STORE, row)).first() is None:
        return False
    if news:
        notice = ProviderNotified(
            event_id=event.id, type=event.type, object_id=event.object_id, account=event.account
        )
        await outbox.record(session, notice)
    return True


async def on_provider_notified(
    db: Database, event: ProviderNotified, *, payments: PaymentGateway, clock: Clock
) -> None:
    """Apply a notice once. What is too early is parked, not failed: the sweep comes back to it."""
    handler = handler_of(event.type)
    if handler is None or await _is_applied(db, event.event_id):
        return
    try:
        await handler(db, event, payments=payments, clock=clock)
    except NotYet as early:
        await _park(db, event, early.message, now=clock.now())
    except ProviderRefused as refused:
        # The provider knows no such object: nothing will ever come of it.
        await _applied(db, event, refused.message, now=clock.now())
    else:
        await _applied(db, event, None, now=clock.now())


async def sweep_notices(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Try parked and forgotten notices again. Returns how many were tried."""
    claim = {"now": clock.now(), "pause": FIRST_PAUSE, "batch": _BATCH}
    async with db.unit_of_work(SYSTEM) as session:
        rows = (await session.execute(_CLAIM, claim)).all()
    for row in rows:
        notice = ProviderNotified(row.id, row.type, row.object_id, row.account)
        with contextlib.suppress(ProviderUnavailable):
            await _try(db, notice, payments=payments, clock=clock)
    return len(rows)


async def _try(db: Database, notice: ProviderNotified, *, payments: PaymentGateway, clock: Clock) -> None:
    """One that fails for a reason of its own must not keep the others from being tried."""
    try:
        await on_provider_notified(db, notice, payments=payments, clock=clock)
    except ProviderUnavailable:
        raise
    except LianyuError as error:
        await _park(db, notice, f"{error.code}: {error.message}", now=clock.now())


async def _is_applied(db: Database, event_id: str) -> bool:
    async with db.reading(SYSTEM) as session:
        return (await session.execute(_IS_APPLIED, {"id": event_id})).scalar_one_or_none() is not None


async def _applied(db: Database, notice: ProviderNotified, why: str | None, *, now: datetime) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_APPLIED, {"id": notice.event_id, "now": now, "why": why})


async def _park(db: Database, notice: ProviderNotified, why: str, *, now: datetime) -> None:
    values: dict[str, Any] = {
        "id": notice.event_id, "why": why[:500], "now": now, "pause": FIRST_PAUSE,
        "longest": GIVE_UP_AFTER, "most": _MOST_DOUBLINGS, "fewest": FEWEST_TRIES,
    }  # fmt: skip
    async with db.unit_of_work(SYSTEM) as session:
        again = (await session.execute(_PARKED, values)).scalar_one_or_none()
    if again is None:
        log.error("notice given up", notice=notice.event_id, type=notice.type, why=why)
