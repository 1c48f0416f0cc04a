"""R7a: what a party owes is taken back from the transfers it got.

Plan → call → settle, like a payout: the recovery's row fixes the provider's key, one whose outcome is unknown is
looked up before anything is sent again, and a party has at most one under way in a currency. A reversal the
provider refuses (the account is empty) leaves the debt in 1100, where the next earnings pay it off.

The provider's notice settles a recovery like an answer does. A reversal that somebody made at the provider, past us,
becomes one of ours.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import MalformedId, PayoutId, TenantId
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.gateway import PaymentGateway, TransferReversal
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit, merged
from supply.settlement import owing, policies
from supply.settlement.ids import RecoveryId
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account, provider_account

LOOK_UP_AFTER = timedelta(minutes=10)
EQUAL_ANSWERS = 3
"""A provider that stored a failure under a key replays it: after so many tries a new key is due."""
ASK_AGAIN_AFTER = timedelta(days=1)
"""A party whose reversal was refused is left to its next earnings this long."""
_AT_ONCE = 50

# One that was sent in another currency (payout_costs) could only be reversed in that one: it is left to netting.
_PAYOUT = text(
    "SELECT id, tenant_id, transfer_id, amount_minor - reversed_minor AS left_minor FROM payouts"
    " WHERE payee_id = :payee_id AND currency = :currency AND status = 'paid' AND reversed_minor < amount_minor"
    " AND transfer_id IS NOT NULL AND provider = :provider"
    " AND NOT EXISTS (SELECT FROM payout_costs c WHERE c.payout_id = payouts.id)"
    " ORDER BY created_at DESC, id DESC LIMIT 1"
)
_INSERT = text(
    "INSERT INTO recoveries (id, payout_id, payee_id, tenant_id, currency, transfer_id, amount_minor, status,"
    " attempt, tries, created_at, first_sent_at, next_try_at) VALUES (:id, :payout_id, :payee_id, :tenant_id,"
    " :currency, :transfer_id, :amount, 'sending', 1, 1, :now, :now,"
    " CAST(:now AS timestamptz) + CAST(:wait AS interval))"
    " ON CONFLICT (payee_id, currency) WHERE status = 'sending' DO NOTHING RETURNING *"
)
_LOCK = text("SELECT * FROM recoveries WHERE id = :id FOR NO KEY UPDATE")
_RECOVERY = text("SELECT * FROM recoveries WHERE id = :id")
_END = text(
    "UPDATE recoveries SET status = :status, reversal_id = :reversal_id, failure = :failure, ended_at = :now"
    " WHERE id = :id"
)
_REVERSED = text("UPDATE payouts SET reversed_minor = reversed_minor + :amount WHERE id = :id")
_CLAIM = text(
    "WITH claimed AS (UPDATE recoveries SET tries = tries + 1,"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * (tries + 1)"
    " WHERE id IN (SELECT id FROM recoveries WHERE status = 'sending' AND next_try_at <= :now"
    " ORDER BY next_try_at, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING *)"
    " SELECT * FROM claimed ORDER BY created_at, id"
)
_NEW_KEY = text(
    "UPDATE recoveries SET attempt = attempt + 1, tries = 0, first_sent_at = :now WHERE id = :id RETURNING *"
)
_OF_TRANSFER = text(
    "SELECT p.*, EXISTS (SELECT FROM payout_costs c WHERE c.payout_id = p.id) AS converted FROM payouts p"
    " WHERE p.id = :id AND p.status = 'paid'"
)
_KNOWN = text("SELECT EXISTS (SELECT FROM recoveries WHERE reversal_id = :reversal_id)")
_ADOPT = text(
    "INSERT INTO recoveries (id, payout_id, payee_id, tenant_id, currency, transfer_id, amount_minor, status,"
    " attempt, tries, created_at, first_sent_at, next_try_at, reversal_id, ended_at) VALUES (:id, :payout_id,"
    " :payee_id, :tenant_id, :currency, :transfer_id, :amount, 'done', 1, 0, :created_at, :created_at, :now,"
    " :reversal_id, :now)"
)
_REFUSED_LATELY = text(
    "SELECT EXISTS (SELECT FROM recoveries WHERE payee_id = :payee_id AND currency = :currency"
    " AND (status = 'sending' OR (status = 'refused' AND ended_at > :since)))"
)


async def sweep_recoveries(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """1 when ``recover_debts`` took something back."""
    return int(await recover_debts(db, payments=payments, clock=clock) > 0)


async def recover_debts(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Look up what is unknown, then take back what is owed long enough (policies.Recovery). Minor units."""
    recovered = await resolve_recoveries(db, payments=payments, clock=clock)
    now = clock.now()
    async with db.reading(SYSTEM) as session:
        policy = await policies.recovery(session)
        if not policy.by_reversal:
            return recovered
        due = await owing.owed_since(
            session, before=now - timedelta(days=policy.after_days), minimum_minor=policy.minimum_minor,
            limit=_AT_ONCE,
        )  # fmt: skip
    for debt in due:
        async with db.reading(SYSTEM) as session:
            where = {
                "payee_id": debt.payee_id, "currency": debt.currency, "since": now - ASK_AGAIN_AFTER,
            }  # fmt: skip
            if (await session.execute(_REFUSED_LATELY, where)).scalar_one():
                continue
        with contextlib.suppress(ProviderUnavailable, IdempotencyMismatch):
            recovered += await reverse_transfers(
                db, debt.payee_id, debt.currency, payments=payments, clock=clock
            )
    return recovered


