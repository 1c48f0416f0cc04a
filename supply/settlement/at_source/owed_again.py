"""R15e, R15f: what a party paid of its debt (R15d) goes back to it, and perhaps comes again after all.

Its bank takes the payment back, or somebody refunds it at the provider. Either way the party has its money, whatever is
decided later; so it owes it again at once, and the provider's fee with it: nobody else had a part in that payment.
Commission that was counted as come by it and is not released yet waits again; what was released is the payees'. Should
the money come again (a dispute that is won, a refund that fails), the payment stands: what the party owes is paid off,
and what it paid twice meanwhile is available to it, as for any payment of a debt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import TenantId
from core.money import Money
from supply.ledger import queries
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, Leg, credit, debit, merged
from supply.settlement.at_source import covering
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account, provider_account

_PAYER = text("SELECT payee_id, tenant_id FROM debt_payments WHERE charge_id = :charge_id FOR UPDATE")


@dataclass(frozen=True, slots=True)
class Payer:
    """Who paid its debt by a charge that goes back. ``key`` begins the journals' keys, ``reference`` is the provider's
    name of what takes it back."""

    key: str
    reference: str
    provider: str
    payee_id: str
    tenant_id: TenantId


async def payer_of(
    session: AsyncSession, charge_id: str, *, key: str, reference: str, provider: str
) -> Payer | None:
    """None when the charge paid no debt; its payment is locked."""
    row = (await session.execute(_PAYER, {"charge_id": charge_id})).one_or_none()
    if row is None:
        return None
    return Payer(key, reference, provider, row.payee_id, TenantId.of(row.tenant_id))


async def owe_again(
    session: AsyncSession, payer: Payer, step: str, amount: Money, fee: Money | None = None, *, now: datetime
) -> None:
    """R15e: ``amount`` of the payment went back, and the provider took its fee."""
    gone = [amount] if fee is None else [amount, fee]
    owes = await _lock(session, payer, *(each.currency for each in gone))
    legs = [leg for each in gone for leg in _taken(payer, each)]
    await _post(session, payer, step, Kind.DEBT_OWED_AGAIN, legs, now)
    await covering.take_back(session, payer.payee_id, amount.currency, amount.amount_minor, owed_minor=owes)


async def stand(session: AsyncSession, payer: Payer, step: str, amount: Money, *, now: datetime) -> None:
    """R15f: ``amount`` of the payment came again."""
    await _post(session, payer, step, Kind.DEBT_PAID_AGAIN, await _paid(session, payer, amount), now)
    await covering.give_back(session, payer.payee_id, amount.currency, amount.amount_minor)


async def book_fee(session: AsyncSession, payer: Payer, step: str, more: Money, *, now: datetime) -> None:
    """A fee that came, or went back (below zero), after the payment had gone."""
    if more.amount_minor > 0:
        await _lock(session, payer, more.currency)
        legs, kind = _taken(payer, more), Kind.DEBT_OWED_AGAIN
    else:
        legs, kind = await _paid(session, payer, -more), Kind.DEBT_PAID_AGAIN
    await _post(session, payer, step, kind, legs, now)


async def book_refund(
    session: AsyncSession,
    charge_id: str,
    amount: Money,
    *,
    refund_ref: str,
    failed: bool,
    now: datetime,
    provider: str = "stripe",
) -> bool:
    """A refund of a debt's payment at the provider, whose money has left; ``failed``: and came back. Again: nothing.

    False when the charge paid no debt.
    """
    payer = await payer_of(
        session,
        charge_id,
        key=f"debtpay:{charge_id}:refund:{refund_ref}",
        reference=refund_ref,
        provider=provider,
    )
    if payer is None:
        return False
    posted = await queries.posted_keys(session, [f"{payer.key}:{step}" for step in ("went", "void")])
    if f"{payer.key}:went" not in posted:
        await owe_again(session, payer, "went", amount, now=now)
    if failed and f"{payer.key}:void" not in posted:
        await stand(session, payer, "void", amount, now=now)
    return True


def _taken(payer: Payer, amount: Money) -> list[Leg]:
    owed = party_account(Code.RECEIVABLE, payer.payee_id, amount.currency, payer.tenant_id)
    available = provider_account(Code.PROVIDER_AVAILABLE, payer.provider, amount.currency)
    return [debit(owed, amount.amount_minor), credit(available, amount.amount_minor)]


async def _paid(session: AsyncSession, payer: Payer, amount: Money) -> list[Leg]:
    covered = min(await _lock(session, payer, amount.currency), amount.amount_minor)
    party = payer.payee_id, amount.currency, payer.tenant_id
    return [
        debit(
            provider_account(Code.PROVIDER_AVAILABLE, payer.provider, amount.currency), amount.amount_minor
        ),
        credit(party_account(Code.RECEIVABLE, *party), covered),
        credit(party_account(Code.AVAILABLE, *party), amount.amount_minor - covered),
    ]


async def _lock(session: AsyncSession, payer: Payer, *currencies: str) -> int:
    """What the payer owes in the first of ``currencies``."""
    accounts = [
        party_account(code, payer.payee_id, currency, payer.tenant_id)
        for currency in currencies
        for code in (Code.RECEIVABLE, Code.AVAILABLE)
    ]
    return (await ledger.hold(session, accounts))[accounts[0]]


async def _post(
    session: AsyncSession, payer: Payer, step: str, kind: Kind, legs: Sequence[Leg], now: datetime
) -> None:
    journal = Journal(f"{payer.key}:{step}", kind, merged(legs), now, None, payer.reference)
    await ledger.post(session, journal, now=now)
