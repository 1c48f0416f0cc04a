"""Notices that never came: the provider's own list of what happened is read and told like its notices are.

A webhook can be lost for good (three days of retries, an endpoint that was taken away), and with it what nobody asks
about by himself: a refund somebody made past us, a dispute won long after it was lost, a payout the bank sent back. So
the list is paged from where the last reading ended, and whatever was never received goes through the same intake. An
event has one id, whichever way it comes: both ways together are one.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text

from core.actor import SYSTEM
from core.clock import Clock
from infra.db.session import Database
from infra.payments.errors import ProviderUnavailable
from infra.payments.gateway import Event as ProviderEvent
from infra.payments.gateway import PaymentGateway
from marketplace.orders import notices

ON_THE_WAY = timedelta(minutes=2)
"""A younger event's notice is still being delivered."""
OVERLAP = timedelta(hours=1)
"""Read again each time: the provider may list an event a little after the moment it carries."""
FIRST_LOOK = timedelta(days=3)
"""How far back a list goes that was never read: as long as a notice is retried."""
LISTED_FOR = timedelta(days=30)
_PAGE = 100
TYPES = (
    "payment_intent.succeeded", "refund.created", "refund.updated", "refund.failed", "charge.refund.updated",
    "charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed",
    "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated", "transfer.created",
    "transfer.updated", "transfer.reversed", "payout.created", "payout.updated", "payout.paid",
    "payout.failed", "payout.canceled", "payout.reconciliation_completed",
)  # fmt: skip
"""Every kind of news we have a handler for. The provider takes at most twenty names and no patterns."""

_SEEN_TO = text("SELECT seen_to FROM provider_event_cursors WHERE provider = :provider")
_ADVANCE = text(
    "INSERT INTO provider_event_cursors AS c (provider, seen_to) VALUES (:provider, :seen_to)"
    " ON CONFLICT (provider) DO UPDATE SET seen_to = greatest(c.seen_to, excluded.seen_to)"
)
_KNOWN = text("SELECT id FROM provider_events WHERE id = ANY(:ids)")


async def find_missed_notices(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: receive every event of the provider that nobody told us. How many those were.

    What was found is kept when the provider stops answering; the next sweep reads that time again.
    """
    provider, now = payments.capabilities().name, clock.now()
    since, found, page = await _since(db, provider, now), 0, list[ProviderEvent]()
    try:
        async for event in payments.events(created_from=since, types=TYPES):
            if event.created_at <= now - ON_THE_WAY:
                page.append(event)
            if len(page) == _PAGE:
                found, page = found + await _receive(db, page, provider, now), []
        found += await _receive(db, page, provider, now)
    except ProviderUnavailable:
        return found
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_ADVANCE, {"provider": provider, "seen_to": now - ON_THE_WAY})
    return found


async def _since(db: Database, provider: str, now: datetime) -> datetime:
    async with db.reading(SYSTEM) as session:
        seen_to: datetime | None = (
            await session.execute(_SEEN_TO, {"provider": provider})
        ).scalar_one_or_none()
    if seen_to is None:
        return now - FIRST_LOOK
    return max(seen_to - OVERLAP, now - LISTED_FOR)


async def _receive(db: Database, events: list[ProviderEvent], provider: str, now: datetime) -> int:
    """One page in one transaction. The list is of our own account: a party's bank tells the party."""
    async with db.unit_of_work(SYSTEM) as session:
        known = set((await session.execute(_KNOWN, {"ids": [event.id for event in events]})).scalars())
        missed = [event for event in events if event.id not in known and event.account is None]
        return sum([await notices.receive(session, event, now=now, provider=provider) for event in missed])
