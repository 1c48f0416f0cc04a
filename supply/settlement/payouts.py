"""R8: pay what is available. Reserve, call, settle or void; what is not known stays reserved.

A batch names a cycle and has at most one payout per party and currency. Which parties are due, and how much of
what they have, payout_schedule.py says; payout_sending.py talks to the provider.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import PayoutBatchId, PayoutId, TenantId
from infra import outbox
from infra.db.session import Database
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.events import PayoutPaid, PayoutRefused
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account, party_of, provider_account
from supply.settlement.recovery import net_receivables

log = structlog.get_logger("payouts")
PARTIES_AT_ONCE = 200

_BATCH = text(
    "INSERT INTO payout_batches (id, cycle, created_at) VALUES (:id, :cycle, :now)"
    " ON CONFLICT (cycle) DO UPDATE SET cycle = excluded.cycle RETURNING id"
)
_COMPLETED = text("UPDATE payout_batches SET completed_at = :now WHERE id = :id")
_CYCLE_DONE = text(
    "SELECT EXISTS (SELECT FROM payout_batches WHERE cycle = :cycle AND completed_at IS NOT NULL)"
)
_OWED = text(
    "SELECT a.owner, a.currency, a.tenant_id FROM ledger_balances b"
    " JOIN ledger_accounts a ON a.id = b.account_id WHERE a.code = 2010 AND b.posted_minor > 0"
    " AND (a.owner, a.currency) > (:owner, CAST(:currency AS bpchar)) ORDER BY a.owner, a.currency LIMIT :limit"
)
_PAYEES = text("SELECT * FROM payees WHERE payee_id = ANY(:ids) AND status = 'active'")
_INSERT = text(
    "INSERT INTO payouts (id, batch_id, payee_id, tenant_id, currency, amount_minor, provider, account_id,"
    " status, attempt, tries, created_at, next_try_at, reversed_minor) VALUES (:id, :batch_id, :payee_id, :tenant_id,"
    " :currency, :amount_minor, :provider, :account_id, 'reserved', 1, 0, :now, :now, 0)"
    " ON CONFLICT (batch_id, payee_id, currency) DO NOTHING RETURNING id"
)
_FORGET = text("DELETE FROM payouts WHERE id = ANY(:ids)")
_LOCK = text("SELECT * FROM payouts WHERE id = :id FOR NO KEY UPDATE")
_END = text(
    "UPDATE payouts SET status = :status, transfer_id = :transfer_id, failure = :failure, ended_at = :now"
    " WHERE id = :id"
)


async def make_batch(db: Database, *, cycle: str, clock: Clock) -> PayoutBatchId:
    """Net receivables (R7b) and reserve (R8a) everything payable. The same cycle again continues its batch.

    ``cycle`` names it, e.g. the date. Parties without an active payee, or below its minimum, are carried.
    """
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        batch_id = await batch_of(session, cycle, now=now)
    after = {"owner": "", "currency": "", "limit": PARTIES_AT_ONCE}
    while True:
        async with db.unit_of_work(SYSTEM) as session:
            owed = (await session.execute(_OWED, after)).all()
            if not owed:
                await session.execute(_COMPLETED, {"id": batch_id, "now": now})
                return batch_id
            payables = [Payable(party_of(r.owner), r.currency, _tenant(r.tenant_id)) for r in owed]
            await reserve_payouts(session, batch_id, cycle, payables, now=now)
        after = {**after, "owner": owed[-1].owner, "currency": owed[-1].currency}


async def make_daily_batch(db: Database, *, clock: Clock) -> int:
    """The batch of the day (UTC), once; one that was cut short is continued. 1 when it did something."""
    cycle = clock.now().date().isoformat()
    async with db.reading(SYSTEM) as session:
        if (await session.execute(_CYCLE_DONE, {"cycle": cycle})).scalar_one():
            return 0
    await make_batch(db, cycle=cycle, clock=clock)
    return 1


@dataclass(frozen=True, slots=True)
class Payable:
    """A party that may be paid. ``most_minor``: no more than this of what it has available, ``kept_minor``: this
    much of it stays. None of the two for everything."""

    party: str
    currency: str
    tenant_id: TenantId | None
    most_minor: int | None = None
    kept_minor: int = 0

    def of(self, available_minor: int) -> int:
        payable = available_minor - self.kept_minor
        return max(payable if self.most_minor is None else min(payable, self.most_minor), 0)


async def batch_of(session: AsyncSession, cycle: str, *, now: datetime) -> PayoutBatchId:
    row = await session.execute(_BATCH, {"id": PayoutBatchId.new(), "cycle": cycle, "now": now})
    return PayoutBatchId.of(row.scalar_one())


async def reserve_payouts(
    session: AsyncSession, batch_id: PayoutBatchId, cycle: str, payables: Sequence[Payable], *, now: datetime
) -> int:
    """Net receivables (R7b), then reserve (R8a) what is payable to each party; how many payouts that makes.

    A party without an active payee, or below its minimum, is carried. A journal the ledger refuses takes no
    other with it: that party is left for the next batch.
    """
    parties = [(p.party, p.currency, p.tenant_id) for p in payables]
    codes = (Code.AVAILABLE, Code.RECEIVABLE, Code.IN_PAYOUT)
    # Everything this transaction will touch, in one pass; netting and reserving find it locked.
    await ledger.hold(session, [party_account(c, p, cur, t) for p, cur, t in parties for c in codes])
    await net_receivables(session, cycle, parties, now=now)
    accounts = [party_account(Code.AVAILABLE, *party) for party in parties]
    held = await ledger.hold(session, accounts)
    rows = await session.execute(_PAYEES, {"ids": [party for party, _, _ in parties]})
    payees = {(row.payee_id, row.currency): row for row in rows}
    reserved: list[tuple[PayoutId, Journal]] = []
    for payable, account in zip(payables, accounts, strict=True):
        payee, amount = payees.get((payable.party, payable.currency)), payable.of(held[account])
        if payee is None or amount <= 0 or amount < payee.minimum_minor:
            continue
        payout_id = PayoutId.new()
        values = {
            "id": payout_id, "batch_id": batch_id, "payee_id": payable.party, "tenant_id": payable.tenant_id,
            "currency": payable.currency, "amount_minor": amount, "provider": payee.provider,
            "account_id": payee.account_id, "now": now,
        }  # fmt: skip
        if (await session.execute(_INSERT, values)).first() is None:
            continue
        in_payout = party_account(Code.IN_PAYOUT, payable.party, payable.currency, payable.tenant_id)
        key = f"payout:{batch_id}:{payable.party}:{payable.currency}:reserve"
        legs = (debit(account, amount), credit(in_payout, amount))
        reserved.append((payout_id, Journal(key, Kind.PAYOUT_RESERVED, legs, now)))
    outcomes = await ledger.post_many(session, [journal for _, journal in reserved], now=now)
    refused = [id for (id, _), outcome in zip(reserved, outcomes, strict=True) if outcome.error is not None]
    if refused:
        log.error("payouts_refused_by_the_ledger", batch=str(batch_id), payouts=[str(id) for id in refused])
        await session.execute(_FORGET, {"ids": refused})
    return len(reserved) - len(refused)


async def settle_payout(
    session: AsyncSession, payout_id: PayoutId, transfer_id: str, *, now: datetime
) -> None:
    """R8b: the transfer exists. From the answer, the webhook or a look-up: the first one counts."""
    payout = (await session.execute(_LOCK, {"id": payout_id})).one()
    if payout.status == "paid":
        return
    legs = (
        debit(_in_payout(payout), payout.amount_minor),
        credit(
            provider_account(Code.PROVIDER_AVAILABLE, payout.provider, payout.currency), payout.amount_minor
        ),
    )
    journal = Journal(f"{_key(payout)}:settle", Kind.PAYOUT_SETTLED, legs, now, None, transfer_id)
    await ledger.post(session, journal, now=now)
    await _end(session, payout_id, "paid", now, transfer_id=transfer_id)
    amount = payout.amount_minor
    await outbox.record(session, PayoutPaid(payout_id, payout.payee_id, amount, payout.currency, now))


async def void_payout(session: AsyncSession, payout_id: PayoutId, reason: str, *, now: datetime) -> None:
    """R8c: definitely refused; the amount is available again. One that ended is left as it is."""
    payout = (await session.execute(_LOCK, {"id": payout_id})).one()
    if payout.status in ("paid", "refused"):
        return
    available = party_account(Code.AVAILABLE, payout.payee_id, payout.currency, _tenant(payout.tenant_id))
    legs = (debit(_in_payout(payout), payout.amount_minor), credit(available, payout.amount_minor))
    await ledger.post(session, Journal(f"{_key(payout)}:void", Kind.PAYOUT_VOIDED, legs, now), now=now)
    await _end(session, payout_id, "refused", now, failure=reason)
    await outbox.record(session, PayoutRefused(payout_id, payout.payee_id, reason, now))


async def _end(
    session: AsyncSession,
    payout_id: Any,
    status: str,
    now: datetime,
    *,
    transfer_id: str | None = None,
    failure: str | None = None,
) -> None:
    values = {
        "id": payout_id, "status": status, "now": now, "transfer_id": transfer_id, "failure": failure,
    }  # fmt: skip
    await session.execute(_END, values)


def _in_payout(payout: Any) -> Any:
    return party_account(Code.IN_PAYOUT, payout.payee_id, payout.currency, _tenant(payout.tenant_id))


def _key(payout: Any) -> str:
    return f"payout:{PayoutBatchId.of(payout.batch_id)}:{payout.payee_id}:{payout.currency}"


def _tenant(value: Any) -> TenantId | None:
    return TenantId.of(value) if value else None
