"""R7b: what parties owe comes out of their next earnings. R7a is in reversing.py, R7c in writing_off.py."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from core.ids import TenantId
from supply.ledger import service as ledger
from supply.ledger.chart import Code
from supply.ledger.journal import Journal, credit, debit
from supply.settlement.kinds import Kind
from supply.settlement.parties import party_account


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
