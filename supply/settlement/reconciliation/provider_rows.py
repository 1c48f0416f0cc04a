"""What a rail must tell so that its book can be compared with ours.

Stripe has balance transactions and a balance. A rail that sends a bill file each day and keeps no balance of
ours implements the same port: its bill's lines as rows, ``balance`` None, and ``collect_ours`` of what we
instructed instead of what we posted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from infra.payments.gateway import Balance, BalanceTransaction, PaymentGateway, Payout
from supply.settlement.reconciliation.postings import collect_postings

Row = BalanceTransaction
"""``net = amount - fee``, signed from our side; ``source_id`` is what the row is about."""


class ProviderRows(Protocol):
    @property
    def name(self) -> str: ...

    def rows(self, since: datetime | None, until: datetime) -> AsyncIterator[Row]:
        """Everything created in ``[since, until)``, in any order; the same row again is welcome."""
        ...

    async def balance(self) -> Balance | None:
        """None where the rail holds no money of ours."""
        ...

    def automatic_payouts(self, since: datetime | None) -> AsyncIterator[tuple[Payout, list[Row]]]:
        """Payouts by the rail's own schedule with the rows that make them up."""
        ...

    async def collect_ours(self, session: AsyncSession) -> int:
        """Put our side of the rail into ``psp_postings``. How many were new."""
        ...


class GatewayRows:
    """The balance transactions of a payment gateway."""

    def __init__(self, payments: PaymentGateway) -> None:
        self._payments = payments

    @property
    def name(self) -> str:
        return self._payments.capabilities().name

    def rows(self, since: datetime | None, until: datetime) -> AsyncIterator[Row]:
        return self._payments.balance_transactions(created_from=since, created_to=until)

    async def balance(self) -> Balance | None:
        return await self._payments.balance()

    async def automatic_payouts(self, since: datetime | None) -> AsyncIterator[tuple[Payout, list[Row]]]:
        async for payout in self._payments.payouts(created_from=since):
            if payout.automatic and payout.reconciled:
                listed = [row async for row in self._payments.balance_transactions(payout=payout.id)]
                yield payout, [row for row in listed if row.source_id != payout.id]

    async def collect_ours(self, session: AsyncSession) -> int:
        return await collect_postings(session, self.name)
