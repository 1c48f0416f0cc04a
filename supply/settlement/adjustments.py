"""A correction between two parties: a journal with its reason and who approved it, in the next statement."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import TenantId
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit, merged
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account


async def adjust(
    session: AsyncSession,
    *,
    debtor: str,
    creditor: str,
    currency: str,
    amount_minor: int,
    reference: str,
    reason: str,
    approved_by: str,
    now: datetime,
    debtor_tenant: TenantId | None = None,
    creditor_tenant: TenantId | None = None,
) -> None:
    """Move ``amount_minor`` from one party to another: of what it has available, the rest it owes (1100).

    Once per ``reference``. Raises ``ValueError`` for an amount that is not above zero.
    """
    if amount_minor <= 0:
        raise ValueError("an adjustment moves more than nothing")
    available = party_account(Code.AVAILABLE, debtor, currency, debtor_tenant)
    owed = party_account(Code.RECEIVABLE, debtor, currency, debtor_tenant)
    earned = party_account(Code.AVAILABLE, creditor, currency, creditor_tenant)
    held = await ledger.hold(session, [available, owed, earned])
    here = min(held[available], amount_minor)
    legs = [debit(available, here), debit(owed, amount_minor - here), credit(earned, amount_minor)]
    journal = Journal(
        f"adjust:{reference}", Kind.ADJUSTED, merged(legs), now, memo=f"{reason} ({approved_by})"
    )
    await ledger.post(session, journal, now=now)
