"""R8: pay what is available. Reserve, call, settle or void; what is not known stays reserved.

A batch names a cycle and has at most one payout per party and currency. Every transfer has a group of its own
(``payout:<id>``), so that a look-up by group says whether it happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import PayoutBatchId, PayoutId, TenantId
from infra import outbox
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.gateway import PaymentGateway, Transfer
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.events import PayoutPaid, PayoutRefused
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account, party_of, provider_account
from supply.settlement.recovery import net_receivables

PARTIES_AT_ONCE = 200
PAYOUTS_AT_ONCE = 50
LOOK_UP_AFTER = timedelta(minutes=10)
"""An unanswered transfer is looked up when it is this old; later tries wait longer each time."""
EQUAL_ANSWERS = 3
"""A provider that stored a failure under a key replays it: after so many tries a new key is due."""

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
_CLAIM = text(
    "UPDATE payouts SET status = 'sending', tries = tries + 1, first_sent_at = coalesce(first_sent_at, :now),"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * (tries + 1)"
    " WHERE id IN (SELECT id FROM payouts WHERE status = :status AND next_try_at <= :now"
    " ORDER BY created_at LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING *"
)
_LOCK = text("SELECT * FROM payouts WHERE id = :id FOR NO KEY UPDATE")
_END = text(
    "UPDATE payouts SET status = :status, transfer_id = :transfer_id, failure = :failure, ended_at = :now"
    " WHERE id = :id"
)
_NEW_KEY = text(
    "UPDATE payouts SET attempt = attempt + 1, tries = 0, first_sent_at = :now WHERE id = :id"
    " RETURNING attempt"
)


async def make_batch(db: Database, *, cycle: str, clock: Clock) -> PayoutBatchId:
    """Net receivables (R7b) and reserve (R8a) everything payable. The same cycle again continues its batch.

    ``cycle`` names it, e.g. the date. Parties without an active payee, or below its minimum, are carried.
    """
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        row = await session.execute(_BATCH, {"id": PayoutBatchId.new(), "cycle": cycle, "now": now})
        batch_id = PayoutBatchId.of(row.scalar_one())
    after = {"owner": "", "currency": "", "limit": PARTIES_AT_ONCE}
    while True:
        async with db.unit_of_work(SYSTEM) as session:
            owed = (await session.execute(_OWED, after)).all()
            if not owed:
                await session.execute(_COMPLETED, {"id": batch_id, "now": now})
                return batch_id
            await _reserve(session, batch_id, cycle, owed, now)
        after = {**after, "owner": owed[-1].owner, "currency": owed[-1].currency}


async def make_daily_batch(db: Database, *, clock: Clock) -> int:
    """Sweep: the batch of the day (UTC), once; one that was cut short is continued. 1 when it did something."""
    cycle = clock.now().date().isoformat()
    async with db.reading(SYSTEM) as session:
        if (await session.execute(_CYCLE_DONE, {"cycle": cycle})).scalar_one():
            return 0
    await make_batch(db, cycle=cycle, clock=clock)
    return 1


async def _reserve(
    session: AsyncSession, batch_id: PayoutBatchId, cycle: str, owed: Sequence[Any], now: datetime
) -> None:
    parties = [(party_of(row.owner), row.currency, _tenant(row.tenant_id)) for row in owed]
    accounts = {
        (party, currency): party_account(Code.AVAILABLE, party, currency, tenant)
        for party, currency, tenant in parties
    }
    codes = (Code.AVAILABLE, Code.RECEIVABLE, Code.IN_PAYOUT)
    # Everything this transaction will touch, in one pass; netting and reserving find it locked.
    await ledger.hold(session, [party_account(c, p, cur, t) for p, cur, t in parties for c in codes])
    await net_receivables(session, cycle, parties, now=now)
    held = await ledger.hold(session, list(accounts.values()))
    rows = await session.execute(_PAYEES, {"ids": [party for party, _, _ in parties]})
    payees = {(row.payee_id, row.currency): row for row in rows}
    journals = []
    for party, currency, tenant in parties:
        payee, amount = payees.get((party, currency)), held[accounts[party, currency]]
        if payee is None or amount <= 0 or amount < payee.minimum_minor:
            continue
        values = {
            "id": PayoutId.new(), "batch_id": batch_id, "payee_id": party, "tenant_id": tenant,
            "currency": currency, "amount_minor": amount, "provider": payee.provider,
            "account_id": payee.account_id, "now": now,
        }  # fmt: skip
        if (await session.execute(_INSERT, values)).first() is None:
            continue
        legs = (
            debit(accounts[party, currency], amount),
            credit(party_account(Code.IN_PAYOUT, party, currency, tenant), amount),
        )
        key = f"payout:{batch_id}:{party}:{currency}:reserve"
        journals.append(Journal(key, Kind.PAYOUT_RESERVED, legs, now))
    await ledger.post_together(session, journals, now=now)


async def send_payouts(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: send what is reserved, some at a time. Returns how many were tried."""
    payouts = await _claim(db, "reserved", clock.now())
    for payout in payouts:
        await _send(db, payout, payments=payments, clock=clock)
    return len(payouts)


