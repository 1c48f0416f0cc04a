"""R8b to R8d: payouts go to the provider and are settled or voided by what it answers.

Every transfer has a group of its own (``payout:<id>``), so that a look-up by group says whether it happened. What
is not known stays reserved until a look-up, or the provider's notice, has said what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import MalformedId, PayoutBatchId, PayoutId
from infra.db.session import Database
from infra.payments.errors import IdempotencyMismatch, ProviderRefused, ProviderUnavailable
from infra.payments.gateway import PaymentGateway, Transfer
from supply.settlement.payout_costs import cost_of
from supply.settlement.payouts import settle_payout, void_payout

PAYOUTS_AT_ONCE = 50
LOOK_UP_AFTER = timedelta(minutes=10)
"""An unanswered transfer is looked up when it is this old; later tries wait longer each time."""
EQUAL_ANSWERS = 3
"""A provider that stored a failure under a key replays it: after so many tries a new key is due."""
UNFUNDED_WAIT = timedelta(minutes=5)
AWAITING_FUNDS = "awaiting_funds"

# Two senders must not count the same money: they choose one after the other.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtextextended('payout funds', 1010))")
_RESERVED = text(
    "SELECT id, provider, currency, amount_minor FROM payouts WHERE status = 'reserved' AND next_try_at <= :now"
    " ORDER BY created_at, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED"
)
# What the provider has of ours in a currency (1010), less what is on its way already. Where money of a currency is
# kept in another one (6000), only the provider knows what it is worth: it decides.
_FUNDS = text(
    "SELECT f.provider, f.currency, coalesce((SELECT sum(n.balance_minor) FROM ledger_balances_now n"
    "  WHERE n.code = 1010 AND n.owner = 'psp:' || f.provider AND n.currency = f.currency), 0)::bigint"
    " - coalesce((SELECT sum(p.amount_minor) FROM payouts p WHERE p.status = 'sending' AND p.provider = f.provider"
    "  AND p.currency = f.currency), 0)::bigint AS free_minor,"
    " EXISTS (SELECT FROM ledger_balances_now n WHERE n.code = 6000 AND n.currency = f.currency"
    "  AND n.owner = 'fx:' || f.currency"
    "  AND n.balance_minor <> 0) AS converted"
    " FROM unnest(CAST(:providers AS text[]), CAST(:currencies AS bpchar[])) AS f (provider, currency)"
)
_WAIT = text(
    "UPDATE payouts SET failure = :why, next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval)"
    " WHERE id = ANY(:ids)"
)
_SENDING = text(
    "WITH claimed AS (UPDATE payouts SET status = 'sending', tries = tries + 1, failure = NULL,"
    " first_sent_at = coalesce(first_sent_at, :now),"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * (tries + 1) WHERE id = ANY(:ids)"
    " RETURNING *) SELECT * FROM claimed ORDER BY created_at, id"
)
_UNKNOWN = text(
    "WITH claimed AS (UPDATE payouts SET tries = tries + 1,"
    " next_try_at = CAST(:now AS timestamptz) + CAST(:wait AS interval) * (tries + 1)"
    " WHERE id IN (SELECT id FROM payouts WHERE status = 'sending' AND next_try_at <= :now"
    " ORDER BY created_at, id LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED) RETURNING *)"
    " SELECT * FROM claimed ORDER BY created_at, id"
)
_LOCK = text("SELECT * FROM payouts WHERE id = :id FOR NO KEY UPDATE")
_NEW_KEY = text(
    "UPDATE payouts SET attempt = attempt + 1, tries = 0, first_sent_at = :now WHERE id = :id RETURNING *"
)


async def send_payouts(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: send what is reserved and funded, some at a time. Returns how many were tried.

    What our available balance at the provider (1010) does not cover stays reserved and is looked at again later.
    """
    payouts = await _claim(db, clock.now())
    for payout in payouts:
        await _send(db, payout, payments=payments, clock=clock)
    return len(payouts)


async def resolve_payouts(db: Database, *, payments: PaymentGateway, clock: Clock) -> int:
    """Sweep: look up transfers whose outcome is unknown, and send again those that did not happen.

    The same key goes out again as long as the provider remembers it and does not keep replaying a failure;
    then, and only after the look-up found nothing, a new one.
    """
    where = {"now": clock.now(), "wait": LOOK_UP_AFTER, "limit": PAYOUTS_AT_ONCE}
    async with db.unit_of_work(SYSTEM) as session:
        payouts = list((await session.execute(_UNKNOWN, where)).all())
    for payout in payouts:
        try:
            transfers = await payments.find_transfers(transfer_group(payout.id))
        except ProviderUnavailable:
            continue
        done = next((t for t in transfers if t.destination == payout.account_id), None)
        if done is not None:
            await _settle(db, payout.id, done, clock=clock)
        else:
            again = await _with_fresh_key(db, payout, payments, clock.now())
            await _send(db, again, payments=payments, clock=clock)
    return len(payouts)


