"""R11: the platform's own money goes to its bank: out of what the provider holds and nobody else is owed.

Asked for by an operator under a reference, sent by a sweep with a fixed key, and followed by the provider's
notices: on its way (1030), arrived (1020), or sent back by the bank, even after it had arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM, Actor
from core.clock import Clock
from core.errors import Conflict, Invalid
from core.money import Money
from core.pagination import Page, PageRequest, page_of
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.gateway import PaymentGateway, Payout
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import AccountKey, Journal, credit, debit
from supply.settlement.ids import PlatformPayoutId
from supply.settlement.kinds import Kind
from supply.settlement.parties import platform_account, provider_account
from supply.settlement.reconciliation.models import PlatformPayoutStatus

AT_ONCE = 20
WAIT = timedelta(minutes=10)
"""Between two looks at a payout whose fate is not known; longer each time."""
_BY_REFERENCE = text("SELECT * FROM platform_payouts WHERE reference = :reference")
# One request at a time: two of them must not both see the same money free.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 1030))")
# What the provider holds less everything anybody is owed: parties, customers, tax, fees not earned yet, suspense; and
# less what was brought by money that is owed in another currency (6000). What it may gain is nobody's before R10c.
_OWN = text(
    "SELECT coalesce(sum(balance_minor) FILTER (WHERE code = 1010 AND owner = 'psp:' || :provider), 0)::bigint AS here,"
    " coalesce(sum(balance_minor * side) FILTER (WHERE code IN (1000, 1010) OR code BETWEEN 2000 AND 2499), 0)::bigint"
    "  + coalesce(sum(least(balance_minor * side, 0)) FILTER (WHERE code = 6000 AND owner <> 'fx:' || currency),"
    "   0)::bigint"
    "  AS own, (SELECT coalesce(sum(amount_minor), 0)::bigint FROM platform_payouts"
    "   WHERE status = 'requested' AND currency = :currency) AS asked"
    " FROM ledger_balances_now WHERE currency = :currency"
)
_INSERT = text(
    "INSERT INTO platform_payouts (id, provider, currency, amount_minor, reference, requested_by, status, tries,"
    " next_try_at, requested_at) VALUES (:id, :provider, :currency, :amount, :reference, :by, 'requested', 0, :now,"
    " :now)"
)
_CLAIM = text(
    "WITH claimed AS (UPDATE platform_payouts SET tries = tries + 1,"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * least(tries + 1, 144)"
    " WHERE id IN (SELECT id FROM platform_payouts WHERE status IN ('requested', 'in_transit')"
    " AND next_try_at <= :now ORDER BY next_try_at, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING *)"
    " SELECT * FROM claimed ORDER BY requested_at, id"
)
_LOCK = text("SELECT * FROM platform_payouts WHERE id = :id FOR NO KEY UPDATE")
_OURS = text("SELECT id FROM platform_payouts WHERE payout_id = :payout_id")
_MOVE = text(
    "UPDATE platform_payouts SET status = CAST(:status AS varchar), payout_id = coalesce(:payout_id, payout_id),"
    " failure = :failure, arrives_at = coalesce(:arrives_at, arrives_at),"
    " ended_at = CASE WHEN CAST(:status AS varchar) = 'in_transit' THEN NULL"
    " ELSE CAST(:now AS timestamptz) END WHERE id = :id"
)
_PAGE = text(
    "SELECT * FROM platform_payouts WHERE (CAST(:after AS uuid) IS NULL OR id < :after)"
    " ORDER BY id DESC LIMIT :limit"
)
_METADATA = "platform_payout"
_BACK = frozenset({"failed", "canceled"})


@dataclass(frozen=True, slots=True)
class PlatformPayoutView:
    """``payout_id`` is the provider's, once it was sent."""

    id: PlatformPayoutId
    provider: str
    currency: str
    amount_minor: int
    reference: str
    requested_by: str
    status: PlatformPayoutStatus
    payout_id: str | None
    failure: str | None
    requested_at: datetime
    arrives_at: datetime | None
    ended_at: datetime | None