async def resolve_payouts(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: look up transfers whose outcome is unknown, and send again those that did not happen.

    The same key goes out again as long as the provider remembers it and does not keep replaying a failure;
    then, and only after the look-up found nothing, a new one.
    """
    payouts = await _claim(db, "sending", clock.now())
    for payout in payouts:
        try:
            transfers = await payments.find_transfers(transfer_group(payout.id))
        except ProviderUnavailable:
            continue
        done = next((t for t in transfers if t.destination == payout.account_id), None)
        if done is not None:
            await _settle(db, payout.id, done, clock=clock)
        else:
            await _send(
                db, await _with_fresh_key(db, payout, payments, clock.now()), payments=payments, clock=clock
            )
    return len(payouts)


def transfer_group(payout_id: Any) -> str:
    return f"payout:{PayoutId.of(payout_id)}"


def transfer_key(payout: Any) -> str:
    key = f"payout:{PayoutBatchId.of(payout.batch_id)}:{payout.payee_id}:{payout.currency}"
    return key if payout.attempt == 1 else f"{key}:a{payout.attempt}"


async def _claim(db: Database, status: str, now: datetime) -> list[Any]:
    where = {"status": status, "now": now, "wait": LOOK_UP_AFTER, "limit": PAYOUTS_AT_ONCE}
    async with db.unit_of_work(SYSTEM) as session:
        return list((await session.execute(_CLAIM, where)).all())


async def _with_fresh_key(db: Database, payout: Any, payments: PaymentGateway, now: datetime) -> Any:
    age = now - payout.first_sent_at
    forgotten = age >= timedelta(hours=payments.capabilities().idempotency_hours)
    if not forgotten and payout.tries <= EQUAL_ANSWERS:
        return payout
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_NEW_KEY, {"id": payout.id, "now": now})
        return (await session.execute(_LOCK, {"id": payout.id})).one()


async def _send(db: Database, payout: Any, *, payments: PaymentGateway, clock: Clock) -> None:
    try:
        transfer = await payments.transfer(
            destination=payout.account_id,
            amount_minor=payout.amount_minor,
            currency=payout.currency,
            key=transfer_key(payout),
            transfer_group=transfer_group(payout.id),
            metadata={"payout": str(PayoutId.of(payout.id)), "party": payout.payee_id},
        )
    except ProviderRefused as refusal:
        await _void(db, payout.id, refusal.provider_code or refusal.message, clock=clock)
    except (ProviderUnavailable, IdempotencyMismatch):
        return  # not known, or a bug of ours: it stays reserved until a look-up settles it
    else:
        await _settle(db, payout.id, transfer, clock=clock)


async def _settle(db: Database, payout_id: Any, transfer: Transfer, *, clock: Clock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await settle_payout(session, PayoutId.of(payout_id), transfer.id, now=clock.now())


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


async def _void(db: Database, payout_id: Any, reason: str, *, clock: Clock) -> None:
    """R8c: definitely refused; the amount is available again."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        payout = (await session.execute(_LOCK, {"id": payout_id})).one()
        if payout.status in ("paid", "refused"):
            return
        available = party_account(Code.AVAILABLE, payout.payee_id, payout.currency, _tenant(payout.tenant_id))
        legs = (debit(_in_payout(payout), payout.amount_minor), credit(available, payout.amount_minor))
        await ledger.post(session, Journal(f"{_key(payout)}:void", Kind.PAYOUT_VOIDED, legs, now), now=now)
        await _end(session, payout_id, "refused", now, failure=reason)
        await outbox.record(session, PayoutRefused(PayoutId.of(payout_id), payout.payee_id, reason, now))


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
