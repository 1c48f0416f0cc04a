"""R7a to R7c: what parties owe comes back by reversals, out of their next earnings, or is given up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.actor import SYSTEM
from core.clock import Clock
from core.ids import PayoutId, TenantId
from infra.db.session import Database
from infra.payments.gateway import PaymentGateway
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account, platform_account, provider_account

_OWING = text(
    "SELECT balance_minor FROM ledger_balances_now WHERE code = 1100 AND owner = :owner"
    " AND currency = :currency"
)
_PAID = text(
    "SELECT id, transfer_id, amount_minor - reversed_minor AS left_minor FROM payouts WHERE payee_id = :payee_id"
    " AND currency = :currency AND status = 'paid' AND reversed_minor < amount_minor ORDER BY created_at DESC"
)
_REVERSED = text("UPDATE payouts SET reversed_minor = reversed_minor + :amount WHERE id = :id")


async def net_receivables(
    session: AsyncSession, cycle: str, parties: Sequence[tuple[str, str, TenantId | None]], *, now: datetime
) -> int:
    """R7b: what (party, currency) owe is set off against what they have available. Minor units netted.

    Once per cycle and party.
    """
    accounts = [
        party_account(code, party, currency, tenant)
        for party, currency, tenant in parties
        for code in (Code.AVAILABLE, Code.RECEIVABLE)
    ]
    held = await ledger.hold(session, accounts)
    journals = []
    for party, currency, tenant in parties:
        available = party_account(Code.AVAILABLE, party, currency, tenant)
        owed = party_account(Code.RECEIVABLE, party, currency, tenant)
        amount = min(held[available], held[owed])
        if amount:
            key = f"net:{cycle}:{party}:{currency}"
            legs = (debit(available, amount), credit(owed, amount))
            journals.append(Journal(key, Kind.NETTING, legs, now))
    await ledger.post_together(session, journals, now=now)
    return sum(journal.legs[0].amount_minor for journal in journals)


async def record_reversal(
    session: AsyncSession, payout_id: PayoutId, party: str, currency: str, amount_minor: int,
    *, reversal_id: str, now: datetime, provider: str = "stripe", tenant_id: TenantId | None = None,
) -> None:  # fmt: skip
    """R7a: the provider took ``amount_minor`` of a transfer back. Once per ``reversal_id``."""
    legs = (
        debit(provider_account(Code.PROVIDER_AVAILABLE, provider, currency), amount_minor),
        credit(party_account(Code.RECEIVABLE, party, currency, tenant_id), amount_minor),
    )
    journal = Journal(f"reversal:{reversal_id}", Kind.REVERSAL, legs, now, None, reversal_id)
    (outcome,) = await ledger.post_many(session, [journal], now=now)
    if outcome.error is not None:
        raise outcome.error
    if not outcome.replayed:
        await session.execute(_REVERSED, {"id": payout_id, "amount": amount_minor})


async def reverse_transfers(
    db: Database, party: str, currency: str, *, payments: PaymentGateway, clock: Clock
) -> int:
    """Take back what a party owes from the transfers it got, newest first. Minor units recovered.

    Raises what the gateway raises; what was recovered before stays recorded, and a repeat goes on.
    """
    async with db.reading(SYSTEM) as session:
        where = {"owner": f"party:{party}", "currency": currency}
        owed = int((await session.execute(_OWING, where)).scalar_one_or_none() or 0)
        paid = (await session.execute(_PAID, {"payee_id": party, "currency": currency})).all()
    recovered = 0
    for row in paid:
        amount = min(owed - recovered, row.left_minor)
        if amount <= 0:
            break
        # The key names what is left, so that a repeat after a lost answer is the same call.
        key = f"reverse:{row.transfer_id}:{row.left_minor}:{amount}"
        reversal = await payments.reverse_transfer(row.transfer_id, amount_minor=amount, key=key)
        async with db.unit_of_work(SYSTEM) as session:
            await record_reversal(
                session, PayoutId.of(row.id), party, currency, amount, reversal_id=reversal.id,
                now=clock.now(), provider=payments.capabilities().name,
            )  # fmt: skip
        recovered += amount
    return recovered


async def write_off(
    session: AsyncSession,
    party: str,
    currency: str,
    amount_minor: int,
    *,
    reference: str,
    reason: str,
    now: datetime,
) -> None:
    """R7c: give up what a party owes. Raises ``Overdraft`` for more than it owes."""
    legs = (
        debit(platform_account(Code.BAD_DEBT, currency), amount_minor),
        credit(party_account(Code.RECEIVABLE, party, currency), amount_minor),
    )
    journal = Journal(f"writeoff:{reference}", Kind.WRITE_OFF, legs, now, memo=reason)
    await ledger.post(session, journal, now=now)