class PlatformFundsShort(Conflict):
    """More than what the provider holds and nobody else is owed."""

    code = "PLATFORM_FUNDS_SHORT"

    def __init__(self, asked: Money, free: Money) -> None:
        super().__init__(f"{asked} asked, {free} is the platform's own")
        self.asked, self.free = asked, free


class PlatformPayoutChanged(Conflict):
    """The reference stands for a payout of another amount."""

    code = "PLATFORM_PAYOUT_CHANGED"


class PayoutNotPositive(Invalid):
    code = "PAYOUT_NOT_POSITIVE"


async def own_funds(session: AsyncSession, currency: str, *, provider: str = "stripe") -> Money:
    """What ``request_platform_payout`` would allow now."""
    row = (await session.execute(_OWN, {"currency": currency, "provider": provider})).one()
    return Money(max(min(row.here, row.own) - row.asked, 0), currency)


async def platform_payouts_page(
    session: AsyncSession, actor: Actor, page: PageRequest
) -> Page[PlatformPayoutView]:
    """Operator: newest first."""
    actor.require("platform:admin")
    after = UUID(page.key[0]) if page.key else None
    rows = await session.execute(_PAGE, {"after": after, "limit": page.first + 1})
    views = [
        PlatformPayoutView(
            PlatformPayoutId.of(row.id), row.provider, row.currency, row.amount_minor, row.reference,
            row.requested_by, PlatformPayoutStatus(row.status), row.payout_id, row.failure, row.requested_at,
            row.arrives_at, row.ended_at,
        )
        for row in rows
    ]  # fmt: skip
    return page_of(views, page, lambda view: (view.id.hex,))


async def request_platform_payout(
    session: AsyncSession,
    actor: Actor,
    amount: Money,
    *,
    reference: str,
    now: datetime,
    provider: str = "stripe",
) -> PlatformPayoutId:
    """Operator: send ``amount`` to the platform's bank. The same reference again is the same payout.

    Raises ``PlatformFundsShort``, ``PlatformPayoutChanged``, ``PayoutNotPositive``.
    """
    actor.require("platform:admin")
    if amount.amount_minor <= 0:
        raise PayoutNotPositive(f"{amount} cannot be paid out", field="amount")
    await session.execute(_ONE_AT_A_TIME, {"name": f"{provider}:{amount.currency}"})
    known = (await session.execute(_BY_REFERENCE, {"reference": reference})).one_or_none()
    if known is not None:
        if (known.amount_minor, known.currency) != (amount.amount_minor, amount.currency):
            raise PlatformPayoutChanged(f"{reference} is of {Money(known.amount_minor, known.currency)}")
        return PlatformPayoutId.of(known.id)
    free = await own_funds(session, amount.currency, provider=provider)
    if amount > free:
        raise PlatformFundsShort(amount, free)
    payout_id = PlatformPayoutId.new()
    values = {
        "id": payout_id, "provider": provider, "currency": amount.currency, "amount": amount.amount_minor,
        "reference": reference, "by": str(actor), "now": now,
    }  # fmt: skip
    await session.execute(_INSERT, values)
    return payout_id