async def take_transfer(
    db: Database, transfer_id: str, *, payments: PaymentGateway, clock: Clock
) -> PayoutId | None:
    """A notice named a transfer: settle the payout it is of, when that is still open. None when it is of none.

    Raises what the gateway raises.
    """
    transfer = await payments.retrieve_transfer(transfer_id)
    try:
        payout_id = PayoutId.parse(transfer.metadata.get("payout", ""))
    except MalformedId:
        return None
    async with db.unit_of_work(SYSTEM) as session:
        payout = (await session.execute(_LOCK, {"id": payout_id})).one_or_none()
        if payout is None or payout.account_id != transfer.destination:
            return None
        if payout.status in ("reserved", "sending"):
            await settle_payout(session, payout_id, transfer.id, now=clock.now())
    return payout_id


def transfer_group(payout_id: Any) -> str:
    return f"payout:{PayoutId.of(payout_id)}"


def transfer_key(payout: Any) -> str:
    key = f"payout:{PayoutBatchId.of(payout.batch_id)}:{payout.payee_id}:{payout.currency}"
    return key if payout.attempt == 1 else f"{key}:a{payout.attempt}"


async def _claim(db: Database, now: datetime) -> list[Any]:
    """Reserved payouts become ``sending``, oldest first, as far as there is money for them."""
    async with db.unit_of_work(SYSTEM) as session:
        await session.execute(_ONE_AT_A_TIME)
        rows = (await session.execute(_RESERVED, {"now": now, "limit": PAYOUTS_AT_ONCE})).all()
        if not rows:
            return []
        funded = await _funded(session, rows)
        waiting = [row.id for row in rows if row.id not in funded]
        if waiting:
            values = {"ids": waiting, "why": AWAITING_FUNDS, "now": now, "wait": UNFUNDED_WAIT}
            await session.execute(_WAIT, values)
        values = {"ids": list(funded), "now": now, "wait": LOOK_UP_AFTER}
        return list((await session.execute(_SENDING, values)).all())


async def _funded(session: AsyncSession, rows: Sequence[Any]) -> set[Any]:
    kinds = sorted({(row.provider, row.currency) for row in rows})
    asked = {"providers": [p for p, _ in kinds], "currencies": [c for _, c in kinds]}
    found = (await session.execute(_FUNDS, asked)).all()
    free = {(f.provider, f.currency): None if f.converted else f.free_minor for f in found}
    funded = set()
    for row in rows:
        left = free[row.provider, row.currency]
        if left is None:
            funded.add(row.id)
        elif row.amount_minor <= left:
            free[row.provider, row.currency] = left - row.amount_minor
            funded.add(row.id)
    return funded


async def _with_fresh_key(db: Database, payout: Any, payments: PaymentGateway, now: datetime) -> Any:
    age = now - payout.first_sent_at
    forgotten = age >= timedelta(hours=payments.capabilities().idempotency_hours)
    if not forgotten and payout.tries <= EQUAL_ANSWERS:
        return payout
    async with db.unit_of_work(SYSTEM) as session:
        return (await session.execute(_NEW_KEY, {"id": payout.id, "now": now})).one()


async def _send(db: Database, payout: Any, *, payments: PaymentGateway, clock: Clock) -> None:
    payout_id = PayoutId.of(payout.id)
    cost = await cost_of(db, payout)
    try:
        transfer = await payments.transfer(
            destination=payout.account_id,
            amount_minor=cost.amount_minor,
            currency=cost.currency,
            key=transfer_key(payout),
            transfer_group=transfer_group(payout_id),
            metadata={"payout": str(payout_id), "party": payout.payee_id},
        )
    except ProviderRefused as refusal:
        async with db.unit_of_work(SYSTEM) as session:
            reason = refusal.provider_code or refusal.message
            await void_payout(session, payout_id, reason, now=clock.now())
    except (ProviderUnavailable, IdempotencyMismatch):
        return  # not known, or a bug of ours: it stays reserved until a look-up settles it
    else:
        await _settle(db, payout_id, transfer, clock=clock)


async def _settle(db: Database, payout_id: Any, transfer: Transfer, *, clock: Clock) -> None:
    async with db.unit_of_work(SYSTEM) as session:
        await settle_payout(session, PayoutId.of(payout_id), transfer.id, now=clock.now())