async def reverse_transfers(
    db: Database, party: str, currency: str, *, payments: PaymentGateway, clock: Clock
) -> int:
    """Take back what a party owes from the transfers it got, newest first. Minor units recovered.

    Raises ``ProviderUnavailable`` when the outcome of one is unknown: it is looked up later. One that the
    provider refuses ends it.
    """
    recovered = 0
    while True:
        row = await _plan(db, party, currency, payments.capabilities().name, clock.now())
        if row is None:
            return recovered
        took = await _send(db, row, payments=payments, clock=clock)
        if took is None:
            return recovered
        recovered += took


async def resolve_recoveries(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: look up reversals whose outcome is unknown, and send again those that did not happen."""
    now = clock.now()
    async with db.unit_of_work(SYSTEM) as session:
        claim = {"now": now, "wait": LOOK_UP_AFTER, "limit": _AT_ONCE}
        rows = (await session.execute(_CLAIM, claim)).all()
    recovered = 0
    for row in rows:
        with contextlib.suppress(ProviderUnavailable, IdempotencyMismatch):
            recovered += await _resolve(db, row, payments=payments, clock=clock) or 0
    return recovered


async def take_reversals(db: Database, payout_id: PayoutId, *, payments: PaymentGateway, clock: Clock) -> int:
    """A notice named the transfer of a payout: book what was reversed of it and is not booked. Minor units.

    One that was sent in another currency is left to reconciliation. Raises what the gateway raises.
    """
    async with db.reading(SYSTEM) as session:
        payout = (await session.execute(_OF_TRANSFER, {"id": payout_id})).one_or_none()
    if payout is None or payout.converted:
        return 0
    taken = 0
    for reversal in await payments.find_reversals(payout.transfer_id):
        async with db.reading(SYSTEM) as session:
            ours = await _recovery_of(session, reversal)
        if ours is None:
            taken += await _adopt(db, payout, reversal, clock.now())
        else:
            taken += await _settle(db, ours, reversal.id, payments, clock.now())
    return taken


async def _recovery_of(session: AsyncSession, reversal: TransferReversal) -> Any:
    """The recovery that asked for it; None when nobody of ours did."""
    try:
        recovery_id = RecoveryId.parse(reversal.metadata.get("recovery", ""))
    except MalformedId:
        return None
    return (await session.execute(_RECOVERY, {"id": recovery_id})).one_or_none()


async def _adopt(db: Database, payout: Any, reversal: TransferReversal, now: datetime) -> int:
    """Minor units booked; 0 when it was known. The party's accounts are the lock: two notices are one reversal."""
    party, currency, tenant = payout.payee_id, payout.currency, _tenant(payout.tenant_id)
    accounts = [party_account(code, party, currency, tenant) for code in (Code.RECEIVABLE, Code.AVAILABLE)]
    async with db.unit_of_work(SYSTEM) as session:
        await ledger.hold(session, accounts)
        if (await session.execute(_KNOWN, {"reversal_id": reversal.id})).scalar_one():
            return 0
        values = {
            "id": RecoveryId.new(), "payout_id": PayoutId.of(payout.id), "payee_id": party,
            "tenant_id": payout.tenant_id, "currency": currency, "transfer_id": payout.transfer_id,
            "amount": reversal.amount_minor, "created_at": reversal.created_at, "now": now,
            "reversal_id": reversal.id,
        }  # fmt: skip
        await session.execute(_ADOPT, values)
        await record_reversal(
            session, PayoutId.of(payout.id), party, currency, reversal.amount_minor, reversal_id=reversal.id,
            now=now, provider=payout.provider, tenant_id=tenant,
        )  # fmt: skip
    return reversal.amount_minor


async def _resolve(db: Database, row: Any, *, payments: PaymentGateway, clock: Clock) -> int | None:
    ours = str(RecoveryId.of(row.id))
    for reversal in await payments.find_reversals(row.transfer_id):
        if reversal.metadata.get("recovery") == ours:
            return await _settle(db, row, reversal.id, payments, clock.now())
    age = clock.now() - row.first_sent_at
    if age >= timedelta(hours=payments.capabilities().idempotency_hours) or row.tries > EQUAL_ANSWERS:
        async with db.unit_of_work(SYSTEM) as session:
            row = (await session.execute(_NEW_KEY, {"id": row.id, "now": clock.now()})).one()
    return await _send(db, row, payments=payments, clock=clock)


async def _plan(db: Database, party: str, currency: str, provider: str, now: datetime) -> Any:
    """The next reversal, written down before it is asked for; None when nothing is owed or left to take."""
    async with db.unit_of_work(SYSTEM) as session:
        where = {"payee_id": party, "currency": currency, "provider": provider}
        payout = (await session.execute(_PAYOUT, where)).one_or_none()
        if payout is None:
            return None
        account = party_account(Code.RECEIVABLE, party, currency, _tenant(payout.tenant_id))
        owed = (await ledger.hold(session, [account]))[account]
        amount = min(owed, payout.left_minor)
        if amount <= 0:
            return None
        values = {
            "id": RecoveryId.new(), "payout_id": PayoutId.of(payout.id), "payee_id": party,
            "tenant_id": payout.tenant_id, "currency": currency, "transfer_id": payout.transfer_id,
            "amount": amount, "now": now, "wait": LOOK_UP_AFTER,
        }  # fmt: skip
        return (await session.execute(_INSERT, values)).one_or_none()


async def _send(db: Database, row: Any, *, payments: PaymentGateway, clock: Clock) -> int | None:
    """Minor units recovered; None when the provider refused."""
    ours = RecoveryId.of(row.id)
    key = f"recover:{ours}" if row.attempt == 1 else f"recover:{ours}:a{row.attempt}"
    try:
        reversal = await payments.reverse_transfer(
            row.transfer_id, amount_minor=row.amount_minor, key=key, metadata={"recovery": str(ours)}
        )
    except ProviderRefused as refused:
        await _refuse(db, row, refused.provider_code or refused.message, clock.now())
        return None
    return await _settle(db, row, reversal.id, payments, clock.now())


async def _settle(db: Database, row: Any, reversal_id: str, payments: PaymentGateway, now: datetime) -> int:
    async with db.unit_of_work(SYSTEM) as session:
        locked = (await session.execute(_LOCK, {"id": row.id})).one()
        if locked.status != "sending":
            return 0
        await record_reversal(
            session, PayoutId.of(row.payout_id), row.payee_id, row.currency, row.amount_minor,
            reversal_id=reversal_id, now=now, provider=payments.capabilities().name,
            tenant_id=_tenant(row.tenant_id),
        )  # fmt: skip
        values = {"id": row.id, "status": "done", "reversal_id": reversal_id, "failure": None, "now": now}
        await session.execute(_END, values)
    return int(row.amount_minor)


async def _refuse(db: Database, row: Any, why: str, now: datetime) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        locked = (await session.execute(_LOCK, {"id": row.id})).one()
        if locked.status == "sending":
            values = {"id": row.id, "status": "refused", "reversal_id": None, "failure": why, "now": now}
            await session.execute(_END, values)


async def record_reversal(
    session: AsyncSession, payout_id: PayoutId, party: str, currency: str, amount_minor: int,
    *, reversal_id: str, now: datetime, provider: str = "stripe", tenant_id: TenantId | None = None,
) -> None:  # fmt: skip
    """The provider took ``amount_minor`` of a transfer back; call it once per reversal.

    What the party has paid off by its earnings since the reversal was asked for is available to it again.
    """
    owed = party_account(Code.RECEIVABLE, party, currency, tenant_id)
    available = party_account(Code.AVAILABLE, party, currency, tenant_id)
    held = await ledger.hold(session, [owed, available])
    paid_off = max(amount_minor - held[owed], 0)
    legs = merged(
        [
            debit(provider_account(Code.PROVIDER_AVAILABLE, provider, currency), amount_minor),
            credit(owed, amount_minor - paid_off),
            credit(available, paid_off),
        ]
    )
    journal = Journal(f"reversal:{reversal_id}", Kind.REVERSAL, legs, now, None, reversal_id)
    await ledger.post(session, journal, now=now)
    await session.execute(_REVERSED, {"id": payout_id, "amount": amount_minor})


def _tenant(value: Any) -> TenantId | None:
    return TenantId.of(value) if value else None