async def send_platform_payouts(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: send what was asked for, and look at what is on its way and was not heard of. How many were tried."""
    where = {"now": clock.now(), "wait": WAIT, "limit": AT_ONCE}
    async with db.unit_of_work(SYSTEM) as session:
        claimed = (await session.execute(_CLAIM, where)).all()
    for row in claimed:
        try:
            payout = (
                await payments.retrieve_payout(row.payout_id)
                if row.payout_id
                else await _send(row, payments, clock.now())
            )
        except ProviderRefused as refusal:
            await _refuse(db, row.id, refusal.message, clock=clock)
        except (ProviderUnavailable, IdempotencyMismatch):
            continue  # not known: asked again under the same key, or looked up first when that is forgotten
        else:
            await _apply(db, row.id, payout, clock=clock)
    return len(claimed)


async def _send(row: Any, payments: PaymentGateway, now: datetime) -> Payout:
    name = str(PlatformPayoutId.of(row.id))
    if now - row.requested_at >= timedelta(hours=payments.capabilities().idempotency_hours):
        async for payout in payments.payouts(created_from=row.requested_at):
            if payout.metadata.get(_METADATA) == name:
                return payout
    return await payments.create_payout(
        amount_minor=row.amount_minor,
        currency=row.currency,
        key=f"po:{name}",
        metadata={_METADATA: name, "reference": row.reference},
    )


async def refresh_platform_payout(
    db: Database, payout_id: str, *, payments: PaymentGateway, clock: Clock
) -> bool:
    """A notice named a payout: look it up and apply what it says now. False when it is none of ours."""
    async with db.reading(SYSTEM) as session:
        ours = (await session.execute(_OURS, {"payout_id": payout_id})).scalar_one_or_none()
    if ours is None:
        return False
    await _apply(db, ours, await payments.retrieve_payout(payout_id), clock=clock)
    return True


async def _apply(db: Database, own_id: Any, payout: Payout, *, clock: Clock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await record_platform_payout(session, PlatformPayoutId.of(own_id), payout, now=clock.now())


async def record_platform_payout(
    session: AsyncSession, own_id: PlatformPayoutId, payout: Payout, *, now: datetime
) -> None:
    """What the provider says of it, in any order and number: each step is posted once."""
    row = (await session.execute(_LOCK, {"id": own_id})).one()
    was = PlatformPayoutStatus(row.status)
    if was in (PlatformPayoutStatus.RETURNED, PlatformPayoutStatus.REFUSED):
        return
    at_provider = provider_account(Code.PROVIDER_AVAILABLE, row.provider, row.currency)
    transit = platform_account(Code.PLATFORM_PAYOUT_IN_TRANSIT, row.currency)
    bank = platform_account(Code.BANK, row.currency)
    await _post(session, "", Kind.PLATFORM_PAYOUT, payout, transit, at_provider, payout.created_at, now)
    status = PlatformPayoutStatus.IN_TRANSIT
    if payout.status == "paid":
        status = PlatformPayoutStatus.ARRIVED
        await _post(session, ":paid", Kind.PLATFORM_PAYOUT_ARRIVED, payout, bank, transit, now, now)
    elif payout.status in _BACK:
        status = PlatformPayoutStatus.RETURNED
        lay = bank if was is PlatformPayoutStatus.ARRIVED else transit
        await _post(session, ":back", Kind.PLATFORM_PAYOUT_RETURNED, payout, at_provider, lay, now, now)
    values = {
        "id": own_id, "status": status.value, "payout_id": payout.id, "failure": payout.failure_code,
        "arrives_at": payout.arrival_at, "now": now,
    }  # fmt: skip
    await session.execute(_MOVE, values)


async def _post(
    session: AsyncSession,
    step: str,
    kind: Kind,
    payout: Payout,
    to: AccountKey,
    came_from: AccountKey,
    at: datetime,
    now: datetime,
) -> None:
    legs = (debit(to, payout.amount_minor), credit(came_from, payout.amount_minor))
    await ledger.post(session, Journal(f"po:{payout.id}{step}", kind, legs, at, None, payout.id), now=now)


async def _refuse(db: Database, own_id: Any, reason: str, *, clock: Clock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        row = (await session.execute(_LOCK, {"id": own_id})).one()
        if row.status == PlatformPayoutStatus.REQUESTED:
            values = {
                "id": own_id, "status": PlatformPayoutStatus.REFUSED.value, "payout_id": None, "failure": reason,
                "arrives_at": None, "now": clock.now(),
            }  # fmt: skip
            await session.execute(_MOVE, values)
