"""R15e, R15f: a party's bank takes back what the party paid of its debt (R15d).

The bank gives the money to the party at once, whatever it decides later; so the party owes it again at once, and the
provider's fee with it: nobody else had a part in that payment. Commission that was counted as come by it and is not
released yet waits again; what was released is the payees'. Lost, nothing is left to do. Won, the payment stands: what
the party owes is paid off, and what it paid twice meanwhile is available to it, as for any payment of a debt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import TenantId
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, Leg, credit, debit, merged
from supply.settlement.at_source import covering
from supply.settlement.disputes.posting import Fee, provider_legs
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account

_PAYER = text("SELECT payee_id, tenant_id FROM debt_payments WHERE charge_id = :charge_id")


@dataclass(frozen=True, slots=True)
class Payer:
    """Who paid its debt by the charge of a dispute."""

    dispute_id: str
    provider: str
    payee_id: str
    tenant_id: TenantId


async def payer_of(session: AsyncSession, dispute_id: str, charge_id: str, provider: str) -> Payer | None:
    """None when the charge paid no debt."""
    row = (await session.execute(_PAYER, {"charge_id": charge_id})).one_or_none()
    if row is None:
        return None
    return Payer(dispute_id, provider, row.payee_id, TenantId.of(row.tenant_id))


async def owe_again(
    session: AsyncSession, payer: Payer, currency: str, amount_minor: int, fee: Fee, *, now: datetime
) -> None:
    """R15e: the bank withdrew ``amount_minor`` of ``currency``, and the provider its fee."""
    owes = await _lock(session, payer, currency, fee.currency)
    legs = [
        *_taken(payer, currency, amount_minor),
        *_taken(payer, fee.currency, fee.amount_minor),
    ]
    await _post(session, payer, "withdrawn", Kind.DISPUTE_DEBT_OWED, legs, now)
    await covering.take_back(session, payer.payee_id, currency, amount_minor, owed_minor=owes)


async def stand(
    session: AsyncSession, payer: Payer, currency: str, amount_minor: int, *, now: datetime
) -> None:
    """R15f: the bank gave ``amount_minor`` of ``currency`` back to us."""
    legs = await _paid(session, payer, currency, amount_minor)
    await _post(session, payer, "won", Kind.DISPUTE_DEBT_PAID, legs, now)
    await covering.give_back(session, payer.payee_id, currency, amount_minor)


async def book_fee(session: AsyncSession, payer: Payer, more: Fee, fee_minor: int, *, now: datetime) -> None:
    """A fee that came, or went back (``more`` below zero), after the withdrawal; ``fee_minor`` in all."""
    if more.amount_minor > 0:
        await _lock(session, payer, more.currency)
        legs, kind = _taken(payer, more.currency, more.amount_minor), Kind.DISPUTE_DEBT_OWED
    else:
        legs = await _paid(session, payer, more.currency, -more.amount_minor)
        kind = Kind.DISPUTE_DEBT_PAID
    await _post(session, payer, f"fee:{fee_minor}", kind, legs, now)


def _taken(payer: Payer, currency: str, amount_minor: int) -> list[Leg]:
    owed = party_account(Code.RECEIVABLE, payer.payee_id, currency, payer.tenant_id)
    return [debit(owed, amount_minor), *provider_legs(payer.provider, currency, -amount_minor)]


async def _paid(session: AsyncSession, payer: Payer, currency: str, amount_minor: int) -> list[Leg]:
    owes = await _lock(session, payer, currency)
    covered = min(owes, amount_minor)
    party = payer.payee_id, currency, payer.tenant_id
    return [
        *provider_legs(payer.provider, currency, amount_minor),
        credit(party_account(Code.RECEIVABLE, *party), covered),
        credit(party_account(Code.AVAILABLE, *party), amount_minor - covered),
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
    key = f"dispute:{payer.dispute_id}:{step}"
    journal = Journal(key, kind, merged(legs), now, None, payer.dispute_id)
    await ledger.post(session, journal, now=now)
